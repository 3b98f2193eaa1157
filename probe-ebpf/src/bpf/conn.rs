//! A connection's life: the request on it from first byte to record.
//!
//! ```text
//!            first byte read        handle_request          response seen, or close
//!  Idle ───────────────────> Reading ─────────────> Entered ───────────────────────> Idle
//!                               ├──── handle_error ─> Refused ──── close
//!                               └──── response complete, next request read, or close ─> Idle
//! ```
//!
//! The last transition is for processes whose Python is not read: there the response alone shows that
//! a request is done.

use super::emit::{self, Origin};
use super::exception;
use super::maps::{
    CLIENTS, CONNS, FLOWS, NEW_CONN, conn, count, flow, is_timed_by_socket, scratch,
};
use super::memory::User;
use super::scratch::{Piece, Scratch, Write};
use aya_ebpf::helpers::bpf_probe_read_user_buf;
use probe_ebpf::abi::{
    Conn, ConnKey, HEAD_BYTES, HEAD_SLACK, LineSource, NAME_BYTES, ObjectKey, Phase, Stat, Target,
    Thread, flags,
};
use probe_ebpf::http::{
    CHUNKED, HEAD_END, HeadScan, LAST_CHUNK, LAST_CHUNK_ALONE, SCAN_BYTES, START_BYTES,
    STATUS_BYTES, Window, begins_request, has_no_body, is_bodiless, status,
};
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::{Layout, attribute::attribute};

/// Starts to observe a connection.
#[inline(always)]
pub fn open(key: &ConnKey, generation: u64) -> Option<&'static mut Conn> {
    // SAFETY: a zeroed map value nobody writes to.
    let empty = unsafe { &*NEW_CONN.get_ptr(0)? };
    if CONNS.insert(key, empty, 0).is_err() {
        count(Stat::ConnsFull);
        return None;
    }
    // SAFETY: the value was inserted for this thread's own new descriptor.
    let conn = unsafe { &mut *CONNS.get_ptr_mut(key)? };
    conn.generation = generation;
    Some(conn)
}

/// Whether nothing was read from or written to a connection yet.
#[inline(always)]
pub fn is_new(conn: &mut Conn) -> bool {
    conn.ordinal == 0 && conn.first_read_ns == 0 && conn.request_bytes == 0
}

/// Starts to observe a connection that was accepted before the observer came, if the bytes read from
/// it begin with a request line.
#[inline(always)]
pub fn adopt(
    key: &ConnKey,
    thread: &mut Thread,
    buffer: u64,
    len: u64,
) -> Option<&'static mut Conn> {
    if !may_begin_request(buffer, len) {
        return None;
    }
    let Some(conn) = open(key, thread.generation) else {
        // A later request of this thread must not be matched with another connection.
        thread.last_read_fd = -1;
        return None;
    };
    conn.flags = flags::ADOPTED;
    Some(conn)
}

/// Whether `len` bytes that were read begin with a request line.
#[inline(always)]
fn may_begin_request(buffer: u64, len: u64) -> bool {
    let mut start = [0; START_BYTES];
    len >= START_BYTES as u64 && User.read(buffer, &mut start).is_ok() && begins_request(start)
}

/// Whether the bytes read since the last request are the next request, and not the rest of the last
/// body: Gunicorn reads that rest when the application did not.
#[inline(always)]
pub fn holds_request(conn: &Conn) -> bool {
    let mut start = [0; START_BYTES];
    start.copy_from_slice(&conn.line[..START_BYTES]);
    conn.phase == Phase::Reading as u16 && (conn.ordinal == 0 || begins_request(start))
}

/// Whether the connection serves a request that Python was not seen to enter and whose response has
/// begun.
#[inline(always)]
fn is_answered_unseen(conn: &Conn) -> bool {
    conn.request == 0
        && conn.status != 0
        && (holds_request(conn) || conn.flags & flags::PIPELINED != 0)
}

/// Sends the record of such a request, if its process is observed by system calls alone.
#[inline(always)]
fn finish_unseen(key: &ConnKey, tid: u32, conn: &mut Conn) {
    if is_timed_by_socket(key.tgid) {
        finish(key.tgid, tid, conn, Origin::Socket(key.fd));
    }
}

