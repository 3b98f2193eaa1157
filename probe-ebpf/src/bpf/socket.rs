//! What workers do with their sockets, as the sockets themselves report it: no system call is hooked.
//!
//! Where a kernel does not report it, `syscalls` does. Accepts and closes of Unix sockets need `syscalls` on
//! every kernel.

use super::kernel::serving;
use super::maps::{
    IO_TAILS, SOCKET_TAILS, current, exited_target, left_conn, make_scratch, target,
};
use super::memory;
use super::memory::User;
use super::pieces::{nth_piece, sum_pieces};
use super::{emit, exception};
use aya_ebpf::helpers::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::{
    macros::{cgroup_sock, cgroup_sock_addr, raw_tracepoint},
    programs::{RawTracePointContext, SockAddrContext, SockContext},
};
use probe_ebpf::abi::{IoTail, LostFrom, ObjectKey, Role, SocketTail, target_flags};
use probe_ebpf::machine::task::FAILED;
use probe_ebpf::machine::wire::{Write, awaits_last_chunk};
use probe_ebpf::machine::{Kernel as _, is_unread};
use probe_ebpf::memory::Memory as _;

/// `MSG_PEEK` of `linux/socket.h`: another call reads the same bytes again.
const MSG_PEEK: u32 = 2;
/// `ECONNRESET` of `asm-generic/errno.h`, as the result of a call.
pub const RESET: i32 = -104;
/// What a program on a control group returns to let things take their course.
const PROCEED: i32 = 1;

/// `sock_recv_length(sk, ret, flags)`: runs at the end of each read from a socket, in the thread that
/// reads (`net/socket.c`).
#[raw_tracepoint(tracepoint = "sock_recv_length")]
pub fn socket_read(ctx: RawTracePointContext) -> i32 {
    let Some(live) = serving() else {
        return 0;
    };
    if live.target.is_by_socket() {
        continue_with(&ctx, IoTail::Read);
        return 0;
    }
    let result: i32 = ctx.arg(1);
    let peeked = ctx.arg::<u32>(2) & MSG_PEEK != 0;
    if result > 0 && !peeked {
        live.machine()
            .read_python(ctx.arg(0), buffer(), result as u64);
    } else if result == 0 || result == RESET {
        live.machine().read_end(ctx.arg(0));
    }
    0
}

/// `sock_send_length(sk, ret, flags)`: the same for writes.
#[raw_tracepoint(tracepoint = "sock_send_length")]
pub fn socket_written(ctx: RawTracePointContext) -> i32 {
    let Some(live) = serving() else {
        return 0;
    };
    if live.target.is_by_socket() {
        continue_with(&ctx, IoTail::Written);
        return 0;
    }
    let sock: u64 = ctx.arg(0);
    let result: i32 = ctx.arg(1);
    let key = ObjectKey::new(live.target.tgid, sock);
    if let Some(conn) = live.conn(key) {
        if conn.awaits_error_page() {
            make_scratch();
        }
        live.machine()
            .written_python(conn, buffer(), i64::from(result));
    }
    0
}

/// Continues with another program; returns only if that is missing.
#[inline(always)]
fn continue_with(ctx: &RawTracePointContext, tail: IoTail) {
    // SAFETY: programs of the array take the same context.
    unsafe { IO_TAILS.tail_call(ctx, tail as u32) }
}

/// A read of a process whose requests are seen by the bytes of its sockets.
#[raw_tracepoint(tracepoint = "sock_recv_length")]
pub fn wire_read(ctx: RawTracePointContext) -> i32 {
    let Some(live) = serving() else {
        return 0;
    };
    let (sock, result): (u64, i32) = (ctx.arg(0), ctx.arg(1));
    let peeked = ctx.arg::<u32>(2) & MSG_PEEK != 0;
    if result > 0 && !peeked {
        make_scratch();
        live.machine().read(sock, buffer(), result as u64);
    } else if result == 0 || result == RESET {
        live.machine().read_end(sock);
    }
    0
}

