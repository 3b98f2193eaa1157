//! Threads of an interpreter and the frames they are in.

use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::{DIRECT, Layout};

const MAX_THREADS: usize = 4096;
/// Python's own limit is 1,000 unless raised.
const MAX_FRAMES: usize = 1024;

/// `PyThreadState` of every thread of the main interpreter, newest first: the
/// main thread is the last (`Python/pystate.c`, `add_threadstate` or
/// `new_threadstate`, puts new ones before the others). Empty while the
/// interpreter starts.
///
/// # Errors
/// When the list cannot be read, or does not end.
pub fn threads<M: Memory>(mem: &M, layout: &Layout, runtime: u64) -> Result<Vec<u64>, Fault> {
    let interp = field(mem, runtime, layout.runtime_main_interp)?;
    if interp == 0 {
        return Ok(Vec::new());
    }
    chain(
        mem,
        field(mem, interp, layout.interp_threads)?,
        layout.tstate_next,
        MAX_THREADS,
    )
}

/// Frames of a thread, innermost first; of endless recursion the innermost ones.
///
/// # Errors
/// When the chain cannot be read: it changes while the thread runs.
pub fn frames<M: Memory>(mem: &M, layout: &Layout, tstate: u64) -> Result<Vec<u64>, Fault> {
    let mut first = field(mem, tstate, layout.tstate_frame)?;
    if layout.cframe_frame != DIRECT && first != 0 {
        first = field(mem, first, layout.cframe_frame)?;
    }
    chain(mem, first, layout.frame_back, MAX_FRAMES)
}

fn chain<M: Memory>(mem: &M, first: u64, next: u32, limit: usize) -> Result<Vec<u64>, Fault> {
    let mut found = Vec::new();
    let mut at = first;
    while at != 0 {
        if found.len() >= limit {
            return Err(Fault);
        }
        found.push(at);
        at = field(mem, at, next)?;
    }
    Ok(found)
}

fn field<M: Memory>(mem: &M, base: u64, offset: u32) -> Result<u64, Fault> {
    mem.word(base.checked_add(u64::from(offset)).ok_or(Fault)?)
}

/// Where from its thread pointer a thread keeps its `PyThreadState *`: in
/// glibc's `struct pthread`, as the value of CPython's thread-specific key
/// (`nptl/descr.h`: 32 pairs of sequence number and value in `specific_1stblock`,
/// which begins `first_block` bytes behind the thread pointer).
///
/// # Errors
/// With the reason, when the key does not exist yet or is not among the first 32.
pub fn tstate_slot<M: Memory>(
    mem: &M,
    layout: &Layout,
    runtime: u64,
    first_block: u32,
) -> Result<i64, SlotError> {
    let mut key = [0; 8];
    // `Py_tss_t` is `{ int _is_initialized; pthread_key_t _key; }` (`Include/pythread.h`).
    let at = runtime
        .checked_add(u64::from(layout.runtime_tss_key))
        .ok_or(Fault)?;
    mem.read(at.checked_sub(4).ok_or(Fault)?, &mut key)?;
    let word = u64::from_le_bytes(key);
    if word & 0xffff_ffff == 0 {
        return Err(SlotError::NotCreated);
    }
    match word >> 32 {
        key @ 0..32 => Ok(i64::from(first_block) + 16 * key.cast_signed() + 8),
        key => Err(SlotError::HighKey(key)),
    }
}

/// Why the slot of the thread state is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    #[error("reading the key of the thread state failed")]
    Unreadable,
    #[error("the key of the thread state was not created yet")]
    NotCreated,
    #[error("the thread state has thread-specific key {0}, only keys below 32 are supported")]
    HighKey(u64),
}

impl From<Fault> for SlotError {
    fn from(_: Fault) -> Self {
        Self::Unreadable
    }
}

/// Whether some thread finds its own thread state in that slot. `thread_id` is
/// `pthread_self()`, on glibc the thread pointer.
#[must_use]
pub fn slot_is_right<M: Memory>(mem: &M, layout: &Layout, threads: &[u64], slot: i64) -> bool {
    threads.iter().any(|&tstate| {
        let thread_pointer = field(mem, tstate, layout.tstate_thread_id).unwrap_or_default();
        thread_pointer
            .checked_add_signed(slot)
            .is_some_and(|at| mem.word(at) == Ok(tstate))
    })
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::PageMap;
    use super::*;
    use probe_ebpf::python::tables::CPYTHON_3_11 as LAYOUT;

    const RUNTIME: u64 = 0x1000;
    const INTERP: u64 = 0x2000;

    fn process(tss: u64, tstate_next: u64) -> PageMap {
        let mut map = PageMap::default();
        map.put_words(RUNTIME + 48, &[INTERP]);
        map.put(RUNTIME + 592, &tss.to_le_bytes());
        map.put_words(INTERP + 16, &[0x3000]);
        map.put_words(0x3000 + 8, &[0x4000]);
        map.put_words(0x3000 + 152, &[0x7000]);
        map.put_words(0x4000 + 8, &[tstate_next]);
        map.put_words(0x4000 + 56, &[0x5000]);
        map.put_words(0x4000 + 152, &[0x8000]);
        map.put_words(0x5000 + 8, &[0x6000]);
        map.put_words(0x6000 + 48, &[0x6100]);
        map.put_words(0x6100 + 48, &[0]);
        map.put_words(0x8000 + 784 + 24, &[0x4000]);
        map
    }

    #[test]
    fn threads_and_frames_are_followed_to_their_end() {
        let map = process(1 | 1 << 32, 0);
        assert_eq!(threads(&map, &LAYOUT, RUNTIME), Ok(vec![0x3000, 0x4000]));
        assert_eq!(frames(&map, &LAYOUT, 0x4000), Ok(vec![0x6000, 0x6100]));
        assert_eq!(frames(&map, &LAYOUT, 0x3000), Err(Fault));
    }

    #[test]
    fn a_list_that_bites_its_tail_is_an_error() {
        assert_eq!(threads(&process(1, 0x3000), &LAYOUT, RUNTIME), Err(Fault));
    }

    #[test]
    fn the_slot_comes_from_the_key_and_is_checked_against_the_threads() {
        let slot = |tss| tstate_slot(&process(tss, 0), &LAYOUT, RUNTIME, 784);
        assert_eq!(slot(1 | 1 << 32), Ok(784 + 16 + 8));
        assert_eq!(slot(0), Err(SlotError::NotCreated));
        assert_eq!(slot(1 | 32 << 32), Err(SlotError::HighKey(32)));
        let map = process(1, 0);
        assert!(slot_is_right(&map, &LAYOUT, &[0x3000, 0x4000], 808));
        assert!(!slot_is_right(&map, &LAYOUT, &[0x3000, 0x4000], 792));
        assert!(!slot_is_right(&map, &LAYOUT, &[], 808));
    }
}
