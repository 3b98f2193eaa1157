//! The system calls that write a response.

use super::call::{Turn, argument, begin_call, go_on, result, returning_call, twin};
use super::conn::{self as connection, Piece, Write};
use super::emit;
use super::maps::{conn, current, make_scratch, scratch, serving_target, thread, unread_target};
use super::memory::User;
use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use probe_ebpf::abi::{Conn, ConnKey, NO_LAYOUT, Tail};
use probe_ebpf::memory::Memory as _;

twin!(enter_sendto, enter_sendto_again, buffer_written);

twin!(exit_sendto, exit_sendto_again, write_returned);

/// uvloop writes to connections as it writes to files (libuv, `src/unix/stream.c`,
/// `uv__try_write`).
#[inline(always)]
fn unread_buffer_written(ctx: &TracePointContext, turn: Turn) {
    if unread_target((current() >> 32) as u32).is_some() {
        buffer_written(ctx, turn);
    }
}
twin!(enter_write, enter_write_again, unread_buffer_written);

twin!(exit_write, exit_write_again, write_returned);

/// Likewise, several pieces at once.
#[inline(always)]
fn unread_pieces_written(ctx: &TracePointContext, turn: Turn) {
    if unread_target((current() >> 32) as u32).is_some()
        && let Some(conn) = write_called(ctx, turn)
    {
        pieces_written(ctx, conn, argument(ctx, 1), argument(ctx, 2));
    }
}
twin!(enter_writev, enter_writev_again, unread_pieces_written);

twin!(exit_writev, exit_writev_again, write_returned);

/// asyncio sends what it could not send at once by `sendmsg`
/// (3.12+, `asyncio/selector_events.py`, `_write_sendmsg`).
#[inline(always)]
fn message_written(ctx: &TracePointContext, turn: Turn) {
    if let Some(conn) = write_called(ctx, turn) {
        let message = argument(ctx, 1);
        // `struct user_msghdr` of `linux/socket.h`: `msg_iov`, `msg_iovlen`.
        let pieces = User.word(message.wrapping_add(16)).unwrap_or(0);
        let count = User.word(message.wrapping_add(24)).unwrap_or(0);
        pieces_written(ctx, conn, pieces, count);
    }
}
twin!(enter_sendmsg, enter_sendmsg_again, message_written);

twin!(exit_sendmsg, exit_sendmsg_again, write_returned);

#[inline(always)]
fn file_written(ctx: &TracePointContext, turn: Turn) {
    write_called(ctx, turn);
}
twin!(enter_sendfile, enter_sendfile_again, file_written);

twin!(exit_sendfile, exit_sendfile_again, write_returned);

/// The connection that is written to, if it is one of a target.
#[inline(always)]
fn write_called(ctx: &TracePointContext, turn: Turn) -> Option<&'static mut Conn> {
    let id = current();
    let tgid = (id >> 32) as u32;
    let target = serving_target(tgid)?;
    let key = ConnKey {
        tgid,
        fd: argument(ctx, 0) as i32,
    };
    let conn = conn(&key, target.generation)?;
    if turn == Turn::Second && thread(id, target.generation).is_some_and(|it| it.fd == key.fd) {
        return None; // it is begun
    }
    begin_call(id, target, key.fd, 0);
    Some(conn)
}

/// A call whose second and third argument are a buffer.
#[inline(always)]
fn buffer_written(ctx: &TracePointContext, turn: Turn) {
    let Some(conn) = write_called(ctx, turn) else {
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
    make_scratch();
    if let Some(scratch) = scratch() {
        scratch.write = Write { first, last, total };
        go_on(ctx, Tail::ResponseBegins);
    }
}

/// What all writes have in common whose bytes may begin a response; the rest of
/// the programs above.
#[tracepoint]
pub fn response_begins(ctx: TracePointContext) -> u32 {
    let tgid = (current() >> 32) as u32;
    let (Some(target), Some(scratch)) = (serving_target(tgid), scratch()) else {
        return 0;
    };
    // It was filled by the program that goes on with this one.
    let write = scratch.write;
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
fn write_returned(ctx: &TracePointContext, _: Turn) {
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
