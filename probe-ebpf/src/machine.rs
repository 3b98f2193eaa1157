//! Connections and requests: what each event makes of them.
//!
//! ```text
//!            first bytes read       handle_request          its end, or close
//!  Idle ───────────────────> Reading ─────────────> Entered ──────────────────> Idle
//!                               ├──── handle_error ─> Refused ── its answer ───> Idle
//!                               └──── response complete, next request read, or close ─> Idle
//! ```
//!
//! The last transition is for processes whose Python is not read: there the bytes of request and
//! response are all there is ([`wire`]).
//!
//! The machine sees events: a connection was accepted, bytes were read or written, Python entered,
//! ended or failed a request, the connection was closed. What reports them differs between kernels; the
//! machine does not know. It runs in the kernel on maps, and in tests on collections: see [`Kernel`].

#![allow(
    clippy::cast_possible_truncation,
    reason = "sizes of heads, statuses and families are small; others are cut"
)]

pub mod io;
pub mod kernel;
pub mod python;
mod record;
pub mod task;
#[cfg(any(test, feature = "test-kernel"))]
pub mod test_kernel;
#[cfg(test)]
mod tests;
pub mod wire;

pub use kernel::Kernel;
pub use python::{Call, Ended, RequestFields};

use crate::abi::{Conn, LostFrom, ObjectKey, Phase, TimedBy, flags, marks, target_flags};
use crate::http::SWITCHING_PROTOCOLS;

/// What ended a request, beside its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `handle_request`, which the request entered.
    Python,
    /// `handle_error`, for a request that Gunicorn refused to parse.
    Refused,
    /// Nothing: the connection alone.
    Socket,
    /// The same, for a request that a task serves.
    Task,
}

impl Origin {
    /// The layer that saw the request begin and end.
    #[inline(always)]
    #[must_use]
    pub fn timed_by(self) -> TimedBy {
        match self {
            Self::Socket => TimedBy::Socket,
            Self::Task => TimedBy::Task,
            Self::Python | Self::Refused => TimedBy::Python,
        }
    }
}

/// The transitions, on what a kernel offers.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a, K> {
    pub kernel: &'a K,
}

/// Time after its accept in which a client that has sent nothing is about to.
const ABOUT_TO_SEND_NS: u64 = 1_000_000_000;

/// Whether a connection on which nothing is in progress has, or is about to get, a request of which nothing
/// was read. `now` gives the time, and `unread` the bytes that nobody read: most connections are closed
/// without either question.
#[inline(always)]
#[must_use]
pub fn is_unread(conn: &Conn, now: impl FnOnce() -> u64, unread: impl FnOnce() -> u32) -> bool {
    /// The end of what the client sends counts as one byte.
    const END: u32 = 1;
    // What is left of a body that the application did not read, or of another protocol, is no request.
    let others = marks::ENDED | marks::MAY_DRAIN | marks::SWITCHED;
    if conn.phase != Phase::Idle as u16 || conn.marks & others != 0 {
        return false;
    }
    if conn.is_unused() && now().wrapping_sub(conn.accepted_ns) < ABOUT_TO_SEND_NS {
        return true;
    }
    // Sync workers, which keep no object of a connection, close it after its first request.
    (conn.ordinal == 0 || conn.client != 0) && unread() > END
}

impl<'a, K: Kernel> Machine<'a, K> {
    #[inline(always)]
    pub fn new(kernel: &'a K) -> Self {
        Self { kernel }
    }

    /// Key of something in this process.
    #[inline(always)]
    fn key(&self, address: u64) -> ObjectKey {
        ObjectKey::new(self.kernel.target().tgid, address)
    }

    /// Whether requests are seen by the bytes of their sockets alone.
    #[inline(always)]
    fn is_by_socket(&self) -> bool {
        self.kernel.target().is_by_socket()
    }

    /// A connection was accepted. `established_ns` is 0 when it is unknown.
    #[inline(always)]
    pub fn accepted(&self, sock: u64, established_ns: u64) {
        let key = self.key(sock);
        if let Some(conn) = self.kernel.conn(key)
            && (conn.is_unused() || conn.phase != Phase::Idle as u16)
        {
            return; // reported before, or the process asks for the name of its peer again
        }
        if let Some(mut conn) = self.kernel.open(key) {
            conn.accepted_ns = self.kernel.now();
            conn.established_ns = established_ns;
        }
    }

    /// Whether a connection that is closed now leaves a request without an answer: the exception that is
    /// handled meanwhile may be why.
    #[inline(always)]
    pub fn is_unanswered(&self, sock: u64) -> bool {
        let conn = self.kernel.conn(self.key(sock));
        conn.is_some_and(|conn| {
            conn.request != 0 && conn.status == 0 && conn.flags & flags::ERROR_HANDLED == 0
        })
    }

    /// The worker closes a connection. False if the socket is none that is known.
    #[inline(always)]
    pub fn closed(&self, sock: u64) -> bool {
        let key = self.key(sock);
        let Some(mut conn) = self.kernel.conn(key) else {
            return false;
        };
        if self.is_by_socket() {
            self.end_wire(&mut conn);
        } else if conn.request != 0 || conn.phase == Phase::Refused as u16 {
            self.end(&mut conn);
        } else {
            self.lost(&conn);
        }
        let client = conn.client;
        drop(conn);
        if client != 0 {
            self.kernel.forget_client(self.key(client));
        }
        self.kernel.forget(key);
        true
    }

    /// A connection is closed on which no request is in progress. If its client had sent one, nobody
    /// answers it. Encrypted bytes do not show that.
    #[inline(always)]
    fn lost(&self, conn: &Conn) {
        let sock = conn.key.address;
        if self.kernel.target().flags & target_flags::TLS != 0
            || conn.marks & (marks::ENDED | marks::SWITCHED) != 0
        {
            return;
        }
        let from = if conn.phase == Phase::Reading as u16 {
            LostFrom::Read
        } else if is_unread(conn, || self.kernel.now(), || self.kernel.unread(sock)) {
            LostFrom::Accepted
        } else {
            return;
        };
        // Who is gone waits for nothing.
        if !self.kernel.has_left(sock) {
            self.kernel.lost(from);
        }
    }

    /// Sends the record of a request that only the close of its connection ends.
    #[inline(always)]
    fn end(&self, conn: &mut Conn) {
        if conn.request != 0 {
            if conn.exited_ns == 0 {
                conn.exited_ns = self.kernel.now();
            }
            if conn.status == 0 {
                conn.flags |= flags::CLOSED;
            }
            self.kernel.send(conn, Origin::Python);
        } else if conn.phase == Phase::Refused as u16 {
            self.kernel.send(conn, Origin::Refused);
        }
    }

    /// The request is done: sends its record and readies the connection for the next request.
    #[inline(always)]
    fn finish(&self, conn: &mut Conn, origin: Origin) {
        self.kernel.send(conn, origin);
        let is_switched = conn.status == SWITCHING_PROTOCOLS;
        conn.restart();
        if is_switched {
            conn.marks |= marks::SWITCHED;
        }
    }
}
