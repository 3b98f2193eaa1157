//! A thread of a target.

use crate::python::fields::Shape;

/// Value of the `THREADS` map, keyed by tgid << 32 | tid.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// [`super::Target::generation`] of its process.
    pub generation: u64,
    /// The connection it read last; 0 for none.
    pub last_read: u64,
    /// The connection whose request it serves; 0 for none.
    pub serving: u64,
    /// Its `PyThreadState`; 0 while unknown.
    pub tstate: u64,
    /// Where attributes are that are read seldom.
    pub shape: Shape,
    /// Space for a frame, a thread state or an object: too large for the stack.
    pub words: [u64; WORDS],
}
const _: () = assert!(size_of::<Thread>() == 32 + size_of::<Shape>() + WORDS * 8);

/// Words of [`Thread::words`].
pub const WORDS: usize = 64;

/// Value of the `CALLS` map, keyed by tgid << 32 | tid: the system call a thread is in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The connection, a `struct sock`.
    pub sock: u64,
    /// User address of the bytes.
    pub buffer: u64,
}
const _: () = assert!(size_of::<Call>() == 16);
