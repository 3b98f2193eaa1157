//! The functions that a program registered with `signal.signal`.
//!
//! CPython keeps them in an array with an entry for each signal: `Handlers` of `Modules/signalmodule.c`,
//! which has no symbol in stripped files, and from 3.11 on `_PyRuntime.signals.handlers`
//! (`Include/internal/pycore_signal.h`). Its form has stayed the same since 3.8, so it is found by that:
//! 64 entries behind an empty one, each with a flag and a function.

use std::ops::Range;

use probe_ebpf::memory::{Fault, Memory};

use super::object::Objects;

/// `struct { int tripped; PyObject *func; }`, with padding.
const ENTRY_WORDS: usize = 2;
/// Signals of Linux: entry 0 stays empty (`signal_get_set_handlers`, before it `PyInit__signal`).
const SIGNALS: usize = 64;
/// Words of the whole array.
const TABLE_WORDS: usize = ENTRY_WORDS * (1 + SIGNALS);
/// More is not searched: the data of a CPython is one or two megabytes.
const MAX_BYTES: u64 = 64 << 20;
/// Read at once.
const PIECE_WORDS: usize = 8192;
const PAGE_BYTES: usize = 4096;
/// No object is below, as `mmap_min_addr` says.
const LOWEST: u64 = 0x1_0000;

/// Address of the array in `data`, the variables of an interpreter; `None` while the interpreter starts.
pub fn find<M: Memory>(objects: &Objects<'_, M>, data: Range<u64>) -> Option<u64> {
    let end = data.end.min(data.start.saturating_add(MAX_BYTES));
    // How many entries end at the last word but one, and at the last.
    let mut runs = [Run::default(); ENTRY_WORDS];
    let mut before = 0;
    let mut at = data.start.next_multiple_of(8);
    while at < end {
        for (word, value) in piece(objects.memory(), at, end).into_iter().enumerate() {
            let address = at + 8 * word as u64;
            // A piece has an even number of words.
            let run = runs.get_mut(word % ENTRY_WORDS)?;
            if run.goes_on(before, value)
                && let start = address + 8 - 8 * TABLE_WORDS as u64
                && functions(objects, start).is_ok()
            {
                return Some(start);
            }
            before = value;
        }
        at += 8 * PIECE_WORDS as u64;
    }
    None
}

/// Entries that follow each other.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    entries: usize,
    is_behind_empty: bool,
}

impl Run {
    /// Takes the next entry; true if it may be the last of the array.
    fn goes_on(&mut self, tripped: u64, function: u64) -> bool {
        if is_entry(tripped, function) {
            self.entries += 1;
        } else {
            self.entries = 0;
            self.is_behind_empty = (tripped, function) == (0, 0);
        }
        self.is_behind_empty && self.entries == SIGNALS
    }
}

fn is_entry(tripped: u64, function: u64) -> bool {
    tripped <= 1 && function >= LOWEST && function.is_multiple_of(8)
}

/// Words of the memory; zeros on pages that cannot be read.
fn piece<M: Memory>(memory: &M, at: u64, end: u64) -> Vec<u64> {
    let words = usize::try_from((end - at) / 8).unwrap_or(PIECE_WORDS);
    let mut bytes = vec![0; 8 * words.min(PIECE_WORDS)];
    if memory.read(at, &mut bytes).is_err() {
        for (page, bytes) in (0_u64..).zip(bytes.chunks_mut(PAGE_BYTES)) {
            if memory.read(at + PAGE_BYTES as u64 * page, bytes).is_err() {
                bytes.fill(0);
            }
        }
    }
    let (words, _) = bytes.as_chunks();
    words.iter().map(|&word| u64::from_le_bytes(word)).collect()
}

/// The functions in the array at this address, each once. Signals that the program does not handle have
/// an `int` (`SIG_DFL`, `SIG_IGN`) or `None`.
///
/// # Errors
/// [`Fault`], also if no array is there.
pub fn functions<M: Memory>(objects: &Objects<'_, M>, at: u64) -> Result<Vec<u64>, Fault> {
    let table: [u8; 8 * TABLE_WORDS] = objects.bytes(at)?;
    let (words, _) = table.as_chunks();
    let mut functions = Vec::new();
    let (entries, _) = words.as_chunks::<ENTRY_WORDS>();
    for (signal, entry) in entries.iter().enumerate() {
        let [tripped, function] = entry.map(u64::from_le_bytes);
        match signal {
            0 if (tripped, function) == (0, 0) => {}
            1.. if is_entry(tripped, function) => functions.push(function),
            _ => return Err(Fault),
        }
    }
    functions.sort_unstable();
    functions.dedup();
    // Real-time signals have their default.
    let is_default = |&function: &u64| objects.int(function) == Ok(0);
    match functions.iter().any(is_default) {
        true => Ok(functions),
        false => Err(Fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpython::test_heap::TestHeap;

    const AT: u64 = 0x5_0000;

    /// Variables with an array at this word, whose entries are `default` but for a few.
    fn variables(word: usize, default: u64, others: &[(usize, u64)]) -> Vec<u64> {
        let mut words = vec![0x7777; word];
        words.extend([0, 0]);
        for signal in 1..=SIGNALS {
            let other = others.iter().find(|(of, _)| *of == signal);
            words.extend([0, other.map_or(default, |&(_, function)| function)]);
        }
        // An array that goes on looks the same.
        words.extend([0, default, 1, 2]);
        words
    }

    #[test]
    fn the_array_is_found_at_any_word_by_its_form() {
        for word in [0, 1, 2, 511, 513, 20_000] {
            let mut heap = TestHeap::new();
            let (default, other) = (heap.int(&[0], false), heap.str("x"));
            let words = variables(word, default, &[(1, other), (15, other)]);
            heap.map.put_words(AT, &words);
            let data = AT..AT + 8 * words.len() as u64;
            let found = find(&heap.objects(), data).expect("no array");
            assert_eq!(found, AT + 8 * word as u64);
            let mut expected = vec![default, other];
            expected.sort_unstable();
            assert_eq!(functions(&heap.objects(), found), Ok(expected));
        }
    }

    #[test]
    fn what_only_looks_like_the_array_is_none() {
        let mut heap = TestHeap::new();
        let (default, text) = (heap.int(&[0], false), heap.str("x"));
        let without_default = variables(2, text, &[]);
        let mut short = variables(2, default, &[]);
        short.truncate(2 + TABLE_WORDS - 2);
        let odd = variables(2, default, &[(30, 7)]);
        for words in [without_default, short, odd] {
            heap.map.put_words(AT, &words);
            let data = AT..AT + 8 * words.len() as u64;
            assert_eq!(find(&heap.objects(), data), None);
            assert_eq!(functions(&heap.objects(), AT + 16), Err(Fault));
        }
    }
}
