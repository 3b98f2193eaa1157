//! Connections: established, accepted, closed.

use super::call::{Attempt, argument, backup_probe, continue_with, result};
use super::maps::{
    CONNECTING, CONNECTING_SOCKS, SOCKS, UNIX_SOCKS, conn, count, current, serving_target,
};
use super::{conn as connection, emit, memory, offsets};
use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use probe_ebpf::abi::{ConnKey, Established, Stat, Tail};
use probe_ebpf::memory::Fault;

/// `TCP_ESTABLISHED`, `TCP_SYN_RECV`, `TCP_CLOSE` of `net/tcp_states.h`.
const ESTABLISHED: i32 = 1;
const SYN_RECV: i32 = 3;
const CLOSE: i32 = 7;

/// `inet_sock_set_state(sk, oldstate, newstate)`: a connection is ready to be accepted. Runs in the
/// context of the interrupted process.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn socket_established(ctx: RawTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    match (ctx.arg::<i32>(1), ctx.arg::<i32>(2)) {
        // Overwrites the entry of an earlier socket at the same address.
        (SYN_RECV, ESTABLISHED) => _ = SOCKS.insert(sock, emit::now(), 0),
        (_, CLOSE) => _ = SOCKS.remove(sock),
        _ => {}
    }
    0
}

/// `AF_UNIX` of `linux/socket.h`.
const UNIX: u16 = 1;

/// `connect` to a Unix socket establishes the connection before it returns (`net/unix/af_unix.c`,
/// `unix_stream_connect`).
#[inline(always)]
fn connect_called(ctx: &TracePointContext, _: Attempt) {
    if let Ok(client) = memory::sock_of_fd(argument(ctx, 0) as u32)
        && is_unix(client)
    {
        let thread = current();
        let _ = CONNECTING.insert(thread, client, 0);
        let _ = CONNECTING_SOCKS.insert(client, thread, 0);
    }
}
backup_probe!(enter_connect, enter_connect_backup, connect_called);
backup_probe!(exit_connect, exit_connect_backup, connect_returned);

#[inline(always)]
fn connect_returned(ctx: &TracePointContext, _: Attempt) {
    let id = current();
    // SAFETY: an integer, copied at once.
    if let Some(&client) = unsafe { CONNECTING.get(id) } {
        if result(ctx) == 0 {
            let _ = connected(client);
        }
        let _ = CONNECTING.remove(id);
        let _ = CONNECTING_SOCKS.remove(client);
    }
}

/// Whether a `struct sock` belongs to a Unix socket.
#[inline(always)]
fn is_unix(sock: u64) -> bool {
    let family = memory::kernel::<u16>(sock + u64::from(offsets::kernel().sock_family));
    family.is_ok_and(|family| family == UNIX)
}

/// The other end waits to be accepted from now on, unless it was accepted already.
#[inline(always)]
fn connected(client: u64) -> Result<(), Fault> {
    let at = offsets::kernel();
    let server: u64 = memory::kernel(client + u64::from(at.unix_peer))?;
    // `accept` sets it (`sock_graft`); the other end of a datagram socket has its own already.
    if server == 0 || memory::kernel::<u64>(server + u64::from(at.sock_socket))? != 0 {
        // An entry here is that of an earlier socket at the same address.
        let _ = UNIX_SOCKS.remove(server);
        return Ok(());
    }
    let established = Established {
        time_ns: emit::now(),
        client,
    };
    let _ = UNIX_SOCKS.insert(server, established, 0);
    Ok(())
}

/// When the Unix socket connection that is accepted now was established.
#[inline(always)]
fn unix_established(sock: u64, now: u64) -> Option<u64> {
    if !is_unix(sock) {
        return None;
    }
    let client: u64 = memory::kernel(sock + u64::from(offsets::kernel().unix_peer)).ok()?;
    // SAFETY: an integer that is not read.
    if unsafe { CONNECTING_SOCKS.get(client) }.is_some() {
        // The client's `connect` has not returned yet.
        return Some(now);
    }
    // SAFETY: as above.
    let established = *unsafe { UNIX_SOCKS.get(sock) }?;
    let _ = UNIX_SOCKS.remove(sock);
    // An entry that no observed process accepted may be that of an earlier socket at this address.
    (client == established.client).then_some(established.time_ns)
}

// CPython calls `accept4` wherever the kernel has it (`Modules/socketmodule.c`, `sock_accept_impl`).
backup_probe!(exit_accept4, exit_accept4_backup, accepted);
// Other interpreters may call `accept`.
backup_probe!(exit_accept, exit_accept_backup, accepted);

#[inline(always)]
fn accepted(ctx: &TracePointContext, attempt: Attempt) {
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
    if attempt == Attempt::Backup && conn(&key, target.generation).is_some_and(connection::is_new) {
        return; // the first program opened it
    }
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
    } else if let Some(established) = unix_established(sock, conn.accepted_ns) {
        conn.established_ns = established;
    }
}

#[inline(always)]
fn close_called(ctx: &TracePointContext, _: Attempt) {
    let tgid = (current() >> 32) as u32;
    let fd = argument(ctx, 0) as i32;
    if let Some(target) = serving_target(tgid)
        && conn(&ConnKey { tgid, fd }, target.generation).is_some()
    {
        continue_with(ctx, Tail::ConnectionCloses);
    }
}
backup_probe!(enter_close, enter_close_backup, close_called);

/// Second half of the programs on `close`.
#[tracepoint]
pub fn connection_closes(ctx: TracePointContext) -> u32 {
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
