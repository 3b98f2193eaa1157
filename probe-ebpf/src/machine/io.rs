//! Bytes that a worker reads and writes.

use super::{Kernel, Machine, Origin, wire};
use crate::abi::{Conn, Phase, flags, marks, target_flags};
use crate::event_stream::{EVENT_BYTES, begins_event};
use crate::http::{
    HEAD_END, START_BYTES, STATUS_BYTES, SWITCHING_PROTOCOLS, Window, begins_request, status,
    version,
};
use crate::memory::Memory;

/// Time after the first bytes of a response from which more bytes may be events.
pub(super) const STREAM_NS: u64 = 300_000_000;

/// `EINTR`, `EAGAIN` of `asm-generic/errno-base.h`, as results of a call.
pub(super) const EINTR: i64 = -4;
pub(super) const EAGAIN: i64 = -11;

impl<K: Kernel> Machine<'_, K> {
    /// The worker read `len` bytes from a socket to `buffer`.
    #[inline(always)]
    pub fn read(&self, sock: u64, buffer: u64, len: u64) {
        let Some(mut conn) = self.reading(sock, buffer, len) else {
            return;
        };
        if self.is_by_socket() {
            self.read_wire(&mut conn, buffer, len);
        } else {
            self.read_more(&mut conn, sock, buffer, len);
        }
    }

    /// The same for a process whose Python is read.
    #[inline(always)]
    pub fn read_python(&self, sock: u64, buffer: u64, len: u64) {
        if let Some(mut conn) = self.reading(sock, buffer, len) {
            self.read_more(&mut conn, sock, buffer, len);
        }
    }

    /// A read from a socket returned that its client sends no more.
    #[inline(always)]
    pub fn read_end(&self, sock: u64) {
        if let Some(mut conn) = self.kernel.conn(self.key(sock))
            && let Some(mut thread) = self.kernel.make_thread()
        {
            conn.marks |= marks::ENDED;
            thread.last_read = sock;
        }
    }

    /// The connection that the thread reads from.
    #[inline(always)]
    fn reading(&self, sock: u64, buffer: u64, len: u64) -> Option<K::Conn<'_>> {
        let conn = match self.kernel.conn(self.key(sock)) {
            Some(conn) => conn,
            None => self.adopt(sock, buffer, len)?,
        };
        if let Some(mut thread) = self.kernel.make_thread() {
            thread.last_read = sock;
        }
        Some(conn)
    }

    /// Bytes of a request whose line and head Gunicorn's own object shows.
    #[inline(always)]
    fn read_more(&self, conn: &mut Conn, sock: u64, buffer: u64, len: u64) {
        if let Some(birth) = self.kernel.birth(sock) {
            self.recognise(conn, birth);
        }
        let is_idle = conn.phase == Phase::Idle as u16;
        let is_reading = conn.phase == Phase::Reading as u16;
        if (is_idle || is_reading) && conn.marks & marks::MAY_DRAIN != 0 {
            // Gunicorn reads what the application left of the last body.
            let is_tls = self.kernel.target().flags & target_flags::TLS != 0;
            let begins = !is_tls && self.may_begin_request(buffer, len);
            if is_idle && !is_tls && !begins {
                // Or it is a request with a rare method: then it enters next.
                conn.first_read_ns = self.kernel.now();
                conn.request_bytes = len;
                return;
            }
            if begins {
                conn.phase = Phase::Idle as u16;
            }
        }
        if conn.phase == Phase::Idle as u16 {
            conn.phase = Phase::Reading as u16;
            conn.first_read_ns = self.kernel.now();
            conn.request_bytes = len;
            if self.ends_head(buffer, len) {
                conn.marks |= marks::HEAD_ALONE;
            }
            return;
        }
        if conn.marks & marks::ENCRYPTED == 0 {
            conn.request_bytes += len;
        }
        conn.marks &= !marks::HEAD_ALONE;
    }

    /// Makes it a new connection where it is another one than before, whose close was not seen.
    #[inline(always)]
    pub(super) fn recognise(&self, conn: &mut Conn, (identity, established_ns): (u32, u64)) {
        if conn.identity == identity {
            return;
        }
        if !conn.is_unused() {
            self.end(conn);
            conn.begin(conn.key, conn.generation);
        }
        conn.identity = identity;
        conn.flags = 0;
        if conn.accepted_ns == 0 {
            conn.established_ns = established_ns;
        }
    }

    /// Whether bytes begin with a request line.
    #[inline(always)]
    pub(super) fn may_begin_request(&self, buffer: u64, len: u64) -> bool {
        let mut start = [0; START_BYTES];
        len >= START_BYTES as u64
            && self.kernel.user().read(buffer, &mut start).is_ok()
            && begins_request(start)
    }

    /// Whether a piece ends with the end of a head, and so holds a head only.
    #[inline(always)]
    pub(super) fn ends_head(&self, buffer: u64, len: u64) -> bool {
        let mut end = [0; HEAD_END.len()];
        let at = buffer.wrapping_add(len).wrapping_sub(end.len() as u64);
        len >= end.len() as u64 && self.kernel.user().read(at, &mut end).is_ok() && end == HEAD_END
    }

    /// Starts to observe a connection that was not seen to be accepted.
    #[inline(always)]
    fn adopt(&self, sock: u64, buffer: u64, len: u64) -> Option<K::Conn<'_>> {
        let target = self.kernel.target();
        let port = self.kernel.local_port(sock);
        let is_ours = if port != 0 && target.ports[0] != 0 {
            target.accepts_on(port)
        } else {
            self.may_begin_request(buffer, len)
        };
        if !is_ours {
            return None;
        }
        let Some(mut conn) = self.kernel.open(self.key(sock)) else {
            // A later request of this thread must not be matched with another connection.
            if let Some(mut thread) = self.kernel.thread() {
                thread.last_read = 0;
            }
            return None;
        };
        conn.flags = flags::ADOPTED;
        Some(conn)
    }

    /// A write to a socket returned `result`; `buffer` holds what was written, 0 if that is unknown.
    #[inline(always)]
    pub fn written(&self, sock: u64, buffer: u64, result: i64) {
        if let Some(mut conn) = self.kernel.conn(self.key(sock)) {
            if self.is_by_socket() {
                self.written_wire(&mut conn, result);
            } else {
                self.written_python(&mut conn, buffer, result);
            }
        }
    }

    /// The same for a process whose Python is read.
    #[inline(always)]
    pub fn written_python(&self, conn: &mut Conn, buffer: u64, result: i64) {
        let is_entered = conn.phase == Phase::Entered as u16;
        if !is_entered && conn.phase != Phase::Refused as u16 {
            return;
        }
        // Gunicorn's own answer comes in one piece.
        let is_last = conn.first_write_ns == 0 && conn.awaits_error_page();
        if result < 0 && result != EAGAIN && result != EINTR {
            conn.flags |= flags::WRITE_FAILED;
            if conn.first_write_ns == 0 && conn.status == 0 {
                // What the worker meant to send.
                let line = self.status_line(buffer, STATUS_BYTES as u64);
                if !is_interim(&line) {
                    answer(conn, &line);
                }
            }
        } else if result > 0 {
            let now = self.kernel.now();
            conn.response_bytes += result as u64;
            if conn.first_write_ns == 0 {
                let line = self.status_line(buffer, result as u64);
                if line != NO_STATUS {
                    conn.response_head_bytes += result as u32;
                }
                if is_interim(&line) {
                    return;
                }
                conn.first_write_ns = now;
                answer(conn, &line);
                if conn.flags & flags::NO_CONNECTION == 0 && self.kernel.has_left(conn.key.address)
                {
                    conn.flags |= flags::CLIENT_LEFT;
                }
            } else if now.wrapping_sub(conn.first_write_ns) > STREAM_NS {
                self.know_stream(conn, buffer, result as u64);
            }
            conn.last_write_ns = now;
        } else {
            return;
        }
        if is_last {
            if conn.status != 0 && result > 0 {
                self.error_page(conn, buffer, result);
            } else if conn.status == 0 && result > 0 {
                // Encrypted: the status that Gunicorn announced.
                conn.status = conn.response_end as u16;
            }
            let origin = if is_entered {
                Origin::Python
            } else {
                Origin::Refused
            };
            self.finish(conn, origin);
        }
    }

    /// Finds out from a late write whether the response is a stream of events.
    #[inline(always)]
    pub(super) fn know_stream(&self, conn: &mut Conn, buffer: u64, len: u64) {
        let mut start = [0; EVENT_BYTES];
        if conn.flags & flags::EVENT_STREAM != 0
            || len < EVENT_BYTES as u64
            || self.kernel.user().read(buffer, &mut start).is_err()
        {
            return;
        }
        // One that is none yet may be the rest of a long event.
        if begins_event(&start) {
            conn.flags |= flags::EVENT_STREAM;
        }
    }

    /// The status line of a response that begins in `buffer`; [`NO_STATUS`] if there is none, as where it
    /// is encrypted.
    #[inline(always)]
    fn status_line(&self, buffer: u64, len: u64) -> StatusLine {
        let mut line = [0; STATUS_BYTES];
        if buffer == 0
            || len < STATUS_BYTES as u64
            || self.kernel.user().read(buffer, &mut line).is_err()
        {
            return NO_STATUS;
        }
        status(&line).map_or(NO_STATUS, |code| StatusLine {
            code,
            version: version(&line),
        })
    }

    /// Gunicorn writes head and body of an error page at once (`gunicorn/util.py`, `write_error`).
    #[inline(always)]
    fn error_page(&self, conn: &mut Conn, buffer: u64, len: i64) {
        let before = u64::from(conn.response_head_bytes).saturating_sub(len as u64);
        let Some(mut scratch) = self.kernel.scratch() else {
            return;
        };
        let window = &mut scratch.window;
        let read = wire::read_window(self.kernel.user(), window, buffer, len as u64);
        match read.map_or(0, |()| end_of_head(window)) {
            0 => conn.response_head_bytes = 0,
            end => conn.response_head_bytes = before as u32 + end,
        }
    }
}

