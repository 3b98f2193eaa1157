//! Connections to Unix sockets: established when `connect` returns.

use super::call::{Attempt, argument, backup_probe, result};
use crate::bpf::maps::{CONNECTING, CONNECTING_SOCKS, UNIX_SOCKS, current};
use crate::bpf::{emit, memory, offsets};
use aya_ebpf::programs::TracePointContext;
use probe_ebpf::abi::Established;
use probe_ebpf::memory::Fault;

/// `connect` to a Unix socket establishes the connection before it returns (`net/unix/af_unix.c`,
/// `unix_stream_connect`).
#[inline(always)]
fn connect_called(ctx: &TracePointContext, _: Attempt) {
    if let Ok(client) = memory::sock_of_fd(argument::<0>(ctx) as u32)
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
pub fn is_unix(sock: u64) -> bool {
    memory::family(sock) == memory::UNIX
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

/// When the Unix socket connection that is accepted now was established; 0 if that is unknown.
#[inline(always)]
pub fn established_ns(sock: u64, now: u64) -> u64 {
    let at = u64::from(offsets::kernel().unix_peer);
    let Ok(client) = memory::kernel::<u64>(sock + at) else {
        return 0;
    };
    // SAFETY: an integer that is not read.
    if unsafe { CONNECTING_SOCKS.get(client) }.is_some() {
        // The client's `connect` has not returned yet.
        return now;
    }
    // SAFETY: as above.
    let Some(&established) = (unsafe { UNIX_SOCKS.get(sock) }) else {
        return 0;
    };
    let _ = UNIX_SOCKS.remove(sock);
    // An entry that no observed process accepted may be that of an earlier socket at this address.
    if client == established.client {
        established.time_ns
    } else {
        0
    }
}
