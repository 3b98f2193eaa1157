//! A fork of a target.

use super::Header;

/// A target forked.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ForkRecord {
    /// `tgid` is the parent.
    pub header: Header,
    /// Pid of the new process.
    pub child: u32,
    pub reserved: u32,
}
const _: () = assert!(size_of::<ForkRecord>() == 24);
