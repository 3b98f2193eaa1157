//! Programs that do nothing: attached where those of the observer are, they show what the kernel
//! takes for being observed at all. For `cargo xtask bench floor` only.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        macros::{raw_tracepoint, tracepoint, uprobe},
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
