//! Coroutines and generators: their frame, and what it awaits.

use super::{DIRECT, Layout, REFERENCE_TAGS};
use crate::memory::{Fault, Memory};

/// `YIELD_FROM`, which also awaits, in 3.8 to 3.10 (`Include/opcode.h`).
const YIELD_FROM: u8 = 72;
/// Lowest argument of the `RESUME` behind a `yield from` or, one more, an `await` of 3.11 and 3.12
/// (`Lib/dis.py`, `RESUME`).
const RESUME_BEHIND_AWAIT: u8 = 2;
/// More words are on no stack.
const MAX_DEPTH: i64 = 1 << 16;

/// How a suspended frame refers to what it awaits (`_PyGen_yf` in `Objects/genobject.c`).
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspension {
    /// 3.8, 3.9: below `f_stacktop`; null while the frame runs.
    StackTop = 0,
    /// 3.10: below `f_valuestack[f_stackdepth]`; negative while the frame runs.
    Depth = 1,
    /// 3.11, 3.12: below `localsplus[stacktop]`.
    Index = 2,
    /// 3.13: as [`Suspension::Index`], and the state has a value for `await`.
    IndexAndState = 3,
    /// 3.14: below `stackpointer`.
    Pointer = 4,
    /// From 3.15 on: two below `stackpointer`; the states have other values.
    PointerBelow = 5,
}

/// A coroutine, generator or asynchronous generator at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coroutine {
    /// It has not begun.
    Created { frame: u64 },
    /// Its frame is on the stack of a thread.
    Running { frame: u64 },
    /// It waits; for nothing, 0, if it only yielded.
    Suspended { frame: u64, awaited: u64 },
    /// It has returned or raised.
    Finished,
}

/// `PyFrameState`, as far as it matters here.
enum State {
    Created,
    Yielded,
    Awaits,
    Running,
    Finished,
}

impl Layout {
    /// The state of a coroutine or generator.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read, or its numbers are impossible.
    pub fn coroutine<M: Memory>(&self, mem: &M, object: u64) -> Result<Coroutine, Fault> {
        let at = object.wrapping_add(u64::from(self.generator_frame));
        if self.generator_state == DIRECT {
            return match mem.word(at)? {
                0 => Ok(Coroutine::Finished),
                frame => self.of_frame_object(mem, frame),
            };
        }
        let frame = at;
        Ok(match self.state(mem, object, frame)? {
            State::Created => Coroutine::Created { frame },
            State::Running => Coroutine::Running { frame },
            State::Finished => Coroutine::Finished,
            State::Yielded => Coroutine::Suspended { frame, awaited: 0 },
            State::Awaits => Coroutine::Suspended {
                frame,
                awaited: self.awaited(mem, frame)?,
            },
        })
    }

    /// Up to 3.10.
    fn of_frame_object<M: Memory>(&self, mem: &M, frame: u64) -> Result<Coroutine, Fault> {
        let at = |offset: u32| frame.wrapping_add(u64::from(offset));
        if int(mem, at(self.frame_instruction))? < 0 {
            return Ok(Coroutine::Created { frame });
        }
        let top = if self.suspension == Suspension::Depth as u32 {
            match i64::from(int(mem, at(self.frame_stack_top))?) {
                depth if depth < 0 => 0,
                depth if depth > MAX_DEPTH => return Err(Fault),
                depth => mem
                    .word(at(self.frame_stack))?
                    .wrapping_add(8 * depth.unsigned_abs()),
            }
        } else {
            mem.word(at(self.frame_stack_top))?
        };
        if top == 0 {
            return Ok(Coroutine::Running { frame });
        }
        let code = self.code(mem, frame)?;
        let last = self.instruction_offset(mem, frame, code)?;
        let bytes = mem.word(code.wrapping_add(u64::from(self.code_bytes)))?;
        let next = bytes
            .wrapping_add(u64::from(self.bytes_data))
            .wrapping_add(u64::from(last) + 2);
        let awaited = match byte(mem, next)? {
            YIELD_FROM => mem.word(top.wrapping_sub(8))?,
            _ => 0,
        };
        Ok(Coroutine::Suspended { frame, awaited })
    }

    /// From 3.11 on (`Include/internal/pycore_frame.h`).
    fn state<M: Memory>(&self, mem: &M, object: u64, frame: u64) -> Result<State, Fault> {
        let state = object.wrapping_add(u64::from(self.generator_state));
        let state = byte(mem, state)?.cast_signed();
        let is = |suspension: Suspension| self.suspension == suspension as u32;
        if is(Suspension::Index) {
            return Ok(match state {
                -2 => State::Created,
                -1 if self.is_behind_await(mem, frame)? => State::Awaits,
                -1 => State::Yielded,
                0 => State::Running,
                _ => State::Finished,
            });
        }
        // From 3.15 on the numbers begin at zero, and one is between the last two of these.
        let state = match (is(Suspension::PointerBelow), state) {
            (true, 0..=2) => state - 3,
            (true, 4) => 0,
            (true, _) => 1,
            (false, state) => state,
        };
        Ok(match state {
            -3 => State::Created,
            -2 => State::Yielded,
            -1 => State::Awaits,
            0 => State::Running,
            _ => State::Finished,
        })
    }

    /// 3.11 and 3.12: whether the next instruction is the `RESUME` behind an `await`.
    fn is_behind_await<M: Memory>(&self, mem: &M, frame: u64) -> Result<bool, Fault> {
        let last = mem.word(frame.wrapping_add(u64::from(self.frame_instruction)))?;
        Ok(byte(mem, last.wrapping_add(3))? >= RESUME_BEHIND_AWAIT)
    }

    /// From 3.11 on: what a frame that awaits has on its stack.
    fn awaited<M: Memory>(&self, mem: &M, frame: u64) -> Result<u64, Fault> {
        let at = frame.wrapping_add(u64::from(self.frame_stack_top));
        let is = |suspension: Suspension| self.suspension == suspension as u32;
        let top = if is(Suspension::Index) || is(Suspension::IndexAndState) {
            let depth = i64::from(int(mem, at)?);
            if !(1..=MAX_DEPTH).contains(&depth) {
                return Err(Fault);
            }
            frame
                .wrapping_add(u64::from(self.frame_localsplus))
                .wrapping_add(8 * depth.unsigned_abs())
        } else {
            mem.word(at)?
        };
        let below = if is(Suspension::PointerBelow) { 16 } else { 8 };
        Ok(mem.word(top.wrapping_sub(below))? & !REFERENCE_TAGS)
    }
}

fn byte<M: Memory>(mem: &M, at: u64) -> Result<u8, Fault> {
    let mut byte = [0];
    mem.read(at, &mut byte)?;
    Ok(u8::from_le_bytes(byte))
}

fn int<M: Memory>(mem: &M, at: u64) -> Result<i32, Fault> {
    let mut bytes = [0; 4];
    mem.read(at, &mut bytes)?;
    Ok(i32::from_le_bytes(bytes))
}

#[cfg(test)]
#[path = "coroutine_tests.rs"]
mod tests;
