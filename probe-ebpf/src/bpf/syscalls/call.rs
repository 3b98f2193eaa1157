//! The system call a thread is in: its arguments and its result.

use crate::bpf::kernel::Live;
use crate::bpf::maps::{CALLS, TAILS, count};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::programs::TracePointContext;
use probe_ebpf::abi::{Call, ENTER_ARGS, EXIT_RET, Stat, Tail};

/// Which of the two programs on a tracepoint runs.
///
/// From Linux 7.2 on (`kernel/trace/bpf_trace.c`, `trace_call_bpf_faultable`) a thread may be preempted
/// inside a program on a system call. Until it continues, the kernel skips that program for every other
/// thread on the CPU. On such kernels a backup program is attached behind each program: it does the
/// same work where the first was skipped, and nothing where the first ran.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    First,
    Backup,
}

/// Defines a program on a system call and its backup. Both run `$function`, which must have the same
/// effect when it runs twice, or check the [`Attempt`].
macro_rules! backup_probe {
    ($first:ident, $backup:ident, $function:path) => {
        #[aya_ebpf::macros::tracepoint]
        pub fn $first(ctx: aya_ebpf::programs::TracePointContext) -> u32 {
            $function(&ctx, crate::bpf::syscalls::call::Attempt::First);
            0
        }

        #[aya_ebpf::macros::tracepoint]
        pub fn $backup(ctx: aya_ebpf::programs::TracePointContext) -> u32 {
            $function(&ctx, crate::bpf::syscalls::call::Attempt::Backup);
            0
        }
    };
}
pub(crate) use backup_probe;

/// Remembers a call until it returns.
#[inline(always)]
pub fn begin(live: &Live, sock: u64, buffer: u64) {
    if CALLS.insert(live.id, Call { sock, buffer }, 0).is_err() {
        count(Stat::ThreadsFull);
    }
}

/// The call that returns now, if [`begin`] remembered it.
#[inline(always)]
pub fn returning(id: u64) -> Option<Call> {
    // SAFETY: integers, copied at once.
    unsafe { CALLS.get(id) }.copied()
}

/// Forgets the call of a thread.
#[inline(always)]
pub fn end(id: u64) {
    let _ = CALLS.remove(id);
}

/// Continues with another program, which the verifier walks by itself instead of once for each path
/// that leads there. Returns only if that program is missing; all are there before this one is
/// attached.
#[inline(always)]
pub fn continue_with(ctx: &TracePointContext, tail: Tail) {
    // SAFETY: programs of the array take the same context.
    unsafe { TAILS.tail_call(ctx, tail as u32) }
}

/// The `N`-th argument of a system call.
#[inline(always)]
pub fn argument<const N: usize>(ctx: &TracePointContext) -> u64 {
    // SAFETY: the verifier checks reads of the context; userspace checked the offset.
    unsafe { *ctx.as_ptr().cast::<u8>().add(ENTER_ARGS + 8 * N).cast() }
}

/// Result of a system call.
#[inline(always)]
pub fn result(ctx: &TracePointContext) -> i64 {
    // SAFETY: as above.
    unsafe { *ctx.as_ptr().cast::<u8>().add(EXIT_RET).cast() }
}
