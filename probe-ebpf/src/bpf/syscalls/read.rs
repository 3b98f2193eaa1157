//! The system calls that read a request.

use super::call::{Attempt, argument, backup_probe, begin, continue_with, end, result, returning};
use crate::bpf::kernel::{plain, seen_by_calls};
use crate::bpf::maps::{current, make_scratch};
use crate::bpf::memory;
use crate::bpf::socket::RESET;
use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use probe_ebpf::abi::{ObjectKey, Tail};
use probe_ebpf::machine::Kernel as _;

/// `MSG_PEEK` of `linux/socket.h`: another call reads the same bytes again.
const MSG_PEEK: u64 = 2;

#[inline(always)]
fn receive_called(ctx: &TracePointContext, _: Attempt) {
    if argument::<3>(ctx) & MSG_PEEK == 0
        && let Some(live) = seen_by_calls()
        && let Ok(sock) = memory::sock_of_fd(argument::<0>(ctx) as u32)
    {
        begin(&live, sock, argument::<1>(ctx));
    }
}
backup_probe!(enter_recvfrom, enter_recvfrom_backup, receive_called);
backup_probe!(exit_recvfrom, exit_recvfrom_backup, read_returned);

/// uvloop reads connections by `read` (libuv, `src/unix/stream.c`, `uv__read`), and OpenSSL those that
/// it decrypts.
#[inline(always)]
fn read_called(ctx: &TracePointContext, _: Attempt) {
    let Some(live) = plain() else {
        return;
    };
    let fd = argument::<0>(ctx) as u32;
    if let Ok(sock) = memory::sock_of_fd(fd)
        && (live.conn(ObjectKey::new(live.target.tgid, sock)).is_some() || memory::is_socket(fd))
    {
        begin(&live, sock, argument::<1>(ctx));
    }
}
backup_probe!(enter_read, enter_read_backup, read_called);
backup_probe!(exit_read, exit_read_backup, read_returned);

#[inline(always)]
fn read_returned(ctx: &TracePointContext, _: Attempt) {
    let id = current();
    let Some(call) = returning(id) else {
        return;
    };
    let result = result(ctx);
    if result > 0 {
        continue_with(ctx, Tail::RequestRead);
    } else if (result == 0 || result == i64::from(RESET))
        && let Some(live) = seen_by_calls()
    {
        live.machine().read_end(call.sock);
    }
    // Nothing was read.
    end(id);
}

/// Second half of all programs on reads.
#[tracepoint]
pub fn request_read(ctx: TracePointContext) -> u32 {
    let id = current();
    let (Some(live), Some(call)) = (seen_by_calls(), returning(id)) else {
        end(id);
        return 0;
    };
    end(id);
    make_scratch();
    live.machine()
        .read(call.sock, call.buffer, result(&ctx) as u64);
    0
}
