//! Signals to masters and workers, and OOM kills.

use super::emit::{header, send_later};
use super::maps::{current, target};
use super::{memory, offsets};
use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use probe_ebpf::abi::{
    OomRecord, REPORTED_SIGNALS, RecordKind, Role, SENT_BY_THREAD, SignalRecord, Target,
};
use probe_ebpf::memory::Fault;

/// `signal_generate(sig, info, task, group, result)`: runs in the process that sends the signal.
#[raw_tracepoint(tracepoint = "signal_generate")]
pub fn signal_generated(ctx: RawTracePointContext) -> i32 {
    let signal: u64 = ctx.arg(0);
    let is_reported = signal < 32 && REPORTED_SIGNALS >> signal & 1 == 1;
    if is_reported {
        let _ = try_generated(&ctx, signal as u32);
    }
    0
}

fn try_generated(ctx: &RawTracePointContext, signal: u32) -> Result<(), Fault> {
    let task: u64 = ctx.arg(2);
    let tgid: u32 = memory::kernel(task + u64::from(offsets::kernel().task_tgid))?;
    if observed(tgid).is_none() {
        return Ok(());
    }
    let (sender, by_thread) = if is_from_process(ctx.arg(1))? {
        let id = current();
        let (tgid, tid) = ((id >> 32) as u32, id as u32);
        (tgid, if tgid == tid { 0 } else { SENT_BY_THREAD })
    } else {
        (0, 0)
    };
    send_later(|record| {
        *record = SignalRecord {
            header: header::<SignalRecord>(RecordKind::Signal, tgid),
            sender,
            signal: signal | by_thread,
        };
    });
    Ok(())
}

/// Whether a process sent the signal, not the kernel.
fn is_from_process(info: u64) -> Result<bool, Fault> {
    /// `SEND_SIG_NOINFO`, `SEND_SIG_PRIV` of `linux/sched/signal.h`: numbers in place of a pointer.
    const NO_INFO: u64 = 0;
    const KERNEL: u64 = 1;
    /// `si_code` in `struct kernel_siginfo`: above zero from the kernel (`asm-generic/siginfo.h`).
    const CODE: u64 = 8;
    match info {
        NO_INFO => Ok(true),
        KERNEL => Ok(false),
        info => Ok(memory::kernel::<i32>(info + CODE)? <= 0),
    }
}

/// `mark_victim`: the OOM killer chose a process; its `SIGKILL` does not show that. The first argument
/// is a pid up to Linux 6.7 and a `struct task_struct` since (`include/trace/events/oom.h`): no pid is
/// as large as an address.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn oom_victim(ctx: RawTracePointContext) -> i32 {
    const PIDS: u64 = 1 << 32;
    let victim = match ctx.arg::<u64>(0) {
        pid @ ..PIDS => Ok(pid as u32),
        task => memory::kernel(task + u64::from(offsets::kernel().task_tgid)),
    };
    if let Ok(tgid) = victim
        && observed(tgid).is_some()
    {
        send_later(|record| {
            *record = OomRecord {
                header: header::<OomRecord>(RecordKind::Oom, tgid),
            };
        });
    }
    0
}

/// The target with this pid, unless it is a bystander.
#[inline(always)]
fn observed(tgid: u32) -> Option<&'static Target> {
    let target = target(tgid)?;
    (target.role != Role::Bystander as u32).then_some(target)
}
