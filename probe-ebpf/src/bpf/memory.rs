//! Reading user and kernel memory.

use super::offsets;
use aya_ebpf::helpers::{
    bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_kernel_buf, bpf_probe_read_user_buf,
};
use probe_ebpf::abi::Target;
use probe_ebpf::memory::{Fault, Memory};

/// The memory of the current process.
pub struct User;

impl Memory for User {
    #[inline(always)]
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
        // SAFETY: the helper checks the source; the destination is a live slice.
        unsafe { bpf_probe_read_user_buf(address as *const u8, buf) }.map_err(|_| Fault)
    }

    #[inline(always)]
    fn words(&self, address: u64, words: &mut [u64]) -> Result<(), Fault> {
        self.read(address, bytes_mut(words))
    }

    #[inline(always)]
    fn peek(&self, address: u64) -> u64 {
        let mut buf = [0; 8];
        // SAFETY: as above. The helper fills an unreadable destination with zeros.
        let _ = unsafe { bpf_probe_read_user_buf(address as *const u8, &mut buf) };
        u64::from_le_bytes(buf)
    }
}

/// Words as bytes.
#[inline(always)]
pub fn bytes(words: &[u64]) -> &[u8] {
    // SAFETY: the same memory, and words are made of bytes.
    unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// The same to be written.
#[inline(always)]
fn bytes_mut(words: &mut [u64]) -> &mut [u8] {
    let len = size_of_val(words);
    // SAFETY: the same memory, and any bytes are valid words.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), len) }
}

/// The value of type `T` at a kernel address.
#[inline(always)]
pub fn kernel<T: Copy>(address: u64) -> Result<T, Fault> {
    // SAFETY: the helper checks the source; `T` is an integer at every call.
    unsafe { bpf_probe_read_kernel(address as *const T) }.map_err(|_| Fault)
}

/// A kernel object's address as a mere number: the verifier allows no arithmetic with a pointer to one.
#[inline(always)]
pub fn address(pointer: u64) -> u64 {
    kernel(&raw const pointer as u64).unwrap_or(0)
}

/// Copies kernel memory, such as a map's value, into `buf`.
#[inline(always)]
pub fn copy_kernel(source: &[u8], buf: &mut [u8]) {
    // SAFETY: both are live slices. The helper is the cheapest copy in a program.
    let _ = unsafe { bpf_probe_read_kernel_buf(source.as_ptr(), buf) };
}

/// Address of the current `task_struct`.
#[inline(always)]
pub fn task() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_get_current_task() }
}

/// Thread pointer of the current thread: the base of its thread-local storage.
#[inline(always)]
fn thread_pointer() -> Result<u64, Fault> {
    kernel(task() + u64::from(offsets::kernel().task_thread_pointer))
}

/// Address of the current thread's `PyThreadState`.
#[inline(always)]
pub fn thread_state(target: &Target) -> Result<u64, Fault> {
    User.word(thread_pointer()?.wrapping_add(target.tstate_slot as u64))
}

/// Whether a descriptor of the current process is a socket.
#[inline(always)]
pub fn is_socket(fd: u32) -> bool {
    /// `S_IFMT` and `S_IFSOCK` of `linux/stat.h`.
    const FORMAT: u16 = 0o170_000;
    const SOCKET: u16 = 0o140_000;
    let at = offsets::kernel();
    let mode = file_of_fd(fd)
        .and_then(|file| kernel::<u64>(file + u64::from(at.file_inode)))
        .and_then(|inode| kernel::<u16>(inode + u64::from(at.inode_mode)));
    mode.is_ok_and(|mode| mode & FORMAT == SOCKET)
}

/// Address of the `struct sock` behind a descriptor of the current process.
#[inline(always)]
pub fn sock_of_fd(fd: u32) -> Result<u64, Fault> {
    let at = offsets::kernel();
    let socket: u64 = kernel(file_of_fd(fd)? + u64::from(at.file_private_data))?;
    kernel(socket + u64::from(at.socket_sk))
}

