//! What each thread of a process does in Python, read while it does it.
//!
//! Nothing is stopped. A thread's stack is taken as it is read if another look right
//! after finds the same frames at the same calls; where the innermost frame is within
//! its code may have changed, as that is one word. Else it is read again, some times.

use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::Layout;

use super::serving::Request;
use crate::cpython::object::Objects;
use crate::cpython::position::Position;
use crate::cpython::threads;
use crate::process::tasks::Tasks;

/// DeepCaptures at one thread.
const MAX_LOOKS: usize = 25;
/// Python's own limit is 1,000 unless raised; each call from C may add a frame of its own.
const MAX_FRAMES: usize = 4096;

/// The stack of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// As the kernel numbers it here; `None` where that is not known.
    pub tid: Option<u32>,
    pub is_main: bool,
    /// It never held still: only the outer frames that stayed are here.
    pub is_changing: bool,
    /// There are more frames, farther out.
    pub is_cut: bool,
    /// The request it serves.
    pub request: Option<Request>,
    /// Innermost first.
    pub frames: Vec<Position>,
}

/// A frame of Python code as it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    at: u64,
    code: u64,
    /// `None` of a frame that is at no instruction of its code, as while it is being made.
    instruction: Option<u32>,
}

/// The frames of a thread, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chain {
    frames: Vec<Frame>,
    is_cut: bool,
}

impl Chain {
    fn read<M: Memory>(objects: &Objects<'_, M>, tstate: u64) -> Result<Self, Fault> {
        let (mem, layout) = (objects.memory(), objects.layout());
        let mut chain = Self::default();
        let mut code_class = None;
        let mut at = layout.current_frame(mem, tstate)?;
        for _ in 0..MAX_FRAMES {
            if at == 0 {
                return Ok(chain);
            }
            let code = layout.code(mem, at)?;
            if is_code(objects, code, &mut code_class)? {
                chain.frames.push(Frame {
                    at,
                    code,
                    instruction: layout.instruction_offset(mem, at, code).ok(),
                });
            }
            at = objects.field(at, layout.frame_back)?;
        }
        chain.is_cut = at != 0;
        Ok(chain)
    }

    /// How many of its frames, counted from the outermost, are in a later chain at the same
    /// instruction; the innermost of both may have gone on.
    fn held(&self, later: &Self) -> usize {
        let both = self.frames.iter().rev().zip(later.frames.iter().rev());
        let is_held = |(outside, (one, other)): &(usize, (&Frame, &Frame))| {
            let is_innermost =
                outside + 1 == self.frames.len() && outside + 1 == later.frames.len();
            let same = one.at == other.at && one.code == other.code;
            same && (is_innermost || one.instruction == other.instruction)
        };
        both.enumerate().take_while(is_held).count()
    }
}

/// Whether what a frame runs is a code object: of one that marks the border to C it is `None`
/// from 3.13 on (`_PyEval_EvalFrameDefault` in `Python/ceval.c`).
fn is_code<M: Memory>(
    objects: &Objects<'_, M>,
    object: u64,
    known: &mut Option<u64>,
) -> Result<bool, Fault> {
    if object == 0 {
        return Ok(false);
    }
    let class = objects.type_of(object)?;
    if *known == Some(class) {
        return Ok(true);
    }
    let is_code = objects.type_name(class)? == "code";
    if is_code {
        *known = Some(class);
    }
    Ok(is_code)
}

/// Whether a frame is none of the program's: in 3.12 that at the border to C runs code in the
/// file `<shim>` (`_Py_MakeShimCode` in `Objects/codeobject.c`), and from 3.12 on one below each
/// `__init__` that Python calls is of no file of that name (`_Py_InitCleanup` in
/// `Python/specialize.c`).
fn is_shim(position: &Position) -> bool {
    match (position.file.as_deref(), position.function.as_deref()) {
        (Some("<shim>"), _) => true,
        (Some("__init__"), Some("__init__")) => position.line.is_none(),
        _ => false,
    }
}

/// The stacks of every thread of the main interpreter, the main thread first. Every call of
/// `look` is to give the memory as it is then.
///
/// # Errors
/// [`Fault`] when the threads cannot be listed.
pub fn stacks<M: Memory>(
    look: impl Fn() -> M,
    layout: &Layout,
    runtime: u64,
    tasks: &Tasks,
) -> Result<Vec<Stack>, Fault> {
    let threads = threads_of(&look, layout, runtime)?;
    let mut stacks = Vec::new();
    for (at, &tstate) in threads.iter().rev().enumerate() {
        let is_main = at == 0;
        let tid = tasks.of_thread(&look(), layout, tstate);
        // That of the process, unless a program starts its interpreter on another thread.
        let tid = tid.or(is_main.then_some(tasks.process));
        stacks.push(Stack {
            tid,
            is_main,
            ..stack(&look, layout, tstate)
        });
    }
    // One that never held still may have ended.
    if stacks.iter().any(|stack| stack.is_changing) {
        let left = threads_of(&look, layout, runtime)?;
        let mut is_left = threads.iter().rev().map(|tstate| left.contains(tstate));
        stacks.retain(|stack| is_left.next().unwrap_or(true) || !stack.is_changing);
    }
    Ok(stacks)
}

/// Threads come and go: the list, too, may have to be read again.
fn threads_of<M: Memory>(
    look: &impl Fn() -> M,
    layout: &Layout,
    runtime: u64,
) -> Result<Vec<u64>, Fault> {
    let mut lists = (0..MAX_LOOKS).map(|_| threads::threads(&look(), layout, runtime));
    lists.find_map(Result::ok).ok_or(Fault)
}

fn stack<M: Memory>(look: &impl Fn() -> M, layout: &Layout, tstate: u64) -> Stack {
    let mut last = Stack::default();
    for _ in 0..MAX_LOOKS {
        let memory = look();
        let objects = Objects::new(&memory, layout);
        let Ok(chain) = Chain::read(&objects, tstate) else {
            continue;
        };
        let positions: Vec<_> = chain
            .frames
            .iter()
            .map(|frame| Position::of(&objects, frame.code, frame.instruction))
            .collect();
        let request = chain.frames.iter().find_map(|frame| {
            let request = Request::of(&objects, frame.at, frame.code);
            request.ok().flatten()
        });
        let after = look();
        let Ok(after) = Chain::read(&Objects::new(&after, layout), tstate) else {
            continue;
        };
        let held = chain.held(&after);
        let is_changing = held < chain.frames.len() || held < after.frames.len();
        let left = positions.len().saturating_sub(held);
        let mut frames: Vec<_> = positions.into_iter().skip(left).collect();
        frames.retain(|position| !is_shim(position));
        last = Stack {
            is_changing,
            is_cut: chain.is_cut,
            request,
            frames,
            ..Stack::default()
        };
        if !is_changing {
            return last;
        }
    }
    last.is_changing = true;
    last
}

#[cfg(test)]
#[path = "stacks_tests.rs"]
mod tests;
