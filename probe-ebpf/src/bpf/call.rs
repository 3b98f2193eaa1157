//! The system call a thread is in: its arguments and its result.

use super::maps::{TAILS, THREADS, calling_thread, count, current, thread};
use super::offsets;
use aya_ebpf::programs::TracePointContext;
use probe_ebpf::abi::{ConnKey, Stat, Tail, Target, Thread};

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
            $function(&ctx, crate::bpf::call::Attempt::First);
            0
        }

        #[aya_ebpf::macros::tracepoint]
        pub fn $backup(ctx: aya_ebpf::programs::TracePointContext) -> u32 {
            $function(&ctx, crate::bpf::call::Attempt::Backup);
            0
        }
    };
}
pub(crate) use backup_probe;

/// Remembers a call until it returns.
#[inline(always)]
pub fn begin_call(id: u64, target: &Target, fd: i32, buffer: u64) {
    if let Some(thread) = thread(id, target.generation) {
        thread.fd = fd;
        thread.buffer = buffer;
        return;
    }
    let new = Thread {
        generation: target.generation,
        buffer,
        fd,
        last_read_fd: -1,
    };
    if THREADS.insert(id, new, 0).is_err() {
        count(Stat::ThreadsFull);
    }
}

/// Connection and thread of the call that returns now, if [`begin_call`] remembered it. Forgets the
/// call.
#[inline(always)]
pub fn returning_call() -> Option<(ConnKey, &'static mut Thread)> {
    let id = current();
    let thread = calling_thread(id)?;
    let key = ConnKey {
        tgid: (id >> 32) as u32,
        fd: thread.fd,
    };
    thread.fd = -1;
    Some((key, thread))
}

/// Continues with another program, which the verifier walks by itself instead of once for each path
/// that leads there. Returns only if that program is missing; all are there before this one is
/// attached.
#[inline(always)]
pub fn continue_with(ctx: &TracePointContext, tail: Tail) {
    // SAFETY: programs of the array take the same context.
    unsafe { TAILS.tail_call(ctx, tail as u32) }
}

/// The `n`-th argument of a system call; 0 if it cannot be read.
#[inline(always)]
pub fn argument(ctx: &TracePointContext, n: usize) -> u64 {
    // SAFETY: the offset is the kernel's own; the helper checks the read.
    unsafe { ctx.read_at(offsets::tracepoint().enter_args as usize + n * 8) }.unwrap_or(0)
}

/// Result of a system call; -1 if it cannot be read.
#[inline(always)]
pub fn result(ctx: &TracePointContext) -> i64 {
    // SAFETY: as above.
    unsafe { ctx.read_at(offsets::tracepoint().exit_ret as usize) }.unwrap_or(-1)
}
