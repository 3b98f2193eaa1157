//! The system calls that write a response.

use super::call::{
    Attempt, argument, backup_probe, begin_call, continue_with, result, returning_call,
};
use super::maps::{conn, current, make_scratch, scratch, serving_target, thread, unread_target};
use super::memory::User;
use super::scratch::{Piece, Write};
use super::{conn as connection, emit};
use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use probe_ebpf::abi::{Conn, ConnKey, NO_LAYOUT, Tail};
use probe_ebpf::memory::Memory as _;

backup_probe!(enter_sendto, enter_sendto_backup, buffer_written);

backup_probe!(exit_sendto, exit_sendto_backup, write_returned);

/// uvloop writes to connections by `write` (libuv, `src/unix/stream.c`, `uv__try_write`).
#[inline(always)]
fn unread_buffer_written(ctx: &TracePointContext, attempt: Attempt) {
    if unread_target((current() >> 32) as u32).is_some() {
        buffer_written(ctx, attempt);
    }
}
backup_probe!(enter_write, enter_write_backup, unread_buffer_written);

backup_probe!(exit_write, exit_write_backup, write_returned);

/// uvloop writes several pieces at once by `writev`.
#[inline(always)]
fn unread_pieces_written(ctx: &TracePointContext, attempt: Attempt) {
    if unread_target((current() >> 32) as u32).is_some()
        && let Some(conn) = write_called(ctx, attempt)
    {
        pieces_written(ctx, conn, argument(ctx, 1), argument(ctx, 2));
    }
}
backup_probe!(enter_writev, enter_writev_backup, unread_pieces_written);

backup_probe!(exit_writev, exit_writev_backup, write_returned);

/// asyncio sends the rest of a partial write by `sendmsg` (3.12+, `asyncio/selector_events.py`,
/// `_write_sendmsg`).
#[inline(always)]
fn message_written(ctx: &TracePointContext, attempt: Attempt) {
    if let Some(conn) = write_called(ctx, attempt) {
        let message = argument(ctx, 1);
        // `struct user_msghdr` of `linux/socket.h`: `msg_iov`, `msg_iovlen`.
        let pieces = User.word(message.wrapping_add(16)).unwrap_or(0);
        let count = User.word(message.wrapping_add(24)).unwrap_or(0);
        pieces_written(ctx, conn, pieces, count);
    }
}
backup_probe!(enter_sendmsg, enter_sendmsg_backup, message_written);

backup_probe!(exit_sendmsg, exit_sendmsg_backup, write_returned);

#[inline(always)]
fn file_written(ctx: &TracePointContext, attempt: Attempt) {
    write_called(ctx, attempt);
}
backup_probe!(enter_sendfile, enter_sendfile_backup, file_written);

backup_probe!(exit_sendfile, exit_sendfile_backup, write_returned);

/// The connection that is written to, if it belongs to a target.
#[inline(always)]
fn write_called(ctx: &TracePointContext, attempt: Attempt) -> Option<&'static mut Conn> {
    let id = current();
    let tgid = (id >> 32) as u32;
    let target = serving_target(tgid)?;
    let key = ConnKey {
        tgid,
        fd: argument(ctx, 0) as i32,
    };
    let conn = conn(&key, target.generation)?;
    if attempt == Attempt::Backup && thread(id, target.generation).is_some_and(|it| it.fd == key.fd)
    {
        return None; // the first program remembered the call
    }
    begin_call(id, target, key.fd, 0);
    Some(conn)
}

/// A call whose second and third argument are address and length of a buffer.
#[inline(always)]
fn buffer_written(ctx: &TracePointContext, attempt: Attempt) {
    let Some(conn) = write_called(ctx, attempt) else {
        return;
    };
    let piece = (argument(ctx, 1), argument(ctx, 2));
    if conn.status == 0 {
        begin_response(ctx, piece, piece, piece.1);
    } else if connection::awaits_last_chunk(conn) {
        connection::write_chunks(conn, piece, piece.1);
    }
}

/// A call with an array of `struct iovec`.
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

/// Continues with [`response_begins`].
#[inline(always)]
fn begin_response(ctx: &TracePointContext, first: Piece, last: Piece, total: u64) {
    make_scratch();
    if let Some(scratch) = scratch() {
        scratch.write = Write { first, last, total };
        continue_with(ctx, Tail::ResponseBegins);
    }
}

/// Second half of all programs on writes whose bytes may begin a response.
#[tracepoint]
pub fn response_begins(ctx: TracePointContext) -> u32 {
    let tgid = (current() >> 32) as u32;
    let (Some(target), Some(scratch)) = (serving_target(tgid), scratch()) else {
        return 0;
    };
    // The program that continued with this one filled it.
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
fn write_returned(ctx: &TracePointContext, _: Attempt) {
    let Some((key, thread)) = returning_call() else {
        return;
    };
    if let Some(conn) = conn(&key, thread.generation) {
        connection::written(&key, current() as u32, conn, result(ctx), emit::now());
    }
}

/// Most pieces of one write that are added up. The size of a larger write is unknown before it
/// returns.
const MAX_PIECES: u64 = 16;

/// An element of an array of `struct iovec`.
#[inline(always)]
fn nth_piece(pieces: u64, n: u64) -> Option<Piece> {
    let at = pieces.wrapping_add(n.wrapping_mul(16));
    let base = User.word(at).ok()?;
    Some((base, User.word(at.wrapping_add(8)).ok()?))
}

/// The last piece, and the bytes of all pieces.
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
