//! Requests of processes whose Python does not show them: by the bytes of their sockets.

use super::io::{EAGAIN, EINTR, STREAM_NS};
use super::task::origin;
use super::{Kernel, Machine};
use crate::abi::{
    Conn, HEAD_BYTES, HEAD_SLACK, LineSource, Phase, Stat, WRITE_WORDS, flags, marks,
};
use crate::http::{
    CHUNKED, HeadScan, LAST_CHUNK, LAST_CHUNK_ALONE, RESPONSE_BYTES, SCAN_BYTES, START_BYTES,
    STATUS_BYTES, SWITCHING_PROTOCOLS, Window, begins_request, has_no_body, is_bodiless, status,
};
use crate::memory::{Fault, Memory};

/// A piece of memory: address and length.
pub type Piece = (u64, u64);

/// A write that is about to happen.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub first: Piece,
    pub last: Piece,
    /// Bytes of all its pieces; 0 when there are too many pieces to add up.
    pub total: u64,
}

impl Write {
    /// It as words, to be kept.
    #[inline(always)]
    #[must_use]
    pub fn words(self) -> [u64; WRITE_WORDS] {
        let Self { first, last, total } = self;
        [first.0, first.1, last.0, last.1, total]
    }

    /// What was kept.
    #[inline(always)]
    #[must_use]
    pub fn of([first, first_len, last, last_len, total]: [u64; WRITE_WORDS]) -> Self {
        Self {
            first: (first, first_len),
            last: (last, last_len),
            total,
        }
    }
}

/// Whether the bytes read since the last request are the next request, and not the rest of the last
/// body: a server reads that rest when the application did not.
#[inline(always)]
fn holds_request(conn: &Conn) -> bool {
    conn.phase == Phase::Reading as u16 && (conn.ordinal == 0 || begins_request(start(conn)))
}

/// The first bytes of the kept line.
#[inline(always)]
fn start(conn: &Conn) -> [u8; START_BYTES] {
    let mut start = [0; START_BYTES];
    start.copy_from_slice(&conn.line[..START_BYTES]);
    start
}

/// The begin of what a client of HTTP/2 sends first (RFC 9113, 3.4): no request.
const PREFACE: [u8; START_BYTES] = *b"PRI * HT";

/// Whether what was read begins with a request line. It does not where it is encrypted.
#[inline(always)]
#[must_use]
pub fn has_request_line(conn: &Conn) -> bool {
    let start = start(conn);
    conn.line_len != 0 && begins_request(start) && start != PREFACE
}

/// Whether the connection serves a request whose response has begun.
#[inline(always)]
pub(super) fn is_answered(conn: &Conn) -> bool {
    conn.status != 0 && (holds_request(conn) || conn.flags & flags::PIPELINED != 0)
}

/// Whether the response ends with its last chunk.
#[inline(always)]
#[must_use]
pub fn awaits_last_chunk(conn: &Conn) -> bool {
    conn.response_end == CHUNKED
}

