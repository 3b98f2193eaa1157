//! The current instruction of a frame.

use super::{DIRECT, Layout, LineTable};
use crate::memory::{Fault, Memory};

/// Bytes of an instruction, which is also the unit of `f_lasti` in 3.10 (`_Py_CODEUNIT`).
const UNIT_BYTES: u32 = 2;
/// `f_lasti` of a frame that has not begun.
const NOT_BEGUN: u32 = u32::MAX;

impl Layout {
    /// Bytes from the first instruction of a frame's code object, as [`Layout::code`] returns it, to
    /// the current instruction; 0 also for a frame that has not begun.
    ///
    /// `f_lasti` counts bytes in 3.8 and 3.9, and in 3.10 units (`PyFrame_GetLineNumber` in
    /// `Objects/frameobject.c`). `prev_instr` and `instr_ptr` point to the instruction, and
    /// `prev_instr` of a frame that has not begun to the unit before the first
    /// (`_PyInterpreterFrame_LASTI` in `Include/internal/pycore_frame.h`, from 3.14 on
    /// `pycore_interpframe.h`).
    ///
    /// # Errors
    /// [`Fault`] when the frame cannot be read or does not run that code.
    #[inline(always)]
    pub fn instruction_offset<M: Memory>(
        &self,
        mem: &M,
        frame: u64,
        code: u64,
    ) -> Result<u32, Fault> {
        let at = frame.wrapping_add(u64::from(self.frame_instruction));
        if self.code_instructions != DIRECT {
            let first = code.wrapping_add(u64::from(self.code_instructions));
            let offset = mem.word(at)?.wrapping_sub(first);
            if offset == u64::from(UNIT_BYTES).wrapping_neg() {
                return Ok(0);
            }
            return u32::try_from(offset).map_err(|_| Fault);
        }
        let mut last = [0; 4];
        mem.read(at, &mut last)?;
        match u32::from_le_bytes(last) {
            NOT_BEGUN => Ok(0),
            last if self.line_table == LineTable::Ranges as u32 => {
                last.checked_mul(UNIT_BYTES).ok_or(Fault)
            }
            last => Ok(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::{CPYTHON_3_8, CPYTHON_3_10, CPYTHON_3_12};
    use super::super::test_heap::{TestHeap, layouts};
    use super::*;

    /// Offset of a frame whose instruction field is this word.
    fn offset_of(layout: Layout, word: impl Fn(u64) -> u64) -> Result<u32, Fault> {
        let mut heap = TestHeap::new(layout);
        let code = heap.new_object();
        let first = code.wrapping_add(u64::from(layout.code_instructions));
        let frame = heap.with(layout.frame_instruction, word(first));
        layout.instruction_offset(&heap, frame, code)
    }

    #[test]
    fn a_counter_counts_bytes_or_units() {
        let behind = |last: u32| move |_| 0xdead_beef_0000_0000 | u64::from(last);
        assert_eq!(offset_of(CPYTHON_3_8, behind(42)), Ok(42));
        assert_eq!(offset_of(CPYTHON_3_10, behind(42)), Ok(84));
        for layout in [CPYTHON_3_8, CPYTHON_3_10] {
            assert_eq!(offset_of(layout, behind(0)), Ok(0));
            assert_eq!(offset_of(layout, behind(NOT_BEGUN)), Ok(0));
        }
        assert_eq!(offset_of(CPYTHON_3_10, behind(1 << 31)), Err(Fault));
    }

    #[test]
    fn a_pointer_outside_the_code_is_an_error() {
        let mut seen = 0;
        for (version, layout) in layouts() {
            if layout.code_instructions == DIRECT {
                continue;
            }
            seen += 1;
            assert_eq!(offset_of(layout, |first| first + 84), Ok(84), "{version}");
            assert_eq!(offset_of(layout, |first| first - 2), Ok(0), "{version}");
            for wrong in [0, 1, u64::MAX] {
                assert_eq!(offset_of(layout, |_| wrong), Err(Fault), "{version}");
            }
            assert_eq!(offset_of(layout, |first| first - 4), Err(Fault));
        }
        assert_eq!(seen, 5);
    }

    #[test]
    fn a_frame_that_cannot_be_read_is_an_error() {
        for layout in [CPYTHON_3_8, CPYTHON_3_12] {
            let heap = TestHeap::new(layout);
            assert_eq!(layout.instruction_offset(&heap, 0, 0), Err(Fault));
            assert_eq!(layout.instruction_offset(&heap, u64::MAX, 0), Err(Fault));
        }
    }
}
