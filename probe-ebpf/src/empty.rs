//! Programs for `cargo xtask bench` only.
//!
//! Empty programs measure the kernel's own overhead of each kind of probe. `count_calls` counts the
//! system calls of a process.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        helpers::bpf_get_current_pid_tgid,
        macros::{map, raw_tracepoint, tracepoint, uprobe},
        maps::PerCpuArray,
        programs::{ProbeContext, RawTracePointContext, TracePointContext},
    };

    #[uprobe]
    pub fn empty_uprobe(_ctx: ProbeContext) -> u32 {
        0
    }

    #[tracepoint]
    pub fn empty_tracepoint(_ctx: TracePointContext) -> u32 {
        0
    }

    #[raw_tracepoint]
    pub fn empty_raw_tracepoint(_ctx: RawTracePointContext) -> i32 {
        0
    }

    /// Process whose calls are counted; userspace sets it before the load.
    #[unsafe(no_mangle)]
    static COUNTED: u32 = 0;

    /// Calls by system call number.
    #[map]
    static CALLS: PerCpuArray<u64> = PerCpuArray::with_max_entries(512, 0);

    /// `sys_enter(regs, number)`.
    #[raw_tracepoint(tracepoint = "sys_enter")]
    pub fn count_calls(ctx: RawTracePointContext) -> i32 {
        // SAFETY: a static integer; volatile because userspace replaces it.
        let counted = unsafe { core::ptr::read_volatile(&raw const COUNTED) };
        if (bpf_get_current_pid_tgid() >> 32) as u32 == counted
            && let Some(calls) = CALLS.get_ptr_mut(ctx.arg::<u32>(1))
        {
            // SAFETY: a per-CPU integer; a lost race with ourselves costs one count.
            unsafe { *calls += 1 };
        }
        0
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
    unreachable!("built for the BPF target only, by `cargo xtask bench floor`")
}
