//! Keys of Python objects.

/// Key of the maps of Python objects of a target: code objects in `CODES`, requests in `FLOWS`,
/// connections in `CLIENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectKey {
    pub address: u64,
    pub tgid: u32,
    pub reserved: u32,
}
const _: () = assert!(size_of::<ObjectKey>() == 16);
