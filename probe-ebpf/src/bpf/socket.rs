//! A connection comes and goes: established, accepted, closed.

use super::call::{argument, result};
use super::maps::{SOCKS, count, current, serving_target};
use super::{conn as connection, emit, memory};
use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use probe_ebpf::abi::{ConnKey, Stat};

/// `TCP_ESTABLISHED`, `TCP_SYN_RECV`, `TCP_CLOSE` of `net/tcp_states.h`.
const ESTABLISHED: i32 = 1;
const SYN_RECV: i32 = 3;
const CLOSE: i32 = 7;

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
    connection::close(&key, id as u32, target);
    0
}
