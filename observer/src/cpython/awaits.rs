//! The frames of a suspended coroutine: its own, that of the coroutine it awaits, and so on.

use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::coroutine::Coroutine;

use super::object::Objects;

/// Coroutines and the objects between them that are followed.
const MAX_STEPS: usize = 2048;

/// A frame of a coroutine or generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub at: u64,
    pub code: u64,
    /// `None` if the frame is at no instruction.
    pub instruction: Option<u32>,
}

/// What a coroutine does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has not begun.
    Created,
    /// A thread runs it.
    Running,
    #[default]
    Suspended,
    /// It has returned or raised.
    Finished,
}

/// A coroutine with what it awaits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Awaits {
    pub state: State,
    /// Outermost first; only the outermost unless it is suspended.
    pub frames: Vec<Frame>,
    /// What the innermost frame waits for: mostly a future. `None` if it only yields.
    pub object: Option<u64>,
    /// The innermost frames are missing: there were too many.
    pub is_cut: bool,
}

impl Awaits {
    /// Follows a coroutine.
    ///
    /// # Errors
    /// [`Fault`], also when it is changed meanwhile.
    pub fn read<M: Memory>(objects: &Objects<'_, M>, coroutine: u64) -> Result<Self, Fault> {
        let mut found = Self::default();
        let mut object = coroutine;
        for _ in 0..MAX_STEPS {
            match Step::of(objects, object)? {
                Step::Coroutine => match found.enter(objects, object)? {
                    Some(awaited) => object = awaited,
                    None => return Ok(found),
                },
                Step::Wrapper => object = wrapped(objects, object)?,
                Step::Future => {
                    found.object = Some(wrapped(objects, object)?);
                    return Ok(found);
                }
                Step::Other => {
                    found.object = Some(object);
                    return Ok(found);
                }
            }
        }
        found.is_cut = true;
        Ok(found)
    }

    /// Adds the frame of a coroutine; returns what it awaits.
    fn enter<M: Memory>(
        &mut self,
        objects: &Objects<'_, M>,
        coroutine: u64,
    ) -> Result<Option<u64>, Fault> {
        let (mem, layout) = (objects.memory(), objects.layout());
        let (state, frame, awaited) = match layout.coroutine(mem, coroutine)? {
            Coroutine::Created { frame } => (State::Created, frame, 0),
            Coroutine::Running { frame } => (State::Running, frame, 0),
            Coroutine::Suspended { frame, awaited } => (State::Suspended, frame, awaited),
            Coroutine::Finished => {
                self.state = State::Finished;
                return Ok(None);
            }
        };
        // An inner one that is not suspended is about to be, or was: the second read shows it.
        self.state = state;
        let code = layout.code(mem, frame)?;
        self.frames.push(Frame {
            at: frame,
            code,
            instruction: layout.instruction_offset(mem, frame, code).ok(),
        });
        Ok((awaited != 0).then_some(awaited))
    }
}

/// What an awaited object is.
enum Step {
    /// It has a frame.
    Coroutine,
    /// It stands for a coroutine.
    Wrapper,
    /// It stands for a future.
    Future,
    Other,
}

impl Step {
    /// By the name of its type (`Objects/genobject.c`, `Objects/iterobject.c`,
    /// `Modules/_asynciomodule.c`).
    fn of<M: Memory>(objects: &Objects<'_, M>, object: u64) -> Result<Self, Fault> {
        let name = objects.type_name(objects.type_of(object)?)?;
        Ok(match name.as_str() {
            "coroutine" | "generator" | "async_generator" => Self::Coroutine,
            "coroutine_wrapper"
            | "async_generator_asend"
            | "async_generator_athrow"
            | "anext_awaitable" => Self::Wrapper,
            "_asyncio.FutureIter" => Self::Future,
            _ => Self::Other,
        })
    }
}

/// The object that one of these stands for is their first field.
fn wrapped<M: Memory>(objects: &Objects<'_, M>, object: u64) -> Result<u64, Fault> {
    objects.field(object, objects.layout().object_type + 8)
}

#[cfg(test)]
#[path = "awaits_tests.rs"]
mod tests;