impl<K: Kernel> Machine<'_, K> {
    /// The worker read `len` bytes from the client.
    #[inline(always)]
    pub(super) fn read_wire(&self, conn: &mut Conn, buffer: u64, len: u64) {
        if conn.marks & marks::SWITCHED != 0 {
            return;
        }
        let begins = self.may_begin_request(buffer, len);
        if is_answered(conn) && begins {
            // The end of the response before it could not be seen.
            self.finish_wire(conn);
        }
        conn.request_bytes += len;
        if conn.phase == Phase::Reading as u16 && !holds_request(conn) && begins {
            // The bytes read before were the rest of the last body.
            conn.phase = Phase::Idle as u16;
            conn.line_len = 0;
            conn.request_scan = HeadScan::default();
            conn.request_head_bytes = 0;
            conn.flags &= !flags::LINE_CUT;
        }
        let first = conn.phase == Phase::Idle as u16;
        if first && conn.ordinal > 0 && len >= START_BYTES as u64 && !begins {
            return; // the rest of the last body
        }
        if first {
            conn.phase = Phase::Reading as u16;
            conn.first_read_ns = self.kernel.now();
            conn.request_bytes = len;
        }
        if self.keep_line(conn, buffer, len).is_err() {
            self.kernel.count(Stat::BufferUnreadable);
            return;
        }
        if conn.request_head_bytes != 0 {
            return;
        }
        let start = [conn.line[0], conn.line[1], conn.line[2], conn.line[3]];
        if first && is_bodiless(start) && self.ends_head(buffer, len) {
            conn.request_head_bytes = len as u32;
            return;
        }
        if let Some(end) = self.find_head_end(&mut conn.request_scan, buffer, len) {
            conn.request_head_bytes = end;
        }
    }

    /// Keeps the first bytes of the request, which may come in several pieces.
    #[inline(always)]
    fn keep_line(&self, conn: &mut Conn, buffer: u64, len: u64) -> Result<(), Fault> {
        let user = self.kernel.user();
        let at = conn.line_len as usize;
        if at == 0 {
            let len = if len > HEAD_BYTES as u64 {
                HEAD_BYTES
            } else {
                len as usize
            };
            read_line(user, buffer, &mut conn.line, 0, len)?;
            conn.line_len = len as u32;
            conn.line_source = LineSource::Wire as u16;
        } else if at < HEAD_BYTES && conn.flags & flags::LINE_CUT == 0 {
            // A later piece: as many bytes as the slack behind any offset allows.
            const MOST: u64 = HEAD_SLACK as u64 - 1;
            if len > MOST {
                conn.flags |= flags::LINE_CUT;
            }
            let len = bounded(if len > MOST { MOST } else { len }, HEAD_SLACK);
            read_line(user, buffer, &mut conn.line, at & (HEAD_BYTES - 1), len)?;
            let kept = at + len;
            conn.line_len = if kept > HEAD_BYTES {
                HEAD_BYTES as u32
            } else {
                kept as u32
            };
        }
        Ok(())
    }

    /// The worker is about to write bytes that may begin a response.
    #[inline(always)]
    pub fn write_begins(&self, conn: &mut Conn, write: Write) {
        if conn.status != 0 || (conn.phase == Phase::Idle as u16 && conn.ordinal == 0) {
            return;
        }
        self.begin_response(conn, write.first.0, write.first.1);
        if awaits_last_chunk(conn) {
            self.write_chunks(conn, write.last, write.total);
        }
    }

    /// The worker is about to write `total` bytes of a chunked response, which end with `piece`.
    #[inline(always)]
    pub fn write_chunks(&self, conn: &mut Conn, piece: Piece, total: u64) {
        if self.kernel.now().wrapping_sub(conn.first_write_ns) > STREAM_NS {
            self.know_stream(conn, piece.0, piece.1);
        }
        if total == 0 {
            // Pieces too many to be looked at: the end may be among them.
            conn.response_end = 0;
        } else if self.ends_chunks(piece) {
            conn.response_end = conn.response_bytes + total;
        }
    }

    /// Reads the head of a response. It is in one piece: every server under Gunicorn writes it at once.
    #[inline(always)]
    fn begin_response(&self, conn: &mut Conn, buffer: u64, len: u64) {
        if len < STATUS_BYTES as u64 {
            return;
        }
        let Some(mut scratch) = self.kernel.scratch() else {
            return;
        };
        let scratch = &mut *scratch;
        let (window, head) = (&mut scratch.window, &mut scratch.head);
        if read_window(self.kernel.user(), window, buffer, len).is_err() {
            self.kernel.count(Stat::BufferUnreadable);
            return;
        }
        let Some(line) = window.bytes.first_chunk() else {
            return;
        };
        let Some(code) = status(line) else { return };
        if code < 200 && code != SWITCHING_PROTOCOLS {
            // `100 Continue`: sent before the response, not part of its body.
            conn.response_head_bytes += len as u32;
            return;
        }
        if !holds_request(conn) {
            // The request was read together with the one before it, or with the rest of that body.
            conn.phase = Phase::Reading as u16;
            conn.flags |= flags::PIPELINED;
            conn.first_read_ns = 0;
            conn.request_bytes = 0;
            conn.line_len = 0;
        }
        conn.status = code;
        conn.first_write_ns = self.kernel.now();
        // Not earlier: the verifier would walk the scan for each path that leads here.
        let is_long = len > RESPONSE_BYTES as u64 && self.ends_head(buffer, len);
        head.scan(window, if is_long { len as u32 } else { 0 });
        if head.bytes == 0 {
            conn.response_head_bytes = 0;
        } else {
            conn.response_head_bytes += head.bytes;
        }
        let end = if has_no_body(code, method(conn)) {
            u64::from(head.bytes)
        } else {
            head.end
        };
        // Bytes written before it are a `100 Continue`.
        conn.response_end = if end == 0 || end == CHUNKED {
            end
        } else {
            end.wrapping_add(conn.response_bytes)
        };
    }

    /// Whether a piece ends with the last chunk of a response.
    #[inline(always)]
    fn ends_chunks(&self, (buffer, len): Piece) -> bool {
        let user = self.kernel.user();
        let mut end = [0; LAST_CHUNK.len()];
        if len == LAST_CHUNK_ALONE as u64 {
            let mut alone = [0; LAST_CHUNK_ALONE];
            return user.read(buffer, &mut alone).is_ok() && alone == LAST_CHUNK[2..];
        }
        let at = buffer.wrapping_add(len).wrapping_sub(end.len() as u64);
        len >= end.len() as u64 && user.read(at, &mut end).is_ok() && end == LAST_CHUNK
    }

    /// A write to the client returned.
    #[inline(always)]
    pub fn written_wire(&self, conn: &mut Conn, result: i64) {
        if result <= 0 {
            if result < 0 && result != EAGAIN && result != EINTR {
                conn.flags |= flags::WRITE_FAILED;
            }
            return;
        }
        conn.response_bytes += result as u64;
        conn.last_write_ns = self.kernel.now();
        if conn.response_end != 0 && conn.response_bytes >= conn.response_end && is_answered(conn) {
            self.finish_wire(conn);
        }
    }

    /// The connection is closed: so is what is in progress on it.
    #[inline(always)]
    pub(super) fn end_wire(&self, conn: &mut Conn) {
        if is_answered(conn) {
            let is_known = conn.response_end != 0;
            if is_known && conn.response_bytes < conn.response_end {
                conn.flags |= flags::INCOMPLETE;
            }
        } else if conn.phase == Phase::Reading as u16 && has_request_line(conn) {
            conn.flags |= flags::CLOSED;
        } else {
            return;
        }
        // Of a response without a known end nobody knows whether it was complete.
        let is_unknown = conn.status != 0 && conn.response_end == 0;
        if conn.marks & marks::ENDED != 0 && !is_unknown {
            conn.flags |= flags::CLIENT_LEFT;
        }
        self.kernel.send(conn, origin(conn));
    }

    /// Scans a piece for the end of a head; returns the length of the head over all pieces.
    #[inline(always)]
    fn find_head_end(&self, scan: &mut HeadScan, buffer: u64, len: u64) -> Option<u32> {
        if scan.is_lost() {
            return None;
        }
        let mut scratch = self.kernel.scratch()?;
        let window = &mut scratch.window;
        if read_window(self.kernel.user(), window, buffer, len).is_err() {
            self.kernel.count(Stat::BufferUnreadable);
            scan.give_up();
            return None;
        }
        match scan_request(scan, window) {
            0 => {
                if len > SCAN_BYTES as u64 {
                    scan.give_up();
                }
                None
            }
            end => Some(end),
        }
    }
}

