//! Threads wait for the global interpreter lock: `take_gil` of CPython's `Python/ceval_gil.c`, up to
//! 3.11 `ceval_gil.h`, waits on `gil->cond` under `gil->mutex`, and glibc's waits on either are
//! `futex` calls on an address within it (`nptl/pthread_cond_wait.c`, `pthread_mutex_lock.c`).
//! Attached only while these waits are asked for.

use super::call::{Turn, argument, twin};
use super::emit::now;
use super::maps::{GIL_WAITED, GIL_WAITS, GILS, count, current};
use aya_ebpf::programs::TracePointContext;
use probe_ebpf::abi::Stat;

/// `FUTEX_CMD_MASK`, `FUTEX_WAIT` and `FUTEX_WAIT_BITSET` of `linux/futex.h`.
const COMMAND: u64 = 0x7f;
const WAIT: u64 = 0;
const WAIT_BITSET: u64 = 9;

#[inline(always)]
fn wait_begins(ctx: &TracePointContext, _: Turn) {
    let id = current();
    // SAFETY: integers that outlive the program's run.
    let Some(gil) = (unsafe { GILS.get((id >> 32) as u32) }) else {
        return;
    };
    let address = argument(ctx, 0);
    let command = argument(ctx, 1) & COMMAND;
    let is_its = gil.from <= address && address < gil.to;
    if is_its
        && (command == WAIT || command == WAIT_BITSET)
        && GIL_WAITS.insert(id, now(), 0).is_err()
    {
        count(Stat::ThreadsFull);
    }
}
twin!(enter_futex, enter_futex_again, wait_begins);
twin!(exit_futex, exit_futex_again, wait_ends);

#[inline(always)]
fn wait_ends(_: &TracePointContext, _: Turn) {
    let id = current();
    let tgid = (id >> 32) as u32;
    // SAFETY: as above.
    if unsafe { GILS.get(tgid) }.is_none() {
        return;
    }
    // SAFETY: an integer, copied at once.
    let Some(&begun_ns) = (unsafe { GIL_WAITS.get(id) }) else {
        return;
    };
    let _ = GIL_WAITS.remove(id);
    let waited_ns = now() - begun_ns;
    if let Some(total_ns) = GIL_WAITED.get_ptr_mut(tgid) {
        // SAFETY: a per-CPU integer; a wait is lost if another thread of its process is preempted in
        // just this instruction, on this CPU.
        unsafe { *total_ns += waited_ns };
    } else if GIL_WAITED.insert(tgid, waited_ns, 0).is_err() {
        count(Stat::TargetsFull);
    }
}
