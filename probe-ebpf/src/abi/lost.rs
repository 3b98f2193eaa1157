//! Connections that ended without an answer.

use super::{Header, RecordKind};

/// Where connections were when they were closed, or their worker exited.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostFrom {
    /// Established; no process had accepted them when their listener was closed.
    Backlog = 1,
    /// Accepted, but nothing of what the client had sent was read.
    Accepted = 2,
    /// A request, or a part of it, was read and did not reach the application.
    Read = 3,
}

/// Connections that were closed without an answer though their client waited for one.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LostRecord {
    pub header: Header,
    /// A [`LostFrom`].
    pub from: u32,
    pub count: u32,
}
const _: () = assert!(size_of::<LostRecord>() == 24);

impl LostRecord {
    /// Of requests that were being read when their process exited.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a record is small")]
    pub fn of_exit(tgid: u32, time_ns: u64, count: u32) -> Self {
        Self {
            header: Header {
                kind: RecordKind::Lost as u16,
                len: size_of::<Self>() as u16,
                tgid,
                time_ns,
            },
            from: LostFrom::Read as u32,
            count,
        }
    }
}