/// What a status line says: the status, and the version of HTTP as [`Conn::version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StatusLine {
    code: u16,
    version: u32,
}

const NO_STATUS: StatusLine = StatusLine {
    code: 0,
    version: 0,
};

/// Keeps what the status line of a response shows. Gunicorn answers in the version of the request, but its
/// own error pages are always in that of HTTP/1.1 (`gunicorn/util.py`, `write_error`).
#[inline(always)]
fn answer(conn: &mut Conn, line: &StatusLine) {
    conn.status = line.code;
    if conn.version == 0 && !conn.awaits_error_page() {
        conn.version = line.version;
    }
}

/// Whether another response follows one with this status, as after `100 Continue`.
#[inline(always)]
fn is_interim(line: &StatusLine) -> bool {
    matches!(line.code, 1..200) && line.code != SWITCHING_PROTOCOLS
}

/// Length of the head of an error page, which is short; 0 if its end is not found.
#[inline(never)]
fn end_of_head(window: &Window) -> u32 {
    // The longest reason, three short headers and an empty line are 114 bytes (`write_error`).
    const BYTES: usize = 160;
    let mut recent = 0_u32;
    for (end, &byte) in (1..).zip(window.bytes.iter().take(BYTES)) {
        if end > window.len {
            break;
        }
        recent = recent << 8 | u32::from(byte);
        if recent == u32::from_be_bytes(HEAD_END) {
            return end;
        }
    }
    0
}