/// The first letters of the request, if they are known.
#[inline(always)]
fn method(conn: &Conn) -> [u8; 4] {
    if conn.line_len < 4 {
        return [0; 4];
    }
    [conn.line[0], conn.line[1], conn.line[2], conn.line[3]]
}

/// Masks a length that is below `limit`, a power of two, so that every verifier knows the bound: that
/// of 5.10 tracks it in the compared register only, not in copies.
#[inline(always)]
pub(super) fn bounded(len: u64, limit: usize) -> usize {
    // The compiler would remove the mask if it knew the value.
    core::hint::black_box(len) as usize & (limit - 1)
}

/// Reads `len` user bytes to `line[at..]`. The verifier needs to see the bounds:
/// `at < HEAD_BYTES` and `len < HEAD_SLACK`, or `at == 0` and `len <= HEAD_BYTES`.
#[inline(always)]
pub(super) fn read_line<M: Memory>(
    user: &M,
    buffer: u64,
    line: &mut [u8; HEAD_BYTES + HEAD_SLACK],
    at: usize,
    len: usize,
) -> Result<(), Fault> {
    let place = line.get_mut(at..at + len).ok_or(Fault)?;
    user.read(buffer, place)
}

/// Fills the window with the first of `len` bytes at `buffer`.
#[inline(always)]
pub(super) fn read_window<M: Memory>(
    user: &M,
    window: &mut Window,
    buffer: u64,
    len: u64,
) -> Result<(), Fault> {
    // One byte less than there is room for, so that a mask bounds it.
    let kept = bounded(len.min(SCAN_BYTES as u64 - 1), SCAN_BYTES);
    window.len = kept as u32;
    let place = window.bytes.get_mut(..kept).ok_or(Fault)?;
    user.read(buffer, place)
}

/// Not inlined, so that the verifier walks the loop once for every call instead of once for every
/// path that leads there.
#[inline(never)]
fn scan_request(scan: &mut HeadScan, window: &Window) -> u32 {
    scan.scan(window)
}
