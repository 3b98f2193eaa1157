//! The system calls that write a response.

use super::call::{Attempt, argument, backup_probe, begin, continue_with, end, result, returning};
use crate::bpf::kernel::Live;
use crate::bpf::kernel::{plain, seen_by_calls, unread};
use crate::bpf::maps::{current, make_scratch};
use crate::bpf::memory::{self, User};
use crate::bpf::pieces::{nth_piece, sum_pieces};
use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use probe_ebpf::abi::{Conn, ObjectKey, Tail};
use probe_ebpf::machine::Kernel as _;
use probe_ebpf::machine::task::FAILED;
use probe_ebpf::machine::wire::{Piece, Write, awaits_last_chunk};
use probe_ebpf::memory::Memory as _;

backup_probe!(enter_sendto, enter_sendto_backup, buffer_written);

backup_probe!(exit_sendto, exit_sendto_backup, write_returned);

/// uvloop writes to connections by `write` (libuv, `src/unix/stream.c`, `uv__try_write`).
#[inline(always)]
fn unread_buffer_written(ctx: &TracePointContext, attempt: Attempt) {
    if plain().is_some() {
        buffer_written(ctx, attempt);
    }
}
backup_probe!(enter_write, enter_write_backup, unread_buffer_written);

backup_probe!(exit_write, exit_write_backup, write_returned);

/// uvloop writes several pieces at once by `writev`.
#[inline(always)]
fn unread_pieces_written(ctx: &TracePointContext, attempt: Attempt) {
    if unread().is_some()
        && let Some((live, conn)) = write_called(ctx, attempt, 0)
    {
        pieces_written(ctx, &live, conn, argument::<1>(ctx), argument::<2>(ctx));
    }
}
backup_probe!(enter_writev, enter_writev_backup, unread_pieces_written);

backup_probe!(exit_writev, exit_writev_backup, write_returned);

/// asyncio sends the rest of a partial write by `sendmsg` (3.12+, `asyncio/selector_events.py`,
/// `_write_sendmsg`).
#[inline(always)]
fn message_written(ctx: &TracePointContext, attempt: Attempt) {
    if let Some((live, conn)) = write_called(ctx, attempt, 0) {
        let message = argument::<1>(ctx);
        // `struct user_msghdr` of `linux/socket.h`: `msg_iov`, `msg_iovlen`.
        let pieces = User.word(message.wrapping_add(16)).unwrap_or(0);
        let count = User.word(message.wrapping_add(24)).unwrap_or(0);
        pieces_written(ctx, &live, conn, pieces, count);
    }
}
backup_probe!(enter_sendmsg, enter_sendmsg_backup, message_written);

backup_probe!(exit_sendmsg, exit_sendmsg_backup, write_returned);

#[inline(always)]
fn file_written(ctx: &TracePointContext, attempt: Attempt) {
    write_called(ctx, attempt, 0);
}
backup_probe!(enter_sendfile, enter_sendfile_backup, file_written);

backup_probe!(exit_sendfile, exit_sendfile_backup, write_returned);

/// The connection that is written to, if it belongs to a target.
#[inline(always)]
fn write_called(
    ctx: &TracePointContext,
    attempt: Attempt,
    buffer: u64,
) -> Option<(Live, &'static mut Conn)> {
    let live = seen_by_calls()?;
    let sock = memory::sock_of_fd(argument::<0>(ctx) as u32).ok()?;
    let conn = live.conn(ObjectKey::new(live.target.tgid, sock))?;
    if attempt == Attempt::Backup && returning(live.id).is_some_and(|call| call.sock == sock) {
        return None; // the first program remembered the call
    }
    begin(&live, sock, buffer);
    Some((live, conn))
}

/// A call whose second and third argument are address and length of a buffer.
#[inline(always)]
fn buffer_written(ctx: &TracePointContext, attempt: Attempt) {
    let buffer = argument::<1>(ctx);
    let Some((live, conn)) = write_called(ctx, attempt, buffer) else {
        return;
    };
    if !live.target.is_by_socket() {
        return;
    }
    let piece = (buffer, argument::<2>(ctx));
    if conn.status == 0 {
        begin_response(ctx, &live, piece, piece, piece.1);
    } else if awaits_last_chunk(conn) {
        live.machine().write_chunks(conn, piece, piece.1);
    }
}

/// A call with an array of `struct iovec`.
#[inline(always)]
fn pieces_written(ctx: &TracePointContext, live: &Live, conn: &mut Conn, pieces: u64, count: u64) {
    if !live.target.is_by_socket() || (conn.status != 0 && !awaits_last_chunk(conn)) {
        return;
    }
    let Some(first) = nth_piece(pieces, 0) else {
        return;
    };
    let (last, total) = sum_pieces(pieces, count).unwrap_or(((0, 0), 0));
    if conn.status == 0 {
        begin_response(ctx, live, first, last, total);
    } else {
        live.machine().write_chunks(conn, last, total);
    }
}

/// Continues with [`response_begins`].
#[inline(always)]
fn begin_response(ctx: &TracePointContext, live: &Live, first: Piece, last: Piece, total: u64) {
    if let Some(thread) = live.make_thread() {
        thread.write = Write { first, last, total }.words();
        continue_with(ctx, Tail::ResponseBegins);
    }
}

/// Second half of all programs on writes whose bytes may begin a response.
#[tracepoint]
pub fn response_begins(ctx: TracePointContext) -> u32 {
    let (Some(live), Some(call)) = (unread(), returning(current())) else {
        return 0;
    };
    let Some(thread) = live.thread() else {
        return 0;
    };
    let write = Write::of(thread.write);
    make_scratch();
    if let Some(conn) = live.conn(ObjectKey::new(live.target.tgid, call.sock)) {
        live.machine().write_begins(conn, write);
        if conn.status >= FAILED && conn.request != 0 && live.machine().has_tasks() {
            continue_with(&ctx, Tail::ResponseFails);
        }
    }
    0
}

#[inline(always)]
fn write_returned(ctx: &TracePointContext, _: Attempt) {
    let id = current();
    let Some(call) = returning(id) else {
        return;
    };
    end(id);
    let Some(live) = seen_by_calls() else {
        return;
    };
    if let Some(conn) = live.conn(ObjectKey::new(live.target.tgid, call.sock)) {
        if conn.awaits_error_page() {
            make_scratch();
        }
        live.machine().written(call.sock, call.buffer, result(ctx));
    }
}
