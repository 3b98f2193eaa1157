//! Garbage collections. All threads of the process wait for one: `gc_collect_main` of CPython's
//! `Python/gc.c`, before 3.12 of `Modules/gcmodule.c`, holds the GIL from its start to its end.

use super::emit::{header, now, send_later};
use super::maps::{GC_RUNS, current, serving_target};
use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use probe_ebpf::abi::{GcRecord, GcRun, RecordKind};

/// A garbage collection begins.
#[uprobe]
pub fn gc_begins(ctx: ProbeContext) -> u32 {
    let id = current();
    let Some(target) = serving_target((id >> 32) as u32) else {
        return 0;
    };
    let stack = stack_pointer(&ctx);
    // SAFETY: integers that outlive the program's run; only this thread writes them.
    let around = unsafe { GC_RUNS.get(id) };
    // A nested call returns at once (`gcstate->collecting`) and is part of the outer collection.
    if around.is_some_and(|it| it.generation == target.generation && it.stack > stack) {
        return 0;
    }
    let run = GcRun {
        generation: target.generation,
        begun_ns: now(),
        stack,
    };
    // The map is never full: it evicts the least recently used entry.
    let _ = GC_RUNS.insert(id, run, 0);
    0
}

/// A garbage collection ends.
#[uprobe]
pub fn gc_ends(ctx: ProbeContext) -> u32 {
    let id = current();
    let tgid = (id >> 32) as u32;
    let Some(target) = serving_target(tgid) else {
        return 0;
    };
    // SAFETY: as above.
    let Some(&run) = (unsafe { GC_RUNS.get(id) }) else {
        return 0; // it began before the observer attached
    };
    if stack_pointer(&ctx) < run.stack {
        return 0; // a nested call
    }
    let _ = GC_RUNS.remove(id);
    if run.generation != target.generation {
        return 0;
    }
    let record = GcRecord {
        header: header::<GcRecord>(RecordKind::Gc, tgid),
        pause_ns: now() - run.begun_ns,
    };
    send_later(|entry| *entry = record);
    0
}

#[inline(always)]
fn stack_pointer(ctx: &ProbeContext) -> u64 {
    // SAFETY: the context is the thread's registers.
    let registers = unsafe { &*ctx.regs };
    #[cfg(bpf_target_arch = "aarch64")]
    return registers.sp;
    #[cfg(not(bpf_target_arch = "aarch64"))]
    return registers.rsp;
}
