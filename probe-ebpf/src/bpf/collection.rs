//! A thread collects garbage, and its whole process waits: `gc_collect_main` of CPython's
//! `Python/gc.c`, before 3.12 of `Modules/gcmodule.c`, holds the GIL from its beginning to its end.

use super::emit::{header, now, send_later};
use super::maps::{COLLECTIONS, current, serving_target};
use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use probe_ebpf::abi::{Collection, GcRecord, RecordKind};

/// A collection begins.
#[uprobe]
pub fn collection_begins(ctx: ProbeContext) -> u32 {
    let id = current();
    let Some(target) = serving_target((id >> 32) as u32) else {
        return 0;
    };
    let stack = stack_pointer(&ctx);
    // SAFETY: integers that outlive the program's run; only this thread writes them.
    let around = unsafe { COLLECTIONS.get(id) };
    // What is called within one returns at once (`gcstate->collecting`), and is a part of it.
    if around.is_some_and(|it| it.generation == target.generation && it.stack > stack) {
        return 0;
    }
    let collection = Collection {
        generation: target.generation,
        begun_ns: now(),
        stack,
    };
    // Full it is never: the least recently used one has to go.
    let _ = COLLECTIONS.insert(id, collection, 0);
    0
}

/// It ends.
#[uprobe]
pub fn collection_ends(ctx: ProbeContext) -> u32 {
    let id = current();
    let tgid = (id >> 32) as u32;
    let Some(target) = serving_target(tgid) else {
        return 0;
    };
    // SAFETY: as above.
    let Some(&collection) = (unsafe { COLLECTIONS.get(id) }) else {
        return 0; // it was under way when the observer came
    };
    if stack_pointer(&ctx) < collection.stack {
        return 0; // one within it
    }
    let _ = COLLECTIONS.remove(id);
    if collection.generation != target.generation {
        return 0;
    }
    let record = GcRecord {
        header: header::<GcRecord>(RecordKind::Gc, tgid),
        pause_ns: now() - collection.begun_ns,
    };
    send_later(|place| *place = record);
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
