//! An exec of any process.

use super::{Header, NAME_BYTES};

/// A process began another program. The programs send it for every process of the host, so that
/// the observer finds masters that start later.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecRecord {
    pub header: Header,
    /// 1 if the process was a target until now.
    pub was_target: u32,
    pub reserved: u32,
    /// The new command name (`comm`).
    pub comm: [u8; NAME_BYTES],
}
const _: () = assert!(size_of::<ExecRecord>() == 40);
