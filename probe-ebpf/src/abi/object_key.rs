//! Keys of objects of a process.

/// Key of what belongs to one process: sockets in `CONNS`, and Python objects, code in `CODES` and
/// connections in `CLIENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectKey {
    pub address: u64,
    pub tgid: u32,
    pub reserved: u32,
}
const _: () = assert!(size_of::<ObjectKey>() == 16);

impl ObjectKey {
    /// The key of an object at this address in the process `tgid`.
    #[inline(always)]
    #[must_use]
    pub fn new(tgid: u32, address: u64) -> Self {
        Self {
            address,
            tgid,
            reserved: 0,
        }
    }
}
