//! A connection and the request on it.

use super::{HEAD_BYTES, LineSource, ObjectKey};
use crate::http::HeadScan;

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
///
/// Its key is the `struct sock` of the connection. The key of a request whose connection is unknown is
/// its request object: [`flags::NO_CONNECTION`](super::flags::NO_CONNECTION).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Conn {
    /// Its key; the address is 0 where no connection is.
    pub key: ObjectKey,
    /// [`super::Target::generation`] of its process.
    pub generation: u64,
    pub established_ns: u64,
    pub accepted_ns: u64,
    pub first_read_ns: u64,
    pub entered_ns: u64,
    pub exited_ns: u64,
    pub first_write_ns: u64,
    pub last_write_ns: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Key of the exception for which Gunicorn refused the request; 0 for none.
    pub refused_ns: u64,
    /// The request object of the request that entered; 0 for none.
    pub request: u64,
    /// The Python object of the connection: key into `CLIENTS`; 0 when unknown.
    pub client: u64,
    /// The request object of the last request that a task served and that failed, and when that entered: its
    /// exception may come after its response.
    pub failed_request: u64,
    pub failed_ns: u64,
    pub request_scan: HeadScan,
    /// Bytes of the complete response, as its head announces; [`crate::http::CHUNKED`] until its
    /// last chunk, 0 when unknown. Kept only for a request that Python was not seen to enter.
    pub response_end: u64,
    pub request_head_bytes: u32,
    pub response_head_bytes: u32,
    pub ordinal: u32,
    pub line_len: u32,
    /// Exception records made for the request, sent or dropped.
    pub exceptions: u32,
    /// Captured-frame records made for it, sent or dropped.
    pub captured_frames: u32,
    /// Thread in which the request entered.
    pub tid: u32,
    /// First sequence number of the connection's data, where only that distinguishes it from an earlier
    /// one; else 0.
    pub identity: u32,
    pub status: u16,
    /// A [`Phase`].
    pub phase: u16,
    /// [`super::flags`] of the request so far.
    pub flags: u16,
    /// A [`super::LineSource`]: what `line` holds.
    pub line_source: u16,
    /// A [`crate::gunicorn::Family`].
    pub family: u16,
    /// A set of [`marks`]: what the programs note about it.
    pub marks: u16,
    /// Version of HTTP, as [`super::RequestRecord::version`].
    pub version: u32,
    /// In `CONN_PLACES`: 1 if `CONNS` has a connection that would be here.
    pub is_shared: u32,
    pub reserved: u32,
    pub line: [u8; HEAD_BYTES + HEAD_SLACK],
}
const _: () = assert!(size_of::<Conn>() == 19 * 8 + 8 * 4 + 24 + HEAD_BYTES + HEAD_SLACK);

/// What the programs note about a connection.
pub mod marks {
    /// One read returned the whole head of the request and nothing behind it.
    pub const HEAD_ALONE: u16 = 1 << 0;
    /// The request before may have had a body: its rest may come before the next request.
    pub const MAY_DRAIN: u16 = 1 << 1;
    /// Its bytes are encrypted or frames: those that are read from now on do not count.
    pub const ENCRYPTED: u16 = 1 << 2;
    /// The client sends no more.
    pub const ENDED: u16 = 1 << 3;
    /// It speaks another protocol since a `101 Switching Protocols`.
    pub const SWITCHED: u16 = 1 << 4;
}

/// Places of connections by their address, in the map `CONN_PLACES`: they cost no search.
pub const CONN_PLACE_COUNT: u32 = 1 << 11;

/// The place of a connection with this address.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "it is masked")]
pub fn conn_place(address: u64) -> u32 {
    // The kernel allocates a `struct sock` on a boundary of 64 bytes.
    ((address >> 6) ^ (address >> 17)) as u32 & (CONN_PLACE_COUNT - 1)
}

impl Conn {
    /// Makes it a new connection.
    #[inline(always)]
    pub fn begin(&mut self, key: ObjectKey, generation: u64) {
        self.key = key;
        self.generation = generation;
        self.client = 0;
        self.identity = 0;
        self.failed_request = 0;
        self.failed_ns = 0;
        self.restart();
        self.ordinal = 0;
        self.marks = 0;
    }

    /// Readies it for its next request.
    #[inline(always)]
    pub fn restart(&mut self) {
        let may_drain = if self.marks & marks::HEAD_ALONE == 0 {
            marks::MAY_DRAIN
        } else {
            0
        };
        self.established_ns = 0;
        self.accepted_ns = 0;
        self.first_read_ns = 0;
        self.entered_ns = 0;
        self.exited_ns = 0;
        self.first_write_ns = 0;
        self.last_write_ns = 0;
        self.request_bytes = 0;
        self.response_bytes = 0;
        self.refused_ns = 0;
        self.request = 0;
        self.request_scan = HeadScan::default();
        self.response_end = 0;
        self.request_head_bytes = 0;
        self.response_head_bytes = 0;
        self.ordinal += 1;
        self.line_len = 0;
        self.version = 0;
        self.exceptions = 0;
        self.captured_frames = 0;
        self.tid = 0;
        self.status = 0;
        self.phase = Phase::Idle as u16;
        self.flags = 0;
        self.line_source = LineSource::None as u16;
        self.family = 0;
        self.marks = may_drain;
    }

    /// Key that the exceptions of its request carry; 0 if there were none. The time of entry is unique
    /// in its process.
    #[inline(always)]
    #[must_use]
    pub fn exceptions_key(&self) -> u64 {
        if self.exceptions | self.captured_frames == 0 {
            0
        } else {
            self.entered_ns
        }
    }

    /// Whether the next bytes that Gunicorn writes are its own answer to a failed request.
    #[inline(always)]
    #[must_use]
    pub fn awaits_error_page(&self) -> bool {
        self.phase == Phase::Refused as u16
            || (self.phase == Phase::Entered as u16
                && self.flags & super::flags::ERROR_HANDLED != 0)
    }

    /// Whether nothing was read or written yet.
    #[inline(always)]
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.ordinal == 0 && self.request_bytes == 0 && self.phase == Phase::Idle as u16
    }
}

/// Value of the `UNIX_SOCKS` map: a connection to a Unix socket that waits to be accepted.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    pub time_ns: u64,
    /// The `struct sock` at the other end.
    pub client: u64,
}
const _: () = assert!(size_of::<Established>() == 16);
