//! Tasks of event loops: one serves a request, and shows when that enters the application.
//!
//! [`task_created`] is what nearly every task needs. What is rare continues in a program of its own.

use super::kernel::{Live, serving};
use super::maps::{
    CODES, PYTHON_TAILS, any_layout, code, count, keep_code, keep_shape, keep_transport,
    learned_code, new_code,
};
use super::memory::User;
use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use probe_ebpf::abi::{ObjectKey, PythonTail, Stat, Thread, target_flags};
use probe_ebpf::coroutine::{self, Serving};
use probe_ebpf::gunicorn::{Code, Kind, Object, SHAPES};
use probe_ebpf::machine::Kernel as _;
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::{Layout, fields};

/// `_asyncio.Task.__init__(self, args, kwargs)` (`Modules/_asynciomodule.c`).
#[uprobe]
pub fn task_created(ctx: ProbeContext) -> u32 {
    let Some(live) = on_tasks() else {
        return 0;
    };
    count(Stat::TaskHits);
    let Some(created) = Created::of(&live, &ctx) else {
        return 0;
    };
    let known = code(created.key()).filter(|code| code.generation == live.target.generation);
    match known {
        None => continue_with(&ctx, PythonTail::LearnCoroutine),
        Some(code) if code.kind == Kind::Coroutine as u32 => created.enter(&ctx, code),
        Some(_) => {}
    }
    0
}

/// The current thread, if tasks of its process serve requests.
#[inline(always)]
fn on_tasks() -> Option<Live> {
    serving().filter(|live| live.target.flags & target_flags::TASKS != 0)
}

/// Continues with another program; returns only if that is missing.
#[inline(always)]
fn continue_with(ctx: &ProbeContext, tail: PythonTail) {
    // SAFETY: programs of the array take the same context.
    unsafe { PYTHON_TAILS.tail_call(ctx, tail as u32) }
}

/// A task that is about to be made.
struct Created<'a> {
    live: &'a Live,
    layout: &'static Layout,
    thread: &'static mut Thread,
    /// Of its coroutine.
    frame: u64,
    code: u64,
}

impl<'a> Created<'a> {
    #[inline(always)]
    fn of(live: &'a Live, ctx: &ProbeContext) -> Option<Self> {
        let layout = any_layout(live.target)?;
        let thread = live.make_thread()?;
        let arguments: u64 = ctx.arg(1)?;
        let first = arguments.wrapping_add(u64::from(layout.tuple_items));
        let frame = layout.coroutine_frame(&User, User.peek(first));
        match layout.code(&User, frame) {
            Ok(code) => Some(Self {
                live,
                layout,
                thread,
                frame,
                code,
            }),
            // It may be a coroutine of Cython, which has no frame.
            Err(Fault) => None,
        }
    }

    #[inline(always)]
    fn key(&self) -> ObjectKey {
        ObjectKey::new(self.live.target.tgid, self.code)
    }

    /// The code as it was learned, for what is rare: the verifier follows one pointer.
    #[inline(always)]
    fn learned(&self) -> Option<&'static mut Code> {
        let code = learned_code(self.key());
        code.filter(|code| code.generation == self.live.target.generation)
    }

    /// It serves a request.
    #[inline(always)]
    fn enter(mut self, ctx: &ProbeContext, code: &Code) {
        let serving = coroutine::serving(&User, self.layout, self.frame, code);
        match self.socket(code, serving) {
            Ok(0) => count(Stat::FlowWithoutConn),
            Ok(sock) => {
                self.thread.next.learned = 0;
                self.live.machine().task_entered(sock, serving);
            }
            Err(Fault) if self.thread.next.learned == 0 => {
                self.thread.next.learned = 1;
                continue_with(ctx, PythonTail::LearnServer);
            }
            Err(Fault) => {
                self.thread.next.learned = 0;
                count(Stat::FlowWithoutConn);
            }
        }
    }

    /// The connection of what serves a request.
    #[inline(always)]
    fn socket(&mut self, code: &Code, serving: Serving) -> Result<u64, Fault> {
        let transport = self.transport(code, serving)?;
        let fd = coroutine::descriptor(&User, self.layout, transport, code)?;
        Ok(self.live.sock_of(fd))
    }

    #[inline(always)]
    fn transport(&mut self, code: &Code, serving: Serving) -> Result<u64, Fault> {
        let shape = &code.shapes[Object::Server as usize];
        let words = &mut self.thread.words;
        let [transport, ..] = fields::read(&User, self.layout, serving.server, shape, words)?;
        Ok(transport)
    }
}

/// Classifies the code of a coroutine, and begins again.
#[uprobe]
pub fn coroutine_learned(ctx: ProbeContext) -> u32 {
    let Some(live) = on_tasks() else {
        return 0;
    };
    if let Some(created) = Created::of(&live, &ctx)
        && let Some(code) = new_code(created.key(), live.target.generation)
    {
        if coroutine::classify(&User, created.layout, created.code, code).is_ok() {
            created.thread.next.learned = 0;
            let is_serving = code.kind == Kind::Coroutine as u32;
            keep_code(code);
            if is_serving {
                continue_with(&ctx, PythonTail::TaskCreated);
            }
        } else {
            let _ = CODES.remove(created.key());
            count(Stat::FrameUnreadable);
        }
    }
    0
}

/// Finds where a server keeps its transport, and that its descriptor, and begins again.
#[uprobe]
pub fn server_learned(ctx: ProbeContext) -> u32 {
    let Some(live) = on_tasks() else {
        return 0;
    };
    if let Some(created) = Created::of(&live, &ctx)
        && let Some(code) = created.learned()
    {
        let layout = created.layout;
        let serving = coroutine::serving(&User, layout, created.frame, code);
        let kind = Object::Server as u32;
        let names = Object::names(kind);
        let words = &mut created.thread.words;
        if let Some(shape) = code.shapes.get_mut(kind as usize & (SHAPES - 1))
            && fields::learn(&User, layout, serving.server, names, shape, words).is_ok()
        {
            let found = fields::read(&User, layout, serving.server, shape, words);
            let transport = found.map_or(0, |[transport, ..]| transport);
            let shape = *shape;
            keep_shape(created.key(), kind, &shape);
            if coroutine::learn_transport(&User, layout, transport, code).is_ok() {
                keep_transport(created.key(), code.transport);
            }
        }
        continue_with(&ctx, PythonTail::TaskCreated);
    }
    0
}
