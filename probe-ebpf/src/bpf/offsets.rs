//! Offsets that userspace sets when it loads the programs.

use probe_ebpf::abi::KernelOffsets;

#[unsafe(no_mangle)]
static KERNEL: KernelOffsets = KernelOffsets {
    task_pid: 0,
    task_tgid: 0,
    task_exit_code: 0,
    task_signal: 0,
    signal_live: 0,
    task_thread_pointer: 0,
    task_files: 0,
    files_fdt: 0,
    fdt_fd: 0,
    fdt_max_fds: 0,
    file_private_data: 0,
    file_inode: 0,
    inode_mode: 0,
    socket_sk: 0,
    sock_socket: 0,
    sock_family: 0,
    unix_peer: 0,
    sock_port: 0,
    tcp_space_time: 0,
    tcp_space_seq: 0,
    tcp_rcv_nxt: 0,
    tcp_bytes_received: 0,
    tcp_copied_seq: 0,
    sock_state: 0,
    sock_shutdown: 0,
    sock_ack_backlog: 0,
};

/// Offsets in this kernel's structures.
#[inline(always)]
pub fn kernel() -> &'static KernelOffsets {
    // Userspace replaces it before the load: the compiler must not use the value above.
    core::hint::black_box(&KERNEL)
}