/// Address of the `struct file` behind a descriptor of the current process.
#[inline(always)]
fn file_of_fd(fd: u32) -> Result<u64, Fault> {
    let at = offsets::kernel();
    let files: u64 = kernel(task() + u64::from(at.task_files))?;
    let fdt: u64 = kernel(files + u64::from(at.files_fdt))?;
    let max_fds: u32 = kernel(fdt + u64::from(at.fdt_max_fds))?;
    if fd >= max_fds {
        return Err(Fault);
    }
    let table: u64 = kernel(fdt + u64::from(at.fdt_fd))?;
    kernel(table + u64::from(fd) * 8)
}

/// `AF_UNIX`, `AF_INET`, `AF_INET6` of `linux/socket.h`.
pub const UNIX: u16 = 1;
const INET: u16 = 2;
const INET6: u16 = 10;

/// Address family of a `struct sock`; 0 if it cannot be read.
#[inline(always)]
pub fn family(sock: u64) -> u16 {
    kernel(sock + u64::from(offsets::kernel().sock_family)).unwrap_or(0)
}

/// The local port of a TCP socket; 0 for others.
#[inline(always)]
pub fn local_port(sock: u64) -> u16 {
    match family(sock) {
        INET | INET6 => kernel(sock + u64::from(offsets::kernel().sock_port)).unwrap_or(0),
        _ => 0,
    }
}

/// Whether the client of a connection has closed its side: TCP and Unix sockets note it alike
/// (`RCV_SHUTDOWN` of `include/net/sock.h`).
#[inline(always)]
pub fn has_left(sock: u64) -> bool {
    const RCV_SHUTDOWN: u8 = 1;
    let shutdown = kernel::<u8>(sock + u64::from(offsets::kernel().sock_shutdown));
    shutdown.is_ok_and(|shutdown| shutdown & RCV_SHUTDOWN != 0)
}

/// Bytes that a TCP connection received and nobody read; 0 if that cannot be read, and for other
/// sockets.
#[inline(always)]
pub fn unread(sock: u64) -> u32 {
    if local_port(sock) == 0 {
        return 0;
    }
    let at = offsets::kernel();
    let next = kernel::<u32>(sock + u64::from(at.tcp_rcv_nxt));
    let copied = kernel::<u32>(sock + u64::from(at.tcp_copied_seq));
    match (next, copied) {
        (Ok(next), Ok(copied)) => next.wrapping_sub(copied),
        _ => 0,
    }
}

/// Connections that wait in a listening TCP socket to be accepted; 0 for other sockets.
#[inline(always)]
pub fn backlog(sock: u64) -> u32 {
    /// `TCP_LISTEN` of `include/net/tcp_states.h`.
    const LISTEN: u8 = 10;
    let at = offsets::kernel();
    match kernel::<u8>(sock + u64::from(at.sock_state)) {
        Ok(LISTEN) => kernel(sock + u64::from(at.sock_ack_backlog)).unwrap_or(0),
        _ => 0,
    }
}

/// When a TCP connection that nothing was read from yet was established (`net/ipv4/tcp_input.c`,
/// `tcp_init_buffer_space`); 0 if it cannot be read.
#[inline(always)]
pub fn established_ns(sock: u64) -> u64 {
    const NS_OF_US: u64 = 1000;
    let us: u64 = kernel(sock + u64::from(offsets::kernel().tcp_space_time)).unwrap_or(0);
    us.wrapping_mul(NS_OF_US)
}

/// The first sequence number of a TCP connection's data, which distinguishes it from an earlier one with
/// the same `struct sock`, and when it was established, as far as that can still be read; 0 if not.
#[inline(always)]
pub fn birth(sock: u64) -> (u32, u64) {
    let at = offsets::kernel();
    let next: u32 = kernel(sock + u64::from(at.tcp_rcv_nxt)).unwrap_or(0);
    let received: u64 = kernel(sock + u64::from(at.tcp_bytes_received)).unwrap_or(0);
    let first = next.wrapping_sub(received as u32);
    let adjusted: u32 = kernel(sock + u64::from(at.tcp_space_seq)).unwrap_or(0);
    if adjusted == first {
        (first, established_ns(sock))
    } else {
        (first, 0)
    }
}
