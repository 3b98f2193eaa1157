//! Where a thread keeps its `PyThreadState *`: a place as far from its thread
//! pointer in every thread of a process, so that a program in the kernel finds
//! the thread state with one read.

use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::{DIRECT, Layout, THREAD_LOCAL};

use super::threads::field;
use crate::process::thread_pointer::ThreadPointer;

/// Threads looked at: enough to tell chance from rule.
const MAX_THREADS: usize = 64;

/// Why the place is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    #[error("reading the key of the thread state failed")]
    Unreadable,
    #[error("the key of the thread state was not created yet")]
    NotCreated,
    #[error("the thread state has thread-specific key {0}, only keys below 32 are supported")]
    HighKey(u64),
    #[error("no thread keeps its state near its thread pointer")]
    NotFound,
}

impl From<Fault> for SlotError {
    fn from(_: Fault) -> Self {
        Self::Unreadable
    }
}

/// What is known of the process's C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Libc {
    /// Offset of `specific_1stblock` in glibc's `struct pthread`.
    pub first_block: u32,
    pub pointer: ThreadPointer,
}

/// The place where the `threads` keep their state: in glibc's `struct pthread`,
/// as the value of CPython's thread-specific key; or wherever it is found where the key
/// is not known, as from 3.13 on, or not used any more, as from 3.15 on.
///
/// # Errors
/// With the reason. [`SlotError::NotFound`] may only mean that no thread runs yet.
pub fn find<M: Memory>(
    mem: &M,
    layout: &Layout,
    runtime: u64,
    libc: Libc,
    threads: &[u64],
) -> Result<i64, SlotError> {
    let threads = running(mem, layout, libc.pointer, threads);
    let is_in_pthread = match layout.runtime_tss_key {
        DIRECT => true,
        THREAD_LOCAL => false,
        _ => {
            let slot = by_key(mem, layout, runtime, libc)?;
            return match votes(mem, &threads, slot) {
                0 => Err(SlotError::NotFound),
                _ => Ok(slot),
            };
        }
    };
    search(mem, libc.pointer, is_in_pthread, &threads).ok_or(SlotError::NotFound)
}

/// A thread that was started.
struct Thread {
    tstate: u64,
    pointer: u64,
}

/// `PyThreadState.thread_id` is `pthread_self()`; 0 until the thread runs.
fn running<M: Memory>(
    mem: &M,
    layout: &Layout,
    pointer: ThreadPointer,
    threads: &[u64],
) -> Vec<Thread> {
    let running = |&tstate| match field(mem, tstate, layout.tstate_thread_id) {
        Ok(0) | Err(Fault) => None,
        Ok(thread_id) => Some(Thread {
            tstate,
            pointer: pointer.of_thread(thread_id),
        }),
    };
    threads
        .iter()
        .filter_map(running)
        .take(MAX_THREADS)
        .collect()
}

/// `nptl/descr.h`: 32 pairs of sequence number and value in `specific_1stblock`.
fn by_key<M: Memory>(mem: &M, layout: &Layout, runtime: u64, libc: Libc) -> Result<i64, SlotError> {
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
        key @ 0..32 => Ok(libc.pointer.member(libc.first_block) + 16 * key.cast_signed() + 8),
        key => Err(SlotError::HighKey(key)),
    }
}

/// The place that holds the thread state in most threads. Where several do, it
/// is the first of those in `struct pthread` or outside of it, as this version
/// has it: of thread-specific values that of the first key is CPython's own, while
/// extensions that keep the state too create theirs later. Of thread-local
/// variables the thread that holds the GIL has two, and both are right for it
/// whenever Python code runs; other threads have one.
fn search<M: Memory>(
    mem: &M,
    pointer: ThreadPointer,
    is_in_pthread: bool,
    threads: &[Thread],
) -> Option<i64> {
    let places = pointer.surroundings().step_by(8);
    let voted = places.map(|slot| (votes(mem, threads, slot), slot));
    let found = voted.filter(|(votes, _)| *votes > 0);
    let (_, slot) = found.max_by_key(|&(votes, slot)| {
        (votes, pointer.is_in_pthread(slot) == is_in_pthread, -slot)
    })?;
    Some(slot)
}

/// How many threads keep their own state at that place.
fn votes<M: Memory>(mem: &M, threads: &[Thread], slot: i64) -> usize {
    let keeps_it = |thread: &&Thread| {
        let at = thread.pointer.checked_add_signed(slot);
        at.is_some_and(|at| mem.word(at) == Ok(thread.tstate))
    };
    threads.iter().filter(keeps_it).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::memory::tests::PageMap;
    use probe_ebpf::python::tables::CPYTHON_3_11 as KEYED;

    const RUNTIME: u64 = 0x1000;
    const LIBC: Libc = Libc {
        first_block: 784,
        pointer: ThreadPointer::X86_64,
    };
    const SEARCHED: Layout = Layout {
        runtime_tss_key: DIRECT,
        ..KEYED
    };
    /// Two thread states; their threads' pointers are 0x4000 behind.
    const THREADS: [u64; 2] = [0x3000, 0x5000];

    fn process(tss: u64, slots: &[(u64, i64)]) -> PageMap {
        let mut map = PageMap::default();
        map.put(RUNTIME + 592, &tss.to_le_bytes());
        for tstate in THREADS {
            map.put_words(tstate + 152, &[tstate + 0x4000]);
            map.put_words(tstate + 0x4000 - 512, &[0; 400]);
        }
        for &(tstate, slot) in slots {
            map.put_words((tstate + 0x4000).strict_add_signed(slot), &[tstate]);
        }
        map
    }

    #[test]
    fn the_slot_comes_from_the_key_and_is_checked_against_the_threads() {
        let slot = |tss, at| {
            let map = process(tss, &[(0x5000, at)]);
            find(&map, &KEYED, RUNTIME, LIBC, &THREADS)
        };
        assert_eq!(slot(1 | 1 << 32, 808), Ok(808));
        assert_eq!(slot(1 | 1 << 32, 824), Err(SlotError::NotFound));
        assert_eq!(slot(0, 792), Err(SlotError::NotCreated));
        assert_eq!(slot(1 | 32 << 32, 792), Err(SlotError::HighKey(32)));
        let map = PageMap::default();
        assert_eq!(
            find(&map, &KEYED, RUNTIME, LIBC, &THREADS),
            Err(SlotError::Unreadable)
        );
    }

    #[test]
    fn without_a_key_the_place_most_threads_use_is_the_slot() {
        let slot = |slots| find(&process(0, slots), &SEARCHED, RUNTIME, LIBC, &THREADS);
        assert_eq!(
            slot(&[(0x3000, -40), (0x5000, -40), (0x5000, -48)]),
            Ok(-40)
        );
        assert_eq!(
            slot(&[(0x5000, -40), (0x5000, 808), (0x5000, 840)]),
            Ok(808)
        );
        assert_eq!(slot(&[(0x3000, 824), (0x5000, 824), (0x5000, -8)]), Ok(824));
        assert_eq!(slot(&[]), Err(SlotError::NotFound));
    }

    #[test]
    fn where_it_is_thread_local_what_an_extension_keeps_is_not_taken_for_it() {
        let layout = Layout {
            runtime_tss_key: THREAD_LOCAL,
            ..KEYED
        };
        let map = process(0, &[(0x5000, -40), (0x5000, 808)]);
        assert_eq!(find(&map, &layout, RUNTIME, LIBC, &THREADS), Ok(-40));
    }
}
