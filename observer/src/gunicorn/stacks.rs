//! The Python stack of each thread of a process, read while the threads run.
//!
//! Nothing is stopped. A stack is valid if a second read right after the first finds the same
//! frames at the same calls; only the instruction of the innermost frame may differ, which is one
//! word. Otherwise the stack is read again, up to `MAX_ATTEMPTS` times.

use observer_model::Untrusted;
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::Layout;

use super::serving::Request;
use crate::cpython::object::Objects;
use crate::cpython::position::Position;
use crate::cpython::threads;
use crate::process::tasks::Tasks;

/// Attempts to read one thread; docs/STACK.md has the number.
pub(super) const MAX_ATTEMPTS: usize = 25;
/// Python's own limit is 1,000 unless raised; each call from C may add a frame of its own.
const MAX_FRAMES: usize = 4096;

/// The stack of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// Thread id on this host; `None` if unknown.
    pub tid: Option<u32>,
    pub is_main: bool,
    /// It changed at each attempt: only the outer frames, which stayed, are here.
    pub is_changing: bool,
    /// The outermost frames are missing.
    pub is_cut: bool,
    /// The request that the thread serves.
    pub request: Option<Request>,
    /// Innermost first.
    pub frames: Vec<Position>,
}

/// A frame of Python code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    at: u64,
    code: u64,
    /// `None` if the frame is at no instruction, as while it is created.
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

    /// The request that it serves: of Gunicorn's own code, else of the outermost frame of ASGI.
    fn request<M: Memory>(
        &self,
        objects: &Objects<'_, M>,
        positions: &[Position],
    ) -> Option<Request> {
        let of_gunicorn = self.frames.iter().find_map(|frame| {
            let request = Request::of(objects, frame.at, frame.code);
            request.ok().flatten()
        });
        of_gunicorn.or_else(|| {
            let mut outermost_first = self.frames.iter().zip(positions).rev();
            outermost_first.find_map(|(frame, position)| {
                let request = Request::of_asgi(objects, frame.at, frame.code, position);
                request.ok().flatten()
            })
        })
    }

    /// How many frames, counted from the outermost, a later chain has at the same instruction; the
    /// innermost of both may be at another one.
    fn unchanged(&self, later: &Self) -> usize {
        let both = self.frames.iter().rev().zip(later.frames.iter().rev());
        let is_same = |(outside, (one, other)): &(usize, (&Frame, &Frame))| {
            let is_innermost =
                outside + 1 == self.frames.len() && outside + 1 == later.frames.len();
            let same = one.at == other.at && one.code == other.code;
            same && (is_innermost || one.instruction == other.instruction)
        };
        both.enumerate().take_while(is_same).count()
    }
}

/// Whether a frame runs a code object: from 3.13 on a frame at the border to C has `None` (`_PyEval_EvalFrameDefault` in `Python/ceval.c`).
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

/// Whether a frame is the interpreter's own: in 3.12 the frame at the border to C is in the file
/// `<shim>` (`_Py_MakeShimCode` in `Objects/codeobject.c`), and from 3.12 on each `__init__` that
/// Python calls has one below it, in a file `__init__` (`_Py_InitCleanup` in
/// `Python/specialize.c`).
fn is_shim(position: &Position) -> bool {
    let [file, function] = [&position.file, &position.function];
    match (
        file.as_ref().map(Untrusted::raw),
        function.as_ref().map(Untrusted::raw),
    ) {
        (Some("<shim>"), _) => true,
        (Some("__init__"), Some("__init__")) => position.line.is_none(),
        _ => false,
    }
}

/// The stack of each thread of the main interpreter, the main thread first. Each call of `memory`
/// must return the memory as it is then.
///
/// # Errors
/// [`Fault`] when the threads cannot be listed.
pub fn stacks<M: Memory>(
    memory: impl Fn() -> M,
    layout: &Layout,
    runtime: u64,
    tasks: &Tasks,
) -> Result<Vec<Stack>, Fault> {
    let threads = threads_of(&memory, layout, runtime)?;
    let mut stacks = Vec::new();
    for (at, &tstate) in threads.iter().rev().enumerate() {
        let is_main = at == 0;
        let tid = tasks.of_thread(&memory(), layout, tstate);
        // The id of the process, unless a program starts its interpreter on another thread.
        let tid = tid.or(is_main.then_some(tasks.process));
        stacks.push(Stack {
            tid,
            is_main,
            ..stack(&memory, layout, tstate)
        });
    }
    // A thread that changed at each attempt may have exited.
    if stacks.iter().any(|stack| stack.is_changing) {
        let left = threads_of(&memory, layout, runtime)?;
        let mut is_left = threads.iter().rev().map(|tstate| left.contains(tstate));
        stacks.retain(|stack| is_left.next().unwrap_or(true) || !stack.is_changing);
    }
    Ok(stacks)
}

/// Threads come and go: the list, too, may have to be read again.
fn threads_of<M: Memory>(
    memory: &impl Fn() -> M,
    layout: &Layout,
    runtime: u64,
) -> Result<Vec<u64>, Fault> {
    let mut lists = (0..MAX_ATTEMPTS).map(|_| threads::threads(&memory(), layout, runtime));
    lists.find_map(Result::ok).ok_or(Fault)
}

fn stack<M: Memory>(memory: &impl Fn() -> M, layout: &Layout, tstate: u64) -> Stack {
    let mut last = Stack::default();
    for _ in 0..MAX_ATTEMPTS {
        let before = memory();
        let objects = Objects::new(&before, layout);
        let Ok(chain) = Chain::read(&objects, tstate) else {
            continue;
        };
        let positions: Vec<_> = chain
            .frames
            .iter()
            .map(|frame| Position::of(&objects, frame.code, frame.instruction))
            .collect();
        let request = chain.request(&objects, &positions);
        let after = memory();
        let Ok(after) = Chain::read(&Objects::new(&after, layout), tstate) else {
            continue;
        };
        let unchanged = chain.unchanged(&after);
        let is_changing = unchanged < chain.frames.len() || unchanged < after.frames.len();
        let left = positions.len().saturating_sub(unchanged);
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
