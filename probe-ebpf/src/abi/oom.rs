//! An OOM kill of a target.

use super::Header;

/// The OOM killer chose a target.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OomRecord {
    pub header: Header,
}
const _: () = assert!(size_of::<OomRecord>() == 16);
