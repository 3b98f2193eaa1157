//! A frame, read at once: its code, its instruction and its local variables.

use super::{DIRECT, Layout, REFERENCE_TAGS};
use crate::memory::{Fault, Memory};

/// Local variables that are read.
pub const LOCALS: u32 = 16;
/// Words of a frame that are read at once, where its locals are near its start (from 3.11 on).
const WORDS: usize = 10 + LOCALS as usize;
/// Bytes between a frame's start and its locals up to which one read takes both.
const NEAR: u32 = 80;

/// What was read of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub code: u64,
    /// Its current instruction: an address, or an offset up to 3.10.
    pub instruction: u64,
}

/// Reads the frame at an address; its locals go to the end of `space`, see [`local`].
///
/// # Errors
/// [`Fault`] when it cannot be read.
#[inline(always)]
pub fn read<M: Memory>(
    mem: &M,
    layout: &Layout,
    frame: u64,
    space: &mut [u64; super::fields::SPACE],
) -> Result<Frame, Fault> {
    let words: &mut [u64; WORDS] = space.first_chunk_mut().ok_or(Fault)?;
    if layout.frame_localsplus <= NEAR {
        // The locals end where the space ends, wherever they begin.
        let at = frame
            .wrapping_add(u64::from(layout.frame_localsplus))
            .wrapping_sub(80);
        read_page(mem, at, words)?;
        let shift = 10 - layout.frame_localsplus as usize / 8;
        let word = |offset: u32| words.get((shift + offset as usize / 8) & 15).copied();
        return Ok(Frame {
            code: word(layout.frame_code).ok_or(Fault)? & !REFERENCE_TAGS,
            instruction: word(layout.frame_instruction).ok_or(Fault)?,
        });
    }
    let locals: &mut [u64; LOCALS as usize] = words.last_chunk_mut().ok_or(Fault)?;
    let at = frame.wrapping_add(u64::from(layout.frame_localsplus));
    read_page(mem, at, locals)?;
    Ok(Frame {
        code: layout.code(mem, frame)?,
        instruction: mem.word(frame.wrapping_add(u64::from(layout.frame_instruction)))?
            & u64::from(u32::MAX),
    })
}

impl Layout {
    /// The frame of a coroutine; 0 if it cannot be read.
    #[inline(always)]
    pub fn coroutine_frame<M: Memory>(&self, mem: &M, coroutine: u64) -> u64 {
        let at = coroutine.wrapping_add(u64::from(self.generator_frame));
        if self.generator_state == DIRECT {
            mem.peek(at)
        } else {
            at
        }
    }
}

/// Fills words of which the last may lie behind the frame: on a page that the process never touched
/// nothing can be read, and no local variable is.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "it is masked")]
fn read_page<M: Memory>(mem: &M, at: u64, words: &mut [u64]) -> Result<(), Fault> {
    const PAGE: u64 = 4096;
    if mem.words(at, words).is_ok() {
        return Ok(());
    }
    words.fill(0);
    let until_end = (PAGE - (at & (PAGE - 1))) / 8;
    let kept = core::hint::black_box(until_end) as usize & (2 * LOCALS as usize - 1);
    if until_end == 0 || until_end >= words.len() as u64 {
        return Err(Fault); // it is all on one page
    }
    mem.words(at, words.get_mut(..kept).ok_or(Fault)?)
}

/// The object that a local variable of the frame in `space` refers to; 0 while it is unbound, and for one
/// that is not read.
#[inline(always)]
#[must_use]
pub fn local(space: &[u64; super::fields::SPACE], slot: u32) -> u64 {
    if slot >= LOCALS {
        return 0;
    }
    let at = 10 + slot as usize;
    space
        .get(at & (super::fields::SPACE - 1))
        .copied()
        .unwrap_or(0)
        & !REFERENCE_TAGS
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::python::fields::SPACE;
    use crate::python::test_heap::{TestHeap, layouts};

    const INSTRUCTION: u64 = 0x1234;

    /// A frame whose locals are 64, 128, …, with these tags; the last is unbound.
    fn frame(layout: Layout, tags: u64) -> (TestHeap, u64, u64) {
        let mut heap = TestHeap::new(layout);
        let code = heap.new_object();
        let frame = heap.new_object() + 128;
        heap.set(frame, layout.frame_code, code | tags);
        let is_old = layout.frame_localsplus > NEAR;
        // An `int` with something else behind it, up to 3.10.
        let behind = if is_old { 7 << 32 } else { 0 };
        heap.set(frame, layout.frame_instruction, INSTRUCTION | behind);
        for slot in 0..LOCALS {
            let object = u64::from(slot + 1) * 64 % (u64::from(LOCALS) * 64);
            heap.set(frame, layout.frame_localsplus + slot * 8, object | tags);
        }
        (heap, frame, code)
    }

    #[test]
    fn a_frame_is_read_with_its_locals() {
        for (version, layout) in layouts() {
            for tags in 0..=REFERENCE_TAGS {
                // A code object has no tag where a frame does not refer to it by a reference.
                let (heap, at, code) = frame(layout, tags);
                let mut space = [u64::MAX; SPACE];
                let read = read(&heap, &layout, at, &mut space);
                let instruction = INSTRUCTION;
                assert_eq!(read, Ok(Frame { code, instruction }), "{version}");
                for slot in 0..LOCALS - 1 {
                    assert_eq!(local(&space, slot), u64::from(slot + 1) * 64, "{version}");
                }
                assert_eq!(local(&space, LOCALS - 1), 0, "{version}");
            }
        }
    }

    #[test]
    fn locals_are_near_from_3_11_on() {
        let near = layouts()
            .into_iter()
            .filter(|(_, layout)| layout.frame_localsplus <= NEAR);
        assert_eq!(near.count(), layouts().len() - 1);
    }

    #[test]
    fn locals_behind_the_last_page_are_unbound() {
        for (version, layout) in layouts() {
            for readable in 2..LOCALS {
                let mut heap = TestHeap::new(layout);
                let code = heap.new_object();
                // The last page ends behind so many locals.
                let used = heap.new_bytes(0) % 4096;
                heap.new_bytes(2 * 4096 - used as usize);
                let end = heap.new_bytes(0);
                let at = end - u64::from(layout.frame_localsplus + readable * 8);
                heap.set(at, layout.frame_code, code);
                heap.set(at, layout.frame_localsplus + 8, 64);
                let mut space = [u64::MAX; SPACE];
                let found = read(&heap, &layout, at, &mut space).map(|frame| frame.code);
                assert_eq!(found, Ok(code), "{version} {readable}");
                assert_eq!(local(&space, 1), 64, "{version}");
                assert_eq!(local(&space, readable), 0, "{version}");
            }
        }
    }

    #[test]
    fn an_unreadable_frame_is_a_fault() {
        for (version, layout) in layouts() {
            let (heap, frame, _) = frame(layout, 0);
            let mut space = [0; SPACE];
            for at in [0, 8, u64::MAX, u64::MAX - 100, frame + 0x10000] {
                assert_eq!(
                    read(&heap, &layout, at, &mut space),
                    Err(Fault),
                    "{version}"
                );
            }
        }
    }

    #[test]
    fn a_slot_that_was_not_read_is_no_other_one() {
        let space = [64; SPACE];
        for slot in [LOCALS, LOCALS + 1, u32::MAX] {
            assert_eq!(local(&space, slot), 0);
        }
    }
}