/// The worker read `len` bytes from the client.
#[inline(always)]
pub fn read(key: &ConnKey, tid: u32, conn: &mut Conn, buffer: u64, len: u64, now: u64) {
    if is_answered_unseen(conn) && may_begin_request(buffer, len) {
        // The end of the response before it could not be seen.
        finish_unseen(key, tid, conn);
    }
    conn.request_bytes += len;
    if conn.phase == Phase::Entered as u16 {
        return; // its body
    }
    if conn.phase == Phase::Reading as u16 && !holds_request(conn) && may_begin_request(buffer, len)
    {
        // The bytes read before were the rest of the last body.
        conn.phase = Phase::Idle as u16;
        conn.line_len = 0;
        conn.request_scan = HeadScan::default();
        conn.request_head_bytes = 0;
        conn.flags &= !flags::LINE_CUT;
    }
    let first = conn.phase == Phase::Idle as u16;
    if first && conn.ordinal > 0 && len >= START_BYTES as u64 && !may_begin_request(buffer, len) {
        return; // the rest of the last body
    }
    if first {
        conn.phase = Phase::Reading as u16;
        conn.first_read_ns = now;
        conn.request_bytes = len;
    }
    if keep_line(conn, buffer, len).is_err() {
        count(Stat::BufferUnreadable);
        return;
    }
    if conn.request_head_bytes != 0 {
        return;
    }
    let start = [conn.line[0], conn.line[1], conn.line[2], conn.line[3]];
    if first && is_bodiless(start) && ends_head(buffer, len) {
        conn.request_head_bytes = len as u32;
        return;
    }
    if let Some(end) = find_head_end(&mut conn.request_scan, buffer, len) {
        conn.request_head_bytes = end;
    }
}

/// Keeps the first bytes of the request, which may come in several pieces.
#[inline(always)]
fn keep_line(conn: &mut Conn, buffer: u64, len: u64) -> Result<(), Fault> {
    let at = conn.line_len as usize;
    if at == 0 {
        let len = if len > HEAD_BYTES as u64 {
            HEAD_BYTES
        } else {
            len as usize
        };
        read_user(buffer, &mut conn.line, 0, len)?;
        conn.line_len = len as u32;
        conn.line_source = LineSource::Wire as u16;
    } else if at < HEAD_BYTES && conn.flags & flags::LINE_CUT == 0 {
        // A later piece: as many bytes as the slack behind any offset allows.
        const MOST: u64 = HEAD_SLACK as u64 - 1;
        if len > MOST {
            conn.flags |= flags::LINE_CUT;
        }
        let len = bounded(if len > MOST { MOST } else { len }, HEAD_SLACK);
        read_user(buffer, &mut conn.line, at & (HEAD_BYTES - 1), len)?;
        let kept = at + len;
        conn.line_len = if kept > HEAD_BYTES {
            HEAD_BYTES as u32
        } else {
            kept as u32
        };
    }
    Ok(())
}

/// Takes method and path from Gunicorn's request object. For a pipelined request, whose first bytes
/// were read together with an earlier request.
#[inline(always)]
pub fn keep_line_of_object(conn: &mut Conn, layout: &Layout, request: u64) -> Result<(), Fault> {
    // Its first byte, its start time and the length of its head are unknown.
    conn.first_read_ns = 0;
    conn.request_bytes = 0;
    conn.request_head_bytes = 0;
    conn.line_len = 0;
    let method = attribute(&User, layout, request, *b"method\0\0")?;
    let path = attribute(&User, layout, request, *b"path\0\0\0\0")?;
    let (method, method_len) = layout.narrow_str(&User, method)?;
    let (path, path_len) = layout.narrow_str(&User, path)?;
    conn.line[..NAME_BYTES].fill(0);
    let method_len = bounded(method_len.min(NAME_BYTES as u64), 2 * NAME_BYTES);
    read_user(method, &mut conn.line, 0, method_len)?;
    let path_len = bounded(path_len.min((HEAD_BYTES - NAME_BYTES) as u64), HEAD_BYTES);
    read_user(path, &mut conn.line, NAME_BYTES, path_len)?;
    conn.line_len = (NAME_BYTES + path_len) as u32;
    conn.line_source = LineSource::Python as u16;
    Ok(())
}

/// Masks a length that is below `limit`, a power of two, so that every verifier knows the bound: that
/// of 5.10 tracks it in the compared register only, not in copies.
#[inline(always)]
fn bounded(len: u64, limit: usize) -> usize {
    // Without the volatile read the compiler would remove the mask.
    // SAFETY: a local variable.
    let len = unsafe { core::ptr::read_volatile(&len) };
    len as usize & (limit - 1)
}

