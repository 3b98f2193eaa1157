//! A frame, read at once: its code, its instruction and its local variables.

use super::{Layout, REFERENCE_TAGS};
use crate::memory::{Fault, Memory};

/// Local variables that are read.
pub const LOCALS: usize = 16;
/// Words of a frame that are read at once, where its locals are near its start (from 3.11 on).
const WORDS: usize = 10 + LOCALS;
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
        mem.words(at, words)?;
        let shift = 10 - layout.frame_localsplus as usize / 8;
        let word = |offset: u32| words.get((shift + offset as usize / 8) & 15).copied();
        return Ok(Frame {
            code: word(layout.frame_code).ok_or(Fault)? & !REFERENCE_TAGS,
            instruction: word(layout.frame_instruction).ok_or(Fault)?,
        });
    }
    let locals: &mut [u64; LOCALS] = words.last_chunk_mut().ok_or(Fault)?;
    mem.words(
        frame.wrapping_add(u64::from(layout.frame_localsplus)),
        locals,
    )?;
    Ok(Frame {
        code: layout.code(mem, frame)?,
        instruction: mem.word(frame.wrapping_add(u64::from(layout.frame_instruction)))?
            & u64::from(u32::MAX),
    })
}

/// The object that a local variable of the frame in `space` refers to; 0 while it is unbound.
#[inline(always)]
#[must_use]
pub fn local(space: &[u64; super::fields::SPACE], slot: u32) -> u64 {
    let at = 10 + (slot as usize & (LOCALS - 1));
    space
        .get(at & (super::fields::SPACE - 1))
        .copied()
        .unwrap_or(0)
        & !REFERENCE_TAGS
}
