//! Which processes are observed: a fork copies a target, exec and exit remove it.
//!
//! The programs use raw tracepoints, whose arguments are the kernel's own objects: the fields of
//! classic tracepoints moved between kernels.

use super::emit::{header, send_now};
use super::maps::{
    CALLS, GIL_WAITED, GIL_WAITS, GILS, clear_target, count, current, forget_target, forget_thread,
    keep_target, target,
};
use super::{memory, offsets};
use aya_ebpf::{
    helpers::bpf_get_current_comm, macros::raw_tracepoint, programs::RawTracePointContext,
};
use probe_ebpf::abi::{
    ExecRecord, ExitRecord, ForkRecord, RecordKind, Role, Stat, Target, target_flags,
};
use probe_ebpf::memory::Fault;

/// `sched_process_fork(parent, child)`: observes a new worker from its first instruction.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn process_fork(ctx: RawTracePointContext) -> i32 {
    let _ = try_fork(&ctx);
    0
}

fn try_fork(ctx: &RawTracePointContext) -> Result<(), Fault> {
    let parent = (current() >> 32) as u32;
    let Some(target) = target(parent) else {
        return Ok(());
    };
    let role = match target.role {
        role if role == Role::Master as u32 => Role::Worker,
        role if role == Role::Candidate as u32 => Role::Candidate,
        role if role == Role::Bystander as u32 => Role::Candidate,
        _ => return Ok(()),
    };
    let at = offsets::kernel();
    let task: u64 = ctx.arg(1);
    let child: u32 = memory::kernel(task + u64::from(at.task_tgid))?;
    let tid: u32 = memory::kernel(task + u64::from(at.task_pid))?;
    if child != tid {
        return Ok(()); // a new thread of the same process
    }
    let record = ForkRecord {
        header: header::<ForkRecord>(RecordKind::Fork, parent),
        child,
        reserved: 0,
    };
    let target = Target {
        tgid: child,
        role: role as u32,
        generation: record.header.time_ns,
        flags: target.flags & !target_flags::SHARED,
        ..*target
    };
    if !keep_target(child, &target) {
        count(Stat::TargetsFull);
    }
    // SAFETY: the value outlives the program's run.
    if let Some(gil) = unsafe { GILS.get(parent) } {
        // Its memory is a copy: the addresses are the same.
        if GILS.insert(child, *gil, 0).is_err() {
            count(Stat::TargetsFull);
        }
    }
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(ctx, "process {} forked {}", parent, child);
    send_now(record);
    Ok(())
}

/// `sched_process_exec(task, old_pid, bprm)`: the process runs another program and is no target any
/// more.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(_ctx: RawTracePointContext) -> i32 {
    let tgid = (current() >> 32) as u32;
    let was_target = forget_target(tgid) as u32;
    clear_target(tgid);
    let _ = GILS.remove(tgid);
    let _ = GIL_WAITED.remove(tgid);
    send_now(ExecRecord {
        header: header::<ExecRecord>(RecordKind::Exec, tgid),
        was_target,
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    });
    0
}

/// `sched_process_exit(task)`: runs for every thread; the last one ends the process.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn process_exit(ctx: RawTracePointContext) -> i32 {
    let _ = try_exit(&ctx);
    0
}

fn try_exit(ctx: &RawTracePointContext) -> Result<(), Fault> {
    let id = current();
    let tgid = (id >> 32) as u32;
    if target(tgid).is_none() {
        return Ok(());
    }
    forget_thread(id);
    let _ = CALLS.remove(id);
    let _ = GIL_WAITS.remove(id);
    let at = offsets::kernel();
    let task: u64 = ctx.arg(0);
    let signal: u64 = memory::kernel(task + u64::from(at.task_signal))?;
    let live: i32 = memory::kernel(signal + u64::from(at.signal_live))?;
    if live > 0 {
        return Ok(()); // other threads still run
    }
    let wait_status = memory::kernel(task + u64::from(at.task_exit_code))?;
    if !forget_target(tgid) {
        return Ok(()); // the last two threads exited together, and the other one sent the record
    }
    let _ = GILS.remove(tgid);
    let _ = GIL_WAITED.remove(tgid);
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(ctx, "process {} exited", tgid);
    send_now(ExitRecord {
        header: header::<ExitRecord>(RecordKind::Exit, tgid),
        wait_status,
        reserved: 0,
    });
    Ok(())
}
