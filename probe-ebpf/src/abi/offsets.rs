//! Read-only globals of the programs, set by userspace before the load, and places that it checks.

/// Offsets of fields in kernel structures, from BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelOffsets {
    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_exit_code: u32,
    pub task_signal: u32,
    pub signal_live: u32,
    /// `task_struct.thread.fsbase` (x86-64) or `.thread.uw.tp_value` (aarch64).
    pub task_thread_pointer: u32,
    pub task_files: u32,
    pub files_fdt: u32,
    pub fdt_fd: u32,
    pub fdt_max_fds: u32,
    pub file_private_data: u32,
    pub file_inode: u32,
    pub inode_mode: u32,
    pub socket_sk: u32,
    pub sock_socket: u32,
    pub sock_family: u32,
    pub unix_peer: u32,
    /// `sock.__sk_common.skc_num`, the local port.
    pub sock_port: u32,
    /// `tcp_sock.rcvq_space.time`: when the connection was established, until its receive buffer is
    /// adjusted; and the sequence number that shows whether it was.
    pub tcp_space_time: u32,
    pub tcp_space_seq: u32,
    pub tcp_rcv_nxt: u32,
    pub tcp_bytes_received: u32,
    pub tcp_copied_seq: u32,
    pub sock_state: u32,
    pub sock_shutdown: u32,
    pub sock_ack_backlog: u32,
}
const _: () = assert!(size_of::<KernelOffsets>() == 26 * 4);

/// First argument of a `sys_enter_*` tracepoint; the others follow, 8 bytes each. Userspace compares
/// it and the next one with the kernel's `format` files.
pub const ENTER_ARGS: usize = 16;
/// `ret` of a `sys_exit_*` tracepoint.
pub const EXIT_RET: usize = 16;
