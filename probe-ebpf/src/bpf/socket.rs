//! The system calls of a request: accept, read, write, close. They wait for
//! nothing and keep only what `conn` makes of them.

use super::conn::{self as connection, Piece};
use super::maps::{SOCKS, THREADS, calling_thread, conn, count, current, serving_target, thread};
use super::memory::User;
use super::{emit, memory, offsets};
use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use probe_ebpf::abi::{Conn, ConnKey, NO_LAYOUT, Stat, Target, Thread};
use probe_ebpf::memory::Memory as _;

/// `TCP_ESTABLISHED`, `TCP_SYN_RECV`, `TCP_CLOSE` of `net/tcp_states.h`.
const ESTABLISHED: i32 = 1;
const SYN_RECV: i32 = 3;
const CLOSE: i32 = 7;
/// `MSG_PEEK` of `linux/socket.h`: bytes so read are read again.
const MSG_PEEK: u64 = 2;

/// `inet_sock_set_state(sk, oldstate, newstate)`: a connection is ready to be
/// accepted. Runs in the context of whoever is interrupted.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn socket_established(ctx: RawTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    match (ctx.arg::<i32>(1), ctx.arg::<i32>(2)) {
        // The address of an earlier socket may be in use again: overwrite.
        (SYN_RECV, ESTABLISHED) => _ = SOCKS.insert(sock, emit::now(), 0),
        (_, CLOSE) => _ = SOCKS.remove(sock),
        _ => {}
    }
    0
}

/// CPython calls `accept4` wherever the kernel has it (`Modules/socketmodule.c`, `sock_accept_impl`).
#[tracepoint]
pub fn exit_accept4(ctx: TracePointContext) -> u32 {
    accepted(&ctx);
    0
}

/// Other interpreters may not.
#[tracepoint]
pub fn exit_accept(ctx: TracePointContext) -> u32 {
    accepted(&ctx);
    0
}

#[inline(always)]
fn accepted(ctx: &TracePointContext) {
    let tgid = (current() >> 32) as u32;
    let Some(target) = serving_target(tgid) else {
        return;
    };
    let fd = result(ctx);
    if fd < 0 {
        return;
    }
    let key = ConnKey {
        tgid,
        fd: fd as i32,
    };
    let Some(conn) = connection::open(&key, target.generation) else {
        return;
    };
    conn.accepted_ns = emit::now();
    let Ok(sock) = memory::sock_of_fd(fd as u32) else {
        count(Stat::SocketUnreadable);
        return;
    };
    // SAFETY: an integer, copied at once.
    if let Some(established) = unsafe { SOCKS.get(sock) } {
        conn.established_ns = *established;
        let _ = SOCKS.remove(sock);
    }
}

#[tracepoint]
pub fn enter_recvfrom(ctx: TracePointContext) -> u32 {
    let id = current();
    let Some(target) = serving_target((id >> 32) as u32) else {
        return 0;
    };
    if argument(&ctx, 3) & MSG_PEEK == 0 {
        begin_call(id, target, argument(&ctx, 0) as i32, argument(&ctx, 1));
    }
    0
}

#[tracepoint]
pub fn exit_recvfrom(ctx: TracePointContext) -> u32 {
    read_returned(&ctx);
    0
}

#[inline(always)]
fn read_returned(ctx: &TracePointContext) {
    let Some((key, thread)) = returning_call() else {
        return;
    };
    let len = result(ctx);
    if len <= 0 {
        return;
    }
    let len = len as u64;
    let conn = match conn(&key, thread.generation) {
        Some(conn) => conn,
        None => match connection::adopt(&key, thread, thread.buffer, len) {
            Some(conn) => conn,
            None => return,
        },
    };
    thread.last_read_fd = key.fd;
    connection::read(
        &key,
        current() as u32,
        conn,
        thread.buffer,
        len,
        emit::now(),
    );
}

#[tracepoint]
pub fn enter_sendto(ctx: TracePointContext) -> u32 {
    let piece = (argument(&ctx, 1), argument(&ctx, 2));
    if let Some(conn) = write_called(&ctx, Some(piece))
        && connection::awaits_last_chunk(conn)
    {
        connection::write_chunks(conn, piece, piece.1);
    }
    0
}

