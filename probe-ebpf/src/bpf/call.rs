//! The system call a thread is in: its arguments, and what it returned.

use super::maps::{TAILS, THREADS, calling_thread, count, current, thread};
use super::offsets;
use aya_ebpf::programs::TracePointContext;
use probe_ebpf::abi::{ConnKey, Stat, Tail, Target, Thread};

/// Which of two programs on the same tracepoint this is. From Linux 7.2 on (`kernel/trace/bpf_trace.c`,
/// `trace_call_bpf_faultable`) a thread may be preempted in a program on a system call, and the kernel
/// skips the program for every other thread that comes by on that CPU meanwhile. There a second one is
/// attached behind each: it does what the first one would have, and nothing where that ran.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    First,
    Second,
}

/// The two programs of a system call, which have a function in common. What it does must be the
/// same done twice, or it looks at the turn.
macro_rules! twin {
    ($first:ident, $second:ident, $function:path) => {
        #[aya_ebpf::macros::tracepoint]
        pub fn $first(ctx: aya_ebpf::programs::TracePointContext) -> u32 {
            $function(&ctx, crate::bpf::call::Turn::First);
            0
        }

        #[aya_ebpf::macros::tracepoint]
        pub fn $second(ctx: aya_ebpf::programs::TracePointContext) -> u32 {
            $function(&ctx, crate::bpf::call::Turn::Second);
            0
        }
    };
}
pub(crate) use twin;

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

/// The call that returns to this thread, if its beginning was of interest: of
/// which descriptor. It is over with this.
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

/// Goes on with another program, which the verifier walks by itself and not once
/// for each way that leads there. Comes back only if that program is missing,
/// and none is before this one is attached.
#[inline(always)]
pub fn go_on(ctx: &TracePointContext, tail: Tail) {
    // SAFETY: programs of the array take the same context.
    unsafe { TAILS.tail_call(ctx, tail as u32) }
}

/// The `n`th argument of a system call; 0 if it cannot be read.
#[inline(always)]
pub fn argument(ctx: &TracePointContext, n: usize) -> u64 {
    // SAFETY: the offset is the kernel's own; the helper checks the read.
    unsafe { ctx.read_at(offsets::tracepoint().enter_args as usize + n * 8) }.unwrap_or(0)
}

/// What a system call returned; -1 if it cannot be read.
#[inline(always)]
pub fn result(ctx: &TracePointContext) -> i64 {
    // SAFETY: as above.
    unsafe { ctx.read_at(offsets::tracepoint().exit_ret as usize) }.unwrap_or(-1)
}
