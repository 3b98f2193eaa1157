//! A connection and the request on it.

use super::HEAD_BYTES;
use crate::http::HeadScan;

/// Key of the `CONNS` map: an accepted connection of a target.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnKey {
    pub tgid: u32,
    pub fd: i32,
}
const _: () = assert!(size_of::<ConnKey>() == 8);

/// How far the request of a connection is.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No byte of the next request was read.
    Idle = 0,
    /// The worker reads its head.
    Reading = 1,
    /// It entered the application.
    Entered = 2,
    /// Gunicorn refused it.
    Refused = 3,
}

/// Bytes of slack after a head, so that a bounded copy at any offset stays inside.
pub const HEAD_SLACK: usize = 64;

/// Value of the `CONNS` map: a connection and the request on it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Conn {
    /// [`super::Target::generation`] of its process.
    pub generation: u64,
    pub established_ns: u64,
    pub accepted_ns: u64,
    pub first_read_ns: u64,
    pub first_write_ns: u64,
    pub last_write_ns: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Key of the exception for which Gunicorn refused the request; 0 for none.
    pub refused_ns: u64,
    /// The request object it serves: key into `FLOWS`; 0 for none.
    pub request: u64,
    /// The Python object of the connection: key into `CLIENTS`; 0 when unknown.
    pub client: u64,
    pub request_scan: HeadScan,
    /// Bytes of the complete response, as its head announces; [`crate::http::CHUNKED`] until its
    /// last chunk, 0 when unknown. Kept only for a request that Python was not seen to enter.
    pub response_end: u64,
    pub request_head_bytes: u32,
    pub response_head_bytes: u32,
    pub ordinal: u32,
    pub line_len: u32,
    pub status: u16,
    /// A [`Phase`].
    pub phase: u16,
    /// [`super::flags`] of the request so far.
    pub flags: u16,
    /// A [`super::LineSource`]: what `line` holds.
    pub line_source: u16,
    pub line: [u8; HEAD_BYTES + HEAD_SLACK],
}
const _: () = assert!(size_of::<Conn>() == 11 * 8 + 16 + 4 * 4 + 8 + HEAD_BYTES + HEAD_SLACK);

/// Value of the `UNIX_SOCKS` map: a connection to a Unix socket that waits to be accepted.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    pub time_ns: u64,
    /// The `struct sock` at the other end.
    pub client: u64,
}
const _: () = assert!(size_of::<Established>() == 16);
