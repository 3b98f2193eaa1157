//! Connections that are accepted.

use super::call::{Attempt, backup_probe, result};
use super::connect;
use crate::bpf::kernel::serving;
use crate::bpf::maps::{count, mode};
use crate::bpf::{emit, memory};
use aya_ebpf::programs::TracePointContext;
use probe_ebpf::abi::{Mode, Stat};

// CPython calls `accept4` wherever the kernel has it (`Modules/socketmodule.c`, `sock_accept_impl`).
backup_probe!(exit_accept4, exit_accept4_backup, accepted);
// Other interpreters may call `accept`.
backup_probe!(exit_accept, exit_accept_backup, accepted);

#[inline(always)]
fn accepted(ctx: &TracePointContext, _: Attempt) {
    let Some(live) = serving() else { return };
    let fd = result(ctx);
    if fd < 0 {
        return;
    }
    let Ok(sock) = memory::sock_of_fd(fd as u32) else {
        count(Stat::SocketUnreadable);
        return;
    };
    let is_unix = connect::is_unix(sock);
    if !is_unix && reports_itself() {
        return;
    }
    let established_ns = if is_unix {
        connect::established_ns(sock, emit::now())
    } else {
        memory::established_ns(sock)
    };
    live.machine().accepted(sock, established_ns);
}

/// Whether TCP connections report when they are accepted and closed.
#[inline(always)]
pub fn reports_itself() -> bool {
    mode(Mode::Accepts) != 0
}
