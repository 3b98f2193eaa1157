//! The system calls that read a request.

use super::call::{
    Attempt, argument, backup_probe, begin_call, continue_with, result, returning_call,
};
use super::maps::{calling_thread, conn, current, make_scratch, serving_target, unread_target};
use super::{conn as connection, emit, memory};
use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use probe_ebpf::abi::{ConnKey, Tail};

/// `MSG_PEEK` of `linux/socket.h`: another call reads the same bytes again.
const MSG_PEEK: u64 = 2;

#[inline(always)]
fn receive_called(ctx: &TracePointContext, _: Attempt) {
    let id = current();
    if let Some(target) = serving_target((id >> 32) as u32)
        && argument(ctx, 3) & MSG_PEEK == 0
    {
        begin_call(id, target, argument(ctx, 0) as i32, argument(ctx, 1));
    }
}
backup_probe!(enter_recvfrom, enter_recvfrom_backup, receive_called);
backup_probe!(exit_recvfrom, exit_recvfrom_backup, read_returned);

/// uvloop reads connections by `read` (libuv, `src/unix/stream.c`, `uv__read`). In a process whose
/// Python is read, `read` is for files, or for bytes that OpenSSL decrypts.
#[inline(always)]
fn read_called(ctx: &TracePointContext, _: Attempt) {
    let id = current();
    let tgid = (id >> 32) as u32;
    let Some(target) = unread_target(tgid) else {
        return;
    };
    let fd = argument(ctx, 0) as i32;
    let key = ConnKey { tgid, fd };
    if conn(&key, target.generation).is_some() || memory::is_socket(fd as u32) {
        begin_call(id, target, fd, argument(ctx, 1));
    }
}
backup_probe!(enter_read, enter_read_backup, read_called);
backup_probe!(exit_read, exit_read_backup, read_returned);

#[inline(always)]
fn read_returned(ctx: &TracePointContext, _: Attempt) {
    if calling_thread(current()).is_none() {
        return;
    }
    if result(ctx) > 0 {
        continue_with(ctx, Tail::RequestRead);
    }
    // Nothing was read.
    returning_call();
}

/// Second half of all programs on reads.
#[tracepoint]
pub fn request_read(ctx: TracePointContext) -> u32 {
    make_scratch();
    let Some((key, thread)) = returning_call() else {
        return 0;
    };
    let len = result(&ctx) as u64;
    let conn = match conn(&key, thread.generation) {
        Some(conn) => conn,
        None => match connection::adopt(&key, thread, thread.buffer, len) {
            Some(conn) => conn,
            None => return 0,
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
    0
}
