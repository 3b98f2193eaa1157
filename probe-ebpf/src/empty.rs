//! Programs for `cargo xtask bench` only, two for each kind of hook.
//!
//! Empty programs measure the kernel's own overhead of a hit. The others count the hits of one
//! process.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        helpers::bpf_get_current_pid_tgid,
        macros::{cgroup_sock, cgroup_sock_addr, map, raw_tracepoint, tracepoint, uprobe},
        maps::PerCpuArray,
        programs::{
            ProbeContext, RawTracePointContext, SockAddrContext, SockContext, TracePointContext,
        },
    };

    /// Lets the kernel's operation go on.
    const ALLOW: i32 = 1;

    #[uprobe]
    pub fn empty_uprobe(_ctx: ProbeContext) -> u32 {
        0
    }

    #[tracepoint]
    pub fn empty_syscall(_ctx: TracePointContext) -> u32 {
        0
    }

    #[raw_tracepoint]
    pub fn empty_raw(_ctx: RawTracePointContext) -> i32 {
        0
    }

    #[cgroup_sock_addr(getpeername4)]
    pub fn empty_cgroup(_ctx: SockAddrContext) -> i32 {
        ALLOW
    }

    /// Process whose hits are counted; userspace sets it before the load.
    #[unsafe(no_mangle)]
    static COUNTED: u32 = 0;

    #[map]
    static HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

    fn count() {
        // SAFETY: a static integer; volatile because userspace replaces it.
        let counted = unsafe { core::ptr::read_volatile(&raw const COUNTED) };
        if (bpf_get_current_pid_tgid() >> 32) as u32 == counted
            && let Some(hits) = HITS.get_ptr_mut(0)
        {
            // SAFETY: a per-CPU integer; a lost race with ourselves costs one count.
            unsafe { *hits += 1 };
        }
    }

    #[uprobe]
    pub fn count_uprobe(_ctx: ProbeContext) -> u32 {
        count();
        0
    }

    #[tracepoint]
    pub fn count_syscall(_ctx: TracePointContext) -> u32 {
        count();
        0
    }

    #[raw_tracepoint]
    pub fn count_raw(_ctx: RawTracePointContext) -> i32 {
        count();
        0
    }

    #[cgroup_sock_addr(getpeername4)]
    pub fn count_peer_name4(_ctx: SockAddrContext) -> i32 {
        count();
        ALLOW
    }

    #[cgroup_sock_addr(getpeername6)]
    pub fn count_peer_name6(_ctx: SockAddrContext) -> i32 {
        count();
        ALLOW
    }

    #[cgroup_sock(sock_release)]
    pub fn count_release(_ctx: SockContext) -> i32 {
        count();
        ALLOW
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    unreachable!("built for the BPF target only, by `cargo xtask bench cost`")
}