/// Reads `len` user bytes to `line[at..]`. The verifier needs to see the bounds:
/// `at < HEAD_BYTES` and `len < HEAD_SLACK`, or `at == 0` and `len <= HEAD_BYTES`.
#[inline(always)]
fn read_user(
    buffer: u64,
    line: &mut [u8; HEAD_BYTES + HEAD_SLACK],
    at: usize,
    len: usize,
) -> Result<(), Fault> {
    let Some(place) = line.get_mut(at..at + len) else {
        return Err(Fault);
    };
    // SAFETY: the helper checks the source; the destination is a live slice.
    unsafe { bpf_probe_read_user_buf(buffer as *const u8, place) }.map_err(|_| Fault)
}

/// The worker is about to write bytes that may begin a response; `by_socket` if its Python is not
/// read.
#[inline(always)]
pub fn write(conn: &mut Conn, write: Write, by_socket: bool, now: u64) {
    let unread = conn.phase == Phase::Idle as u16;
    if conn.status != 0 || (unread && !(by_socket && conn.ordinal > 0)) {
        return;
    }
    begin_response(conn, write.first.0, write.first.1, now);
    if awaits_last_chunk(conn) {
        write_chunks(conn, write.last, write.total);
    }
}

/// Whether the response ends with its last chunk.
#[inline(always)]
pub fn awaits_last_chunk(conn: &Conn) -> bool {
    conn.response_end == CHUNKED
}

/// The worker is about to write `total` bytes of such a response, which end with `piece`.
#[inline(always)]
pub fn write_chunks(conn: &mut Conn, piece: Piece, total: u64) {
    if ends_chunks(piece) {
        conn.response_end = conn.response_bytes + total;
    }
}