#[tracepoint]
pub fn exit_sendto(ctx: TracePointContext) -> u32 {
    write_returned(&ctx);
    0
}

/// asyncio sends what it could not send at once by `sendmsg`
/// (3.12+, `asyncio/selector_events.py`, `_write_sendmsg`).
#[tracepoint]
pub fn enter_sendmsg(ctx: TracePointContext) -> u32 {
    let message = argument(&ctx, 1);
    // `struct user_msghdr` of `linux/socket.h`: `msg_iov`, `msg_iovlen`.
    let pieces = User.word(message.wrapping_add(16)).unwrap_or(0);
    let count = User.word(message.wrapping_add(24)).unwrap_or(0);
    if let Some(conn) = write_called(&ctx, nth_piece(pieces, 0))
        && connection::awaits_last_chunk(conn)
        && let Some((last, total)) = sum_pieces(pieces, count)
    {
        connection::write_chunks(conn, last, total);
    }
    0
}

#[tracepoint]
pub fn exit_sendmsg(ctx: TracePointContext) -> u32 {
    write_returned(&ctx);
    0
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

#[tracepoint]
pub fn enter_sendfile(ctx: TracePointContext) -> u32 {
    write_called(&ctx, None);
    0
}

#[tracepoint]
pub fn exit_sendfile(ctx: TracePointContext) -> u32 {
    write_returned(&ctx);
    0
}

/// The connection that is written to, if it is one of a target; `piece` is what
/// is written first, where user memory holds it.
#[inline(always)]
fn write_called(ctx: &TracePointContext, piece: Option<Piece>) -> Option<&'static mut Conn> {
    let id = current();
    let tgid = (id >> 32) as u32;
    let target = serving_target(tgid)?;
    let key = ConnKey {
        tgid,
        fd: argument(ctx, 0) as i32,
    };
    let conn = conn(&key, target.generation)?;
    if let Some(piece) = piece {
        let by_socket = target.layout == NO_LAYOUT;
        connection::write(conn, piece, by_socket, emit::now());
    }
    begin_call(id, target, key.fd, 0);
    Some(conn)
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

#[tracepoint]
pub fn enter_close(ctx: TracePointContext) -> u32 {
    let id = current();
    let tgid = (id >> 32) as u32;
    let Some(target) = serving_target(tgid) else {
        return 0;
    };
    let key = ConnKey {
        tgid,
        fd: argument(&ctx, 0) as i32,
    };
    connection::close(&key, id as u32, target.generation);
    0
}

/// Remembers a call until it returns.
#[inline(always)]
fn begin_call(id: u64, target: &Target, fd: i32, buffer: u64) {
    if let Some(thread) = thread(id, target.generation) {
        thread.fd = fd;
        thread.buffer = buffer;
        return;
    }
    let new = Thread {
        generation: target.generation,
        buffer,
        fd,
        last_read_fd: -1,
    };
    if THREADS.insert(id, new, 0).is_err() {
        count(Stat::ThreadsFull);
    }
}

/// The call that returns to this thread, if its beginning was of interest: of
/// which descriptor. It is over with this.
#[inline(always)]
fn returning_call() -> Option<(ConnKey, &'static mut Thread)> {
    let id = current();
    let thread = calling_thread(id)?;
    let key = ConnKey {
        tgid: (id >> 32) as u32,
        fd: thread.fd,
    };
    thread.fd = -1;
    Some((key, thread))
}

/// The `n`th argument of a system call; 0 if it cannot be read.
#[inline(always)]
fn argument(ctx: &TracePointContext, n: usize) -> u64 {
    // SAFETY: the offset is the kernel's own; the helper checks the read.
    unsafe { ctx.read_at(offsets::tracepoint().enter_args as usize + n * 8) }.unwrap_or(0)
}

/// What a system call returned; -1 if it cannot be read.
#[inline(always)]
fn result(ctx: &TracePointContext) -> i64 {
    // SAFETY: as above.
    unsafe { ctx.read_at(offsets::tracepoint().exit_ret as usize) }.unwrap_or(-1)
}