/// The same for a write.
#[raw_tracepoint(tracepoint = "sock_send_length")]
pub fn wire_written(ctx: RawTracePointContext) -> i32 {
    let Some(live) = serving() else {
        return 0;
    };
    let (sock, result): (u64, i32) = (ctx.arg(0), ctx.arg(1));
    let Some(conn) = live.conn(ObjectKey::new(live.target.tgid, sock)) else {
        return 0;
    };
    if result > 0 && (conn.status == 0 || awaits_last_chunk(conn)) {
        let write = written(result as u64);
        if conn.status == 0 {
            if let Some(thread) = live.make_thread() {
                thread.write = write.words();
                continue_with(&ctx, IoTail::ResponseBegins);
            }
            return 0;
        }
        live.machine().write_chunks(conn, write.last, write.total);
    }
    live.machine().written_wire(conn, i64::from(result));
    0
}

/// The same, where the bytes may begin a response.
#[raw_tracepoint(tracepoint = "sock_send_length")]
pub fn wire_begins(ctx: RawTracePointContext) -> i32 {
    let Some(live) = serving() else {
        return 0;
    };
    let sock: u64 = ctx.arg(0);
    let conn = live.conn(ObjectKey::new(live.target.tgid, sock));
    let (Some(conn), Some(thread)) = (conn, live.thread()) else {
        return 0;
    };
    make_scratch();
    live.machine().write_begins(conn, Write::of(thread.write));
    let has_failed = conn.status >= FAILED && conn.request != 0;
    live.machine()
        .written_wire(conn, i64::from(ctx.arg::<i32>(1)));
    if has_failed && live.machine().has_tasks() {
        continue_with(&ctx, IoTail::ResponseFails);
    }
    0
}

/// A task wrote a response that failed, or a part of it.
#[raw_tracepoint(tracepoint = "sock_send_length")]
pub fn response_failed(_ctx: RawTracePointContext) -> i32 {
    if let Some(live) = serving() {
        exception::answered(&live);
    }
    0
}

/// The bytes of a write that returned: all that its call had, or a part of them.
#[inline(always)]
fn written(result: u64) -> Write {
    let (address, length) = (register(Register::Second), register(Register::Third));
    let (pieces, count) = match register(Register::Call) {
        calls::WRITEV => (address, length),
        // `struct user_msghdr` of `linux/socket.h`: `msg_iov`, `msg_iovlen`.
        calls::SENDMSG => (
            User.peek(address.wrapping_add(16)),
            User.peek(address.wrapping_add(24)),
        ),
        // The bytes of a file are in no buffer.
        calls::SENDFILE => (0, 0),
        _ => {
            let whole = (address, result);
            return Write {
                first: whole,
                last: whole,
                total: result,
            };
        }
    };
    let first = nth_piece(pieces, 0).unwrap_or((0, 0));
    match sum_pieces(pieces, count) {
        // The rest follows, and the last chunk with it.
        Some((_, total)) if total != result => Write {
            first,
            last: (0, 0),
            total: result,
        },
        Some((last, total)) => Write { first, last, total },
        None => Write {
            first,
            last: (0, 0),
            total: 0,
        },
    }
}

/// User address of the bytes of the current call: the second argument of `recvfrom`, `sendto`, `read`
/// and `write` alike.
#[inline(always)]
fn buffer() -> u64 {
    register(Register::Second)
}

/// A register of the current system call.
#[derive(Clone, Copy)]
enum Register {
    /// Its number.
    Call,
    Second,
    Third,
}

/// `rsi`, `rdx` and `orig_ax` of `struct pt_regs` (`arch/x86/include/asm/ptrace.h`).
#[cfg(not(bpf_target_arch = "aarch64"))]
const REGISTERS: [usize; 3] = [15, 13, 12];
/// `syscallno`, `regs[1]` and `regs[2]` of `struct pt_regs` (`arch/arm64/include/asm/ptrace.h`).
#[cfg(bpf_target_arch = "aarch64")]
const REGISTERS: [usize; 3] = [35, 1, 2];

