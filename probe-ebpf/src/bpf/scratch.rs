//! Scratch space of a thread, too large for the stack.

use probe_ebpf::http::{ResponseHead, Window};

/// User memory about to be written: address and length.
pub type Piece = (u64, u64);

/// A write that is about to happen.
#[derive(Clone, Copy)]
pub struct Write {
    pub first: Piece,
    pub last: Piece,
    /// Bytes of all its pieces; 0 when there are too many pieces to add up.
    pub total: u64,
}

/// What a thread parses.
#[repr(C)]
pub struct Scratch {
    /// A piece of a message.
    pub window: Window,
    /// The parsed head of a response.
    pub head: ResponseHead,
    /// A write that may begin a response.
    pub write: Write,
}
