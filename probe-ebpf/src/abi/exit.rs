//! The exit of a target.

use super::Header;

/// The last thread of a target exited.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExitRecord {
    pub header: Header,
    /// As `wait(2)` reports it: exit code << 8 | signal.
    pub wait_status: u32,
    pub reserved: u32,
}
const _: () = assert!(size_of::<ExitRecord>() == 24);
