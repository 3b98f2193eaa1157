//! A finished request.

use super::{HEAD_BYTES, Header};

/// Bytes of a line that a short record has room for: most lines fit.
pub const SHORT_LINE_BYTES: usize = 56;

/// One finished request, with room for a line of so many bytes: [`HEAD_BYTES`] or [`SHORT_LINE_BYTES`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RequestRecord<const LINE: usize = HEAD_BYTES> {
    pub header: Header,
    /// The kernel established the connection; 0 for all but its first request.
    pub established_ns: u64,
    /// `accept` returned the connection; 0 for all but its first request.
    pub accepted_ns: u64,
    /// The worker read the first bytes of the request.
    pub first_read_ns: u64,
    /// Gunicorn's `handle_request` began.
    pub entered_ns: u64,
    /// The worker wrote the first bytes of the response.
    pub first_write_ns: u64,
    /// The worker wrote the last bytes of the response.
    pub last_write_ns: u64,
    /// Gunicorn's `handle_request` finished with the response, or failed.
    pub exited_ns: u64,
    /// Bytes read for the request; 0 when unseen.
    pub request_bytes: u64,
    /// Bytes written for the response.
    pub response_bytes: u64,
    /// Key that the exceptions of this request carry ([`super::ExceptionRecord::request`]); 0 when
    /// there were none.
    pub exceptions: u64,
    /// Exception and captured-frame records made for this request, sent or dropped.
    pub exceptions_count: u64,
    /// Bytes of the request before its body; 0 when the end of the head was not seen.
    pub request_head_bytes: u32,
    /// Bytes of the response before its body; 0 when the end of the head was not seen.
    pub response_head_bytes: u32,
    /// Version of HTTP as Python has it, major << 8 | minor; 0 when unknown.
    pub version: u32,
    /// 0 for the first request of a connection, 1 for the next, …
    pub ordinal: u32,
    /// Status code of the response; 0 when unseen.
    pub status: u16,
    /// A set of [`super::flags`].
    pub flags: u16,
    /// Bytes of `line` that are filled.
    pub line_len: u16,
    /// A [`LineSource`]: what `line` holds.
    pub line_source: u16,
    /// Thread that finished the request.
    pub tid: u32,
    /// The worker family whose code handled it: a [`crate::gunicorn::Family`].
    pub family: u16,
    /// A [`TimedBy`]: the layer that saw the request begin and end.
    pub timed_by: u16,
    /// Start of the request: see [`LineSource`].
    pub line: [u8; LINE],
}
impl RequestRecord {
    /// A record without anything.
    pub const EMPTY: Self = Self {
        header: Header {
            kind: 0,
            len: 0,
            tgid: 0,
            time_ns: 0,
        },
        established_ns: 0,
        accepted_ns: 0,
        first_read_ns: 0,
        entered_ns: 0,
        first_write_ns: 0,
        last_write_ns: 0,
        exited_ns: 0,
        request_bytes: 0,
        response_bytes: 0,
        exceptions: 0,
        exceptions_count: 0,
        request_head_bytes: 0,
        response_head_bytes: 0,
        version: 0,
        ordinal: 0,
        status: 0,
        flags: 0,
        line_len: 0,
        line_source: 0,
        tid: 0,
        family: 0,
        timed_by: 0,
        line: [0; HEAD_BYTES],
    };
}
const _: () = assert!(size_of::<RequestRecord>() == 16 + 11 * 8 + 4 * 4 + 4 * 2 + 8 + HEAD_BYTES);
// Three cache lines, less the eight bytes that the ring buffer puts before a record.
const _: () = assert!(size_of::<RequestRecord<SHORT_LINE_BYTES>>() == 3 * 64);

/// What [`RequestRecord::line`] holds.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineSource {
    /// Nothing: neither source was readable.
    None = 0,
    /// The first bytes of the request as the client sent them.
    Wire = 1,
    /// Gunicorn's `Request.method`, padded with zeros to [`super::NAME_BYTES`], then `Request.path`.
    Python = 2,
}

/// The layer that saw a request begin and end.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimedBy {
    /// Gunicorn's own code, seen by the probe on `datetime.now`.
    Python = 0,
    /// Its connection; the record has no times of Python.
    Socket = 1,
    /// Its connection; the task that serves it shows only when it entered.
    Task = 2,
}