/// Reads the head of a response. It is in one piece: every server under Gunicorn writes it at once.
#[inline(always)]
fn begin_response(conn: &mut Conn, buffer: u64, len: u64, now: u64) {
    if len < STATUS_BYTES as u64 {
        return;
    }
    let Some(Scratch { window, head, .. }) = scratch() else {
        return;
    };
    if read_window(window, buffer, len).is_err() {
        count(Stat::BufferUnreadable);
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
    if conn.request == 0 && conn.phase != Phase::Refused as u16 && !holds_request(conn) {
        // The request was read together with the one before it, or with the rest of that body.
        conn.phase = Phase::Reading as u16;
        conn.flags |= flags::PIPELINED;
        conn.first_read_ns = 0;
        conn.request_bytes = 0;
        conn.line_len = 0;
    }
    conn.status = code;
    conn.first_write_ns = now;
    // Not earlier: the verifier would walk the scan for each path that leads here.
    head.scan(window);
    if head.bytes == 0 && conn.request != 0 && ends_head(buffer, len) {
        // The head is longer than the scanned window, and is written by itself.
        conn.response_head_bytes += len as u32;
    } else if head.bytes == 0 {
        conn.response_head_bytes = 0;
    } else {
        conn.response_head_bytes += head.bytes;
    }
    if conn.request != 0 {
        return; // Python shows its end.
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

/// The status that ends HTTP on a connection: no other response follows it.
const SWITCHING_PROTOCOLS: u16 = 101;

/// The first letters of the request, if they are known.
#[inline(always)]
fn method(conn: &Conn) -> [u8; 4] {
    if conn.line_len < 4 {
        return [0; 4];
    }
    [conn.line[0], conn.line[1], conn.line[2], conn.line[3]]
}

/// Whether a piece ends with the last chunk of a response.
#[inline(always)]
fn ends_chunks((buffer, len): (u64, u64)) -> bool {
    let mut end = [0; LAST_CHUNK.len()];
    if len == LAST_CHUNK_ALONE as u64 {
        let mut alone = [0; LAST_CHUNK_ALONE];
        return User.read(buffer, &mut alone).is_ok() && alone == LAST_CHUNK[2..];
    }
    len >= end.len() as u64
        && User.read(buffer + len - end.len() as u64, &mut end).is_ok()
        && end == LAST_CHUNK
}

/// A write to the client returned.
#[inline(always)]
pub fn written(key: &ConnKey, tid: u32, conn: &mut Conn, result: i64, now: u64) {
    const EINTR: i64 = -4;
    const EAGAIN: i64 = -11;
    if result > 0 {
        conn.response_bytes += result as u64;
        conn.last_write_ns = now;
        if conn.response_end != 0
            && conn.response_bytes >= conn.response_end
            && is_answered_unseen(conn)
        {
            finish_unseen(key, tid, conn);
        }
    } else if result < 0 && result != EAGAIN && result != EINTR {
        conn.flags |= flags::WRITE_FAILED;
    }
}

/// The worker closes the connection.
#[inline(always)]
pub fn close(key: &ConnKey, tid: u32, target: &Target) {
    let Some(conn) = conn(key, target.generation) else {
        return;
    };
    if conn.request != 0 {
        let flow_key = ObjectKey {
            address: conn.request,
            tgid: key.tgid,
            reserved: 0,
        };
        if let Some(flow) = flow(&flow_key, target.generation) {
            if conn.status == 0 && flow.flags & flags::ERROR_HANDLED == 0 {
                let id = u64::from(key.tgid) << 32 | u64::from(tid);
                exception::unanswered(id, target, conn.request, flow);
            }
            if flow.exited_ns == 0 {
                flow.exited_ns = emit::now();
            }
            if conn.status == 0 {
                flow.flags |= flags::CLOSED;
            }
            emit::request(key.tgid, tid, Some(conn), Origin::Flow(flow));
        }
        let _ = FLOWS.remove(flow_key);
    } else if conn.phase == Phase::Refused as u16 {
        emit::request(key.tgid, tid, Some(conn), Origin::Refused(conn.refused_ns));
    } else if is_answered_unseen(conn) {
        finish_unseen(key, tid, conn);
    }
    if conn.client != 0 {
        let client = ObjectKey {
            address: conn.client,
            tgid: key.tgid,
            reserved: 0,
        };
        let _ = CLIENTS.remove(client);
    }
    let _ = CONNS.remove(key);
}

/// The request is done and its response seen: sends its record and readies the connection for the
/// next request.
#[inline(always)]
pub fn finish(tgid: u32, tid: u32, conn: &mut Conn, origin: Origin<'_>) {
    emit::request(tgid, tid, Some(conn), origin);
    conn.established_ns = 0;
    conn.accepted_ns = 0;
    conn.first_read_ns = 0;
    conn.first_write_ns = 0;
    conn.last_write_ns = 0;
    conn.request_bytes = 0;
    conn.response_bytes = 0;
    conn.refused_ns = 0;
    conn.request = 0;
    conn.request_scan = HeadScan::default();
    conn.response_end = 0;
    conn.request_head_bytes = 0;
    conn.response_head_bytes = 0;
    conn.ordinal += 1;
    conn.line_len = 0;
    conn.line_source = LineSource::None as u16;
    conn.status = 0;
    conn.phase = Phase::Idle as u16;
    conn.flags = 0;
}

/// Whether a piece ends with the end of a head, and so holds a head only.
#[inline(always)]
fn ends_head(buffer: u64, len: u64) -> bool {
    let mut end = [0; HEAD_END.len()];
    len >= end.len() as u64
        && User.read(buffer + len - end.len() as u64, &mut end).is_ok()
        && end == HEAD_END
}

/// Scans a piece for the end of a head; returns the length of the head over all pieces.
#[inline(always)]
fn find_head_end(scan: &mut HeadScan, buffer: u64, len: u64) -> Option<u32> {
    if scan.is_lost() {
        return None;
    }
    let window = &mut scratch()?.window;
    if read_window(window, buffer, len).is_err() {
        count(Stat::BufferUnreadable);
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

/// Fills the window with the first of `len` bytes at `buffer`.
#[inline(always)]
fn read_window(window: &mut Window, buffer: u64, len: u64) -> Result<(), Fault> {
    let kept = if len > SCAN_BYTES as u64 {
        SCAN_BYTES
    } else {
        len as usize
    };
    window.len = kept as u32;
    let Some(place) = window.bytes.get_mut(..kept) else {
        return Err(Fault);
    };
    // SAFETY: the helper checks the source; the destination is a live slice.
    unsafe { bpf_probe_read_user_buf(buffer as *const u8, place) }.map_err(|_| Fault)
}

/// Not inlined, so that the verifier walks the loop once for every call instead of once for every
/// path that leads there.
#[inline(never)]
fn scan_request(scan: &mut HeadScan, window: &Window) -> u32 {
    scan.scan(window)
}
