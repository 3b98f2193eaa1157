//! Waits for the global interpreter lock; attached only with `--gil`.
//!
//! `take_gil` of CPython's `Python/ceval_gil.c`, up to 3.11 `ceval_gil.h`, waits on `gil->cond` under
//! `gil->mutex`. glibc waits on either by a `futex` call on an address within it
//! (`nptl/pthread_cond_wait.c`, `pthread_mutex_lock.c`).

use super::emit::now;
use super::maps::{GIL_WAITED, GIL_WAITS, GILS, count, current};
use super::syscalls::call::{Attempt, argument, backup_probe};
use aya_ebpf::programs::TracePointContext;
use probe_ebpf::abi::Stat;

/// `FUTEX_CMD_MASK`, `FUTEX_WAIT` and `FUTEX_WAIT_BITSET` of `linux/futex.h`.
const COMMAND: u64 = 0x7f;
const WAIT: u64 = 0;
const WAIT_BITSET: u64 = 9;

#[inline(always)]
fn wait_begins(ctx: &TracePointContext, _: Attempt) {
    let id = current();
    // SAFETY: integers that outlive the program's run.
    let Some(gil) = (unsafe { GILS.get((id >> 32) as u32) }) else {
        return;
    };
    let address = argument::<0>(ctx);
    let command = argument::<1>(ctx) & COMMAND;
    let is_gil = gil.from <= address && address < gil.to;
    if is_gil
        && (command == WAIT || command == WAIT_BITSET)
        && GIL_WAITS.insert(id, now(), 0).is_err()
    {
        count(Stat::ThreadsFull);
    }
}
backup_probe!(enter_futex, enter_futex_backup, wait_begins);
backup_probe!(exit_futex, exit_futex_backup, wait_ends);

#[inline(always)]
fn wait_ends(_: &TracePointContext, _: Attempt) {
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
        // SAFETY: a per-CPU integer; a wait is lost if another thread of the process is preempted at
        // exactly this instruction on this CPU.
        unsafe { *total_ns += waited_ns };
    } else if GIL_WAITED.insert(tgid, waited_ns, 0).is_err() {
        count(Stat::TargetsFull);
    }
}