/// Numbers of system calls (`asm/unistd_64.h`).
#[cfg(not(bpf_target_arch = "aarch64"))]
mod calls {
    pub const WRITEV: u64 = 20;
    pub const SENDFILE: u64 = 40;
    pub const SENDMSG: u64 = 46;
}
/// The same (`asm-generic/unistd.h`).
#[cfg(bpf_target_arch = "aarch64")]
mod calls {
    pub const WRITEV: u64 = 66;
    pub const SENDFILE: u64 = 71;
    pub const SENDMSG: u64 = 211;
}

#[inline(always)]
fn register(register: Register) -> u64 {
    // SAFETY: helpers without preconditions; the registers outlive the call.
    let value = unsafe {
        let registers = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const u64;
        *registers.add(REGISTERS[register as usize])
    };
    match register {
        // An `int` with something else behind it.
        Register::Call => value & u64::from(u32::MAX),
        Register::Second | Register::Third => value,
    }
}

/// `accept4` asks for the name of its peer (`net/socket.c`, `do_accept`).
#[cgroup_sock_addr(getpeername4)]
pub fn connection_accepted4(ctx: SockAddrContext) -> i32 {
    accepted(&ctx);
    PROCEED
}

/// The same for IPv6.
#[cgroup_sock_addr(getpeername6)]
pub fn connection_accepted6(ctx: SockAddrContext) -> i32 {
    accepted(&ctx);
    PROCEED
}

#[inline(always)]
fn accepted(ctx: &SockAddrContext) {
    let Some(live) = serving() else {
        return;
    };
    // SAFETY: the verifier checks reads of the context, and that the pointer is not null.
    let sock = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if sock.is_null() {
        return;
    }
    // SAFETY: as above.
    let port = unsafe { (*sock).src_port };
    if live.target.accepts_on(port as u16) {
        let sock = memory::address(sock as u64);
        let established = memory::established_ns(sock);
        live.machine().accepted(sock, established);
    }
}

/// The last descriptor of a socket is closed (`net/ipv4/af_inet.c`, `inet_release`).
#[cgroup_sock(sock_release)]
pub fn connection_closed(ctx: SockContext) -> i32 {
    if let Some(live) = serving() {
        // The context is the socket itself (`__cgroup_bpf_run_filter_sk`).
        let sock = memory::address(ctx.sock as u64);
        if live.machine().is_unanswered(sock) {
            // SAFETY: programs of the array take the same context.
            unsafe { SOCKET_TAILS.tail_call(&ctx, SocketTail::Unanswered as u32) }
        }
        if live.machine().closed(sock) {
            return PROCEED;
        }
    }
    other_closed(&ctx);
    PROCEED
}

/// A socket is closed that is no connection of a target which runs. A worker or master that exits closes
/// its sockets when it is none any more. What waits in a listener that nobody else has open is thrown away.
#[inline(always)]
fn other_closed(ctx: &SockContext) {
    let tgid = (current() >> 32) as u32;
    let running = target(tgid);
    let Some(target) = running.or_else(|| exited_target(tgid)) else {
        return;
    };
    if target.role == Role::Bystander as u32 {
        return;
    }
    // Not before: every process of the host closes sockets.
    let sock = memory::address(ctx.sock as u64);
    if running.is_none()
        && !target.is_by_socket()
        && target.flags & target_flags::TLS == 0
        && let Some(conn) = left_conn(ObjectKey::new(tgid, sock))
    {
        if is_unread(conn, emit::now, || memory::unread(sock)) && !memory::has_left(sock) {
            emit::lost(tgid, LostFrom::Accepted, 1);
        }
        return;
    }
    let port = memory::local_port(sock);
    if port != 0 && target.ports[0] != 0 && target.accepts_on(port) {
        let waiting = memory::backlog(sock);
        if waiting != 0 {
            emit::lost(tgid, LostFrom::Backlog, waiting);
        }
    }
}

/// The same, where the request on the connection was not answered.
#[cgroup_sock(sock_release)]
pub fn unanswered_closed(ctx: SockContext) -> i32 {
    if let Some(live) = serving() {
        let sock = memory::address(ctx.sock as u64);
        if let Some(conn) = live.conn(ObjectKey::new(live.target.tgid, sock)) {
            exception::unanswered(&live, conn);
        }
        live.machine().closed(sock);
    }
    PROCEED
}
