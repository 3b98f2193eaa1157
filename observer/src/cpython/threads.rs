//! Threads of an interpreter.

use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::Layout;

const MAX_INTERPRETERS: usize = 1024;
const MAX_THREADS: usize = 4096;

/// `PyThreadState` of every thread of the main interpreter, newest first: the main thread is the
/// last (`Python/pystate.c`, `add_threadstate` or `new_threadstate`, puts new ones first). Empty
/// while the interpreter starts.
///
/// # Errors
/// When the list cannot be read, or does not end.
pub fn threads<M: Memory>(mem: &M, layout: &Layout, runtime: u64) -> Result<Vec<u64>, Fault> {
    let Some(interp) = main_interpreter(mem, layout, runtime)? else {
        return Ok(Vec::new());
    };
    let first = field(mem, interp, layout.interp_threads)?;
    chain(mem, first, layout.tstate_next, MAX_THREADS)
}

/// The main `PyInterpreterState`: the oldest, hence the last; `None` while the interpreter starts.
///
/// # Errors
/// When the list cannot be read, or does not end.
pub fn main_interpreter<M: Memory>(
    mem: &M,
    layout: &Layout,
    runtime: u64,
) -> Result<Option<u64>, Fault> {
    let first = field(mem, runtime, layout.runtime_interpreters)?;
    Ok(chain(mem, first, layout.interp_next, MAX_INTERPRETERS)?.pop())
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

pub(super) fn field<M: Memory>(mem: &M, base: u64, offset: u32) -> Result<u64, Fault> {
    mem.word(base.checked_add(u64::from(offset)).ok_or(Fault)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::memory::tests::PageMap;
    use probe_ebpf::python::tables::CPYTHON_3_11 as LAYOUT;

    const RUNTIME: u64 = 0x1000;

    /// Two interpreters, the main one with two threads.
    fn process(tstate_next: u64) -> PageMap {
        let mut map = PageMap::default();
        map.put_words(RUNTIME + 40, &[0x1800]);
        map.put_words(0x1800, &[0x2000]);
        map.put_words(0x2000, &[0]);
        map.put_words(0x2000 + 16, &[0x3000]);
        map.put_words(0x3000 + 8, &[0x4000]);
        map.put_words(0x4000 + 8, &[tstate_next]);
        map
    }

    #[test]
    fn threads_of_the_main_interpreter_are_followed_to_the_end() {
        let map = process(0);
        assert_eq!(main_interpreter(&map, &LAYOUT, RUNTIME), Ok(Some(0x2000)));
        assert_eq!(threads(&map, &LAYOUT, RUNTIME), Ok(vec![0x3000, 0x4000]));
    }

    #[test]
    fn an_interpreter_that_starts_has_no_threads() {
        let mut map = PageMap::default();
        map.put_words(RUNTIME + 40, &[0]);
        assert_eq!(threads(&map, &LAYOUT, RUNTIME), Ok(vec![]));
    }

    #[test]
    fn a_list_without_an_end_is_an_error() {
        assert_eq!(threads(&process(0x3000), &LAYOUT, RUNTIME), Err(Fault));
    }
}
