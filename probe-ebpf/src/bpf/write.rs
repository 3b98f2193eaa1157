//! The system calls that write a response.

use super::call::{argument, begin_call, go_on, result, returning_call};
use super::conn::{self as connection, Piece, Write};
use super::emit;
use super::maps::{WRITE, conn, current, serving_target, unread_target};
use super::memory::User;
use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use probe_ebpf::abi::{Conn, ConnKey, NO_LAYOUT, Tail};
use probe_ebpf::memory::Memory as _;

#[tracepoint]
pub fn enter_sendto(ctx: TracePointContext) -> u32 {
    buffer_written(&ctx);
    0
}

#[tracepoint]
pub fn exit_sendto(ctx: TracePointContext) -> u32 {
    write_returned(&ctx);
    0
}

/// uvloop writes to connections as it writes to files (libuv, `src/unix/stream.c`,
/// `uv__try_write`).
#[tracepoint]
pub fn enter_write(ctx: TracePointContext) -> u32 {
    if unread_target((current() >> 32) as u32).is_some() {
        buffer_written(&ctx);
    }
    0
}

#[tracepoint]
pub fn exit_write(ctx: TracePointContext) -> u32 {
    write_returned(&ctx);
    0
}

/// Likewise, several pieces at once.
#[tracepoint]
pub fn enter_writev(ctx: TracePointContext) -> u32 {
    if unread_target((current() >> 32) as u32).is_some()
        && let Some(conn) = write_called(&ctx)
    {
        pieces_written(&ctx, conn, argument(&ctx, 1), argument(&ctx, 2));
    }
    0
}

#[tracepoint]
pub fn exit_writev(ctx: TracePointContext) -> u32 {
    write_returned(&ctx);
    0
}

/// asyncio sends what it could not send at once by `sendmsg`
/// (3.12+, `asyncio/selector_events.py`, `_write_sendmsg`).
#[tracepoint]
pub fn enter_sendmsg(ctx: TracePointContext) -> u32 {
    if let Some(conn) = write_called(&ctx) {
        let message = argument(&ctx, 1);
        // `struct user_msghdr` of `linux/socket.h`: `msg_iov`, `msg_iovlen`.
        let pieces = User.word(message.wrapping_add(16)).unwrap_or(0);
        let count = User.word(message.wrapping_add(24)).unwrap_or(0);
        pieces_written(&ctx, conn, pieces, count);
    }
    0
}

#[tracepoint]
pub fn exit_sendmsg(ctx: TracePointContext) -> u32 {
    write_returned(&ctx);
    0
}

#[tracepoint]
pub fn enter_sendfile(ctx: TracePointContext) -> u32 {
    write_called(&ctx);
    0
}

#[tracepoint]
pub fn exit_sendfile(ctx: TracePointContext) -> u32 {
    write_returned(&ctx);
    0
}

/// The connection that is written to, if it is one of a target.
#[inline(always)]
fn write_called(ctx: &TracePointContext) -> Option<&'static mut Conn> {
    let id = current();
    let tgid = (id >> 32) as u32;
    let target = serving_target(tgid)?;
    let key = ConnKey {
        tgid,
        fd: argument(ctx, 0) as i32,
    };
    let conn = conn(&key, target.generation)?;
    begin_call(id, target, key.fd, 0);
    Some(conn)
}

/// A call whose second and third argument are a buffer.
#[inline(always)]
fn buffer_written(ctx: &TracePointContext) {
    let Some(conn) = write_called(ctx) else {
        return;
    };
    let piece = (argument(ctx, 1), argument(ctx, 2));
    if conn.status == 0 {
        begin_response(ctx, piece, piece, piece.1);
    } else if connection::awaits_last_chunk(conn) {
        connection::write_chunks(conn, piece, piece.1);
    }
}

/// One with an array of `struct iovec`.
#[inline(always)]
fn pieces_written(ctx: &TracePointContext, conn: &mut Conn, pieces: u64, count: u64) {
    if conn.status != 0 && !connection::awaits_last_chunk(conn) {
        return;
    }
    let Some(first) = nth_piece(pieces, 0) else {
        return;
    };
    let (last, total) = sum_pieces(pieces, count).unwrap_or(((0, 0), 0));
    if conn.status == 0 {
        begin_response(ctx, first, last, total);
    } else {
        connection::write_chunks(conn, last, total);
    }
}

/// Goes on with [`response_begins`].
#[inline(always)]
fn begin_response(ctx: &TracePointContext, first: Piece, last: Piece, total: u64) {
    if let Some(write) = WRITE.get_ptr_mut(0) {
        // SAFETY: per-CPU memory, and a tracepoint is not preempted.
        unsafe { *write = Write { first, last, total } };
        go_on(ctx, Tail::ResponseBegins);
    }
}

/// What all writes have in common whose bytes may begin a response; the rest of
/// the programs above.
#[tracepoint]
pub fn response_begins(ctx: TracePointContext) -> u32 {
    let tgid = (current() >> 32) as u32;
    let (Some(target), Some(write)) = (serving_target(tgid), WRITE.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: as above; it was filled by the program that this one goes on with.
    let write = unsafe { *write };
    let key = ConnKey {
        tgid,
        fd: argument(&ctx, 0) as i32,
    };
    if let Some(conn) = conn(&key, target.generation) {
        let by_socket = target.layout == NO_LAYOUT;
        connection::write(conn, write, by_socket, emit::now());
    }
    0
}

#[inline(always)]
fn write_returned(ctx: &TracePointContext) {
    let Some((key, thread)) = returning_call() else {
        return;
    };
    if let Some(conn) = conn(&key, thread.generation) {
        connection::written(&key, current() as u32, conn, result(ctx), emit::now());
    }
}

/// Pieces of one write that are added up. With more, its size is not known
/// before it returns.
const MAX_PIECES: u64 = 16;

/// An element of an array of `struct iovec`.
#[inline(always)]
fn nth_piece(pieces: u64, n: u64) -> Option<Piece> {
    let at = pieces.wrapping_add(n.wrapping_mul(16));
    let base = User.word(at).ok()?;
    Some((base, User.word(at.wrapping_add(8)).ok()?))
}

/// The last of them, and the bytes of all.
#[inline(always)]
fn sum_pieces(pieces: u64, count: u64) -> Option<(Piece, u64)> {
    if count > MAX_PIECES {
        return None;
    }
    let (mut last, mut total) = ((0, 0), 0_u64);
    for n in 0..MAX_PIECES {
        if n >= count {
            break;
        }
        last = nth_piece(pieces, n)?;
        total = total.wrapping_add(last.1);
    }
    Some((last, total))
}
