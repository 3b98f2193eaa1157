//! `datetime.now()`: Gunicorn's `handle_request` calls it when a request starts and when it ends,
//! `handle_error` when it fails. The code object of the calling frame shows which.
//!
//! [`datetime_now`] is what nearly every call needs. What is rare continues in a program of its own, so
//! that the verifier does not walk it once for each path that leads there.

use super::emit;
use super::exception::{Exception, ending};
use super::kernel::Live;
use super::kernel::serving;
use super::maps::{
    CODES, PYTHON_TAILS, code, count, keep_calm, keep_code, keep_shape, layout, learned_code,
    new_code,
};
use super::memory::{User, thread_state};
use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use probe_ebpf::abi::{
    NO_DEPTH, Next, ObjectKey, PythonTail, SeenBy, Stat, Thread, WORDS, flags, target_flags,
};
use probe_ebpf::gunicorn::{
    Code, Family, HANDLE_ERROR_EXC, Kind, NO_SLOT, Object, SHAPES, classify,
};
use probe_ebpf::machine::{Call, Ended, Kernel as _};
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::fields::{self, FIELDS};
use probe_ebpf::python::{Layout, frame};

#[uprobe]
pub fn datetime_now(ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    count(Stat::PythonHits);
    if let Some(seen) = Seen::soon(&live) {
        match seen.code() {
            None => continue_with(&ctx, PythonTail::LearnCode),
            Some(code) if code.kind == Kind::Other as u32 => {}
            Some(code) => seen.handle(&ctx, code),
        }
    }
    0
}

/// Continues with another program; returns only if that is missing.
#[inline(always)]
fn continue_with(ctx: &ProbeContext, tail: PythonTail) {
    // SAFETY: programs of the array take the same context.
    unsafe { PYTHON_TAILS.tail_call(ctx, tail as u32) }
}

/// The same with something to work on.
#[inline(always)]
fn hand_over(ctx: &ProbeContext, thread: &mut Thread, next: Next, tail: PythonTail) {
    // Volatile: the compiler does not know that another program reads it.
    // SAFETY: a valid reference.
    unsafe { core::ptr::write_volatile(&raw mut thread.next, next) }
    continue_with(ctx, tail);
}

/// The call that is seen.
struct Seen<'a> {
    live: &'a Live,
    layout: &'static Layout,
    thread: &'static mut Thread,
    /// Address of the calling frame, whose locals are in the thread's words.
    at: u64,
    frame: frame::Frame,
}

impl<'a> Seen<'a> {
    #[inline(always)]
    fn now(live: &'a Live) -> Option<Self> {
        let layout = layout(live.target)?;
        let thread = live.make_thread()?;
        Self::of(live, layout, thread)
    }

    /// The same. Looks first where Gunicorn called last: a frame that is at such a call now is the calling
    /// one, since nothing runs below it.
    #[inline(always)]
    fn soon(live: &'a Live) -> Option<Self> {
        let layout = layout(live.target)?;
        let thread = live.make_thread()?;
        let at = thread.frame;
        if at != 0
            && let Ok(frame) = frame::read(&User, layout, at, &mut thread.words)
            && frame.code == thread.code
            && (frame.instruction == thread.begin || frame.instruction == thread.calm)
        {
            return Some(Self {
                live,
                layout,
                thread,
                at,
                frame,
            });
        }
        Self::of(live, layout, thread)
    }

    #[inline(always)]
    fn of(live: &'a Live, layout: &'static Layout, thread: &'static mut Thread) -> Option<Self> {
        let Ok((at, frame)) = read_frame(live, layout, thread) else {
            count(Stat::FrameUnreadable);
            return None;
        };
        Some(Self {
            live,
            layout,
            thread,
            at,
            frame,
        })
    }

    #[inline(always)]
    fn key(&self) -> ObjectKey {
        ObjectKey::new(self.live.target.tgid, self.frame.code)
    }

    /// The calling code, if it is known.
    #[inline(always)]
    fn code(&self) -> Option<&'static mut Code> {
        code(self.key()).filter(|code| code.generation == self.live.target.generation)
    }

    /// The same as it was learned, for what is rare: the verifier follows one pointer.
    #[inline(always)]
    fn learned(&self) -> Option<&'static mut Code> {
        let code = learned_code(self.key());
        code.filter(|code| code.generation == self.live.target.generation)
    }

    #[inline(always)]
    fn call(&self, code: &Code) -> Call<'static> {
        Call {
            layout: self.layout,
            family: code.family,
            is_stream: code.is_stream != 0,
            request: frame::local(&self.thread.words, code.req),
            client: frame::local(&self.thread.words, code.client),
        }
    }

    /// Gunicorn handles a request.
    #[inline(always)]
    fn handle(self, ctx: &ProbeContext, code: &mut Code) {
        count(Stat::PythonRequestHits);
        if code.kind == Kind::HandleError as u32 {
            return continue_with(ctx, PythonTail::Fail);
        }
        let call = self.call(code);
        let machine = self.live.machine();
        let has_started = frame::local(&self.thread.words, code.start) != 0;
        if !has_started {
            code.begin = self.frame.instruction;
        }
        self.thread.frame = self.at;
        self.thread.code = self.frame.code;
        self.thread.begin = code.begin;
        self.thread.calm = code.calm;
        if has_started {
            if code.calm == self.frame.instruction && machine.has_status(&call) {
                machine.exited(&call, Ended::default());
            } else {
                continue_with(ctx, PythonTail::EndCarefully);
            }
            return;
        }
        let shape = &code.shapes[Object::Request as usize];
        let words = &mut self.thread.words;
        match fields::read(&User, self.layout, call.request, shape, words) {
            Ok(_) if !self.live.sees_io() => continue_with(ctx, PythonTail::EnterBlind),
            Ok(fields) => {
                self.thread.next.learned = 0;
                if machine.entered(&call, &fields, 0) {
                    continue_with(ctx, PythonTail::MeasureHead);
                }
            }
            Err(Fault) => learn(
                ctx,
                self.thread,
                Object::Request,
                call.request,
                PythonTail::Again,
            ),
        }
    }
}

#[inline(always)]
fn read_frame(
    live: &Live,
    layout: &Layout,
    thread: &mut Thread,
) -> Result<(u64, frame::Frame), Fault> {
    if thread.tstate == 0 {
        // It stays the same for the life of the thread.
        thread.tstate = thread_state(live.target)?;
    }
    let at = layout.current_frame(&User, thread.tstate)?;
    Ok((at, frame::read(&User, layout, at, &mut thread.words)?))
}

/// Classes that are learned for one call: that of a request, of its reader and what leads there.
const MAX_LEARNED: u32 = 4;

/// Continues with learning the class of an object, and then with another program; returns when that
/// failed before.
#[inline(always)]
fn learn(ctx: &ProbeContext, thread: &mut Thread, object: Object, at: u64, then: PythonTail) {
    if at != 0 && thread.next.learned < MAX_LEARNED {
        let next = Next {
            object: at,
            kind: object as u32,
            then: then as u32,
            ..thread.next
        };
        hand_over(ctx, thread, next, PythonTail::LearnClass);
    }
    count(Stat::LineUnreadable);
}

/// Classifies the calling code, and begins again.
#[uprobe]
pub fn code_learned(ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    if let Some(seen) = Seen::now(&live)
        && let Some(code) = new_code(seen.key(), live.target.generation)
    {
        code.start = NO_SLOT;
        code.response = NO_SLOT;
        if classify(&User, seen.layout, seen.frame.code, code).is_ok() {
            keep_code(code);
            continue_with(&ctx, PythonTail::Again);
        }
        let _ = CODES.remove(seen.key());
        count(Stat::FrameUnreadable);
    }
    0
}

/// Finds the attributes of an object's class.
#[uprobe]
pub fn class_learned(ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    if let Some(seen) = Seen::now(&live) {
        let key = seen.key();
        let code = seen.learned();
        let mut next = seen.thread.next;
        let words = &mut seen.thread.words;
        let names = Object::names(next.kind);
        next.learned += 1;
        if let Some(code) = code
            && let Some(shape) = code.shapes.get_mut(next.kind as usize & (SHAPES - 1))
            && fields::learn(&User, seen.layout, next.object, names, shape, words).is_ok()
        {
            keep_shape(key, next.kind, shape);
        } else {
            next.learned = MAX_LEARNED;
        }
        // SAFETY: as in `hand_over`; programs of the array take the same context.
        unsafe {
            core::ptr::write_volatile(&raw mut seen.thread.next, next);
            PYTHON_TAILS.tail_call(&ctx, next.then);
        }
    }
    0
}

/// The attributes of an object; if its class is unknown, continues with learning it and then with this
/// program again.
#[inline(always)]
fn attributes(
    ctx: &ProbeContext,
    seen: &mut Seen<'_>,
    code: &Code,
    object: Object,
    at: u64,
    again: PythonTail,
) -> Option<[u64; FIELDS]> {
    let shape = &code.shapes[object as usize];
    match fields::read(&User, seen.layout, at, shape, &mut seen.thread.words) {
        Ok(found) => Some(found),
        Err(Fault) => {
            learn(ctx, seen.thread, object, at, again);
            None
        }
    }
}

/// A request enters, and its socket was not seen before.
// A program that continues with others must be one function.
#[inline(always)]
#[uprobe]
pub fn entered_blind(ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    if let Some(mut seen) = Seen::now(&live)
        && let Some(code) = seen.learned()
    {
        const AGAIN: PythonTail = PythonTail::EnterBlind;
        let call = seen.call(code);
        let socket = if code.family == Family::Sync as u32 {
            call.client
        } else if code.family == Family::Gthread as u32 {
            let at = call.client;
            let found = attributes(&ctx, &mut seen, code, Object::Connection, at, AGAIN);
            found.map_or(0, |[socket, ..]| socket)
        } else {
            // A greenlet's socket object wraps another.
            0
        };
        let machine = live.machine();
        let sock = if socket == 0 {
            0
        } else {
            live.sock_of(machine.descriptor(socket))
        };
        let shape = &code.shapes[Object::Request as usize];
        let words = &mut seen.thread.words;
        if let Ok(fields) = fields::read(&User, seen.layout, call.request, shape, words) {
            seen.thread.next.learned = 0;
            if machine.entered(&call, &fields, sock) {
                continue_with(&ctx, PythonTail::MeasureHead);
            }
        }
    }
    0
}

/// Measures the head of a request that entered.
#[uprobe]
pub fn head_measured(ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    if let Some(mut seen) = Seen::now(&live) {
        let _ = measure_head(&ctx, &live, &mut seen);
        seen.thread.next.learned = 0;
    }
    0
}

#[inline(always)]
fn measure_head(ctx: &ProbeContext, live: &Live, seen: &mut Seen<'_>) -> Option<()> {
    const AGAIN: PythonTail = PythonTail::MeasureHead;
    let code = seen.learned()?;
    let call = seen.call(code);
    let request = attributes(ctx, seen, code, Object::Request, call.request, AGAIN)?;
    let [_, _, unreader, body, _] = request;
    if live.sees_io() && live.target.flags & target_flags::TLS == 0 {
        let [buffer, ..] = attributes(ctx, seen, code, Object::Unreader, unreader, AGAIN)?;
        live.machine().measure_head(&call, buffer);
    } else {
        let [reader, ..] = attributes(ctx, seen, code, Object::Body, body, AGAIN)?;
        let [length, ..] = attributes(ctx, seen, code, Object::Reader, reader, AGAIN)?;
        if length != 0 {
            live.machine().announced(&call, length);
        }
    }
    Some(())
}

/// The end of a request that an exception may have interrupted, or whose bytes do not show its status.
#[uprobe]
pub fn request_ended(ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    if let Some(seen) = Seen::now(&live)
        && let Some(code) = seen.learned()
    {
        let call = seen.call(code);
        let (layout, tstate) = (seen.layout, seen.thread.tstate);
        if layout.handled_exception(&User, tstate) == 0 {
            if layout.has_own_calm_end() {
                // The compiler copies a `finally` for the way without an exception.
                code.calm = seen.frame.instruction;
                keep_calm(seen.key(), code.calm);
            }
        } else {
            let object = ending(&live, layout, tstate, call.request);
            let then = PythonTail::End;
            send_exception(&ctx, &live, seen.thread, &call, object, SeenBy::Exit, then);
        }
    }
    continue_with(&ctx, PythonTail::End);
    0
}

/// The same, once its exception is sent.
#[uprobe]
pub fn request_done(ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    if let Some(mut seen) = Seen::now(&live)
        && let Some(code) = seen.learned()
    {
        let call = seen.call(code);
        let machine = live.machine();
        let mut ended = Ended::default();
        let response = response(code, &seen.thread.words);
        if !machine.has_status(&call) {
            const AGAIN: PythonTail = PythonTail::End;
            if response != 0
                && let Some(found) =
                    attributes(&ctx, &mut seen, code, Object::Response, response, AGAIN)
            {
                ended = machine.ended(seen.layout, found);
                // A stream whose response is in no cell ends here only when it was answered.
                ended.has_headers_sent |= code.is_stream > code.is_in_cell;
            }
            ended.version = version(&live, &mut seen, code, call.request);
        }
        seen.thread.next.learned = 0;
        machine.exited(&call, ended);
    }
    0
}

/// The version of HTTP of a request that entered; 0 if it cannot be read.
#[inline(always)]
fn version(live: &Live, seen: &mut Seen<'_>, code: &Code, request: u64) -> u32 {
    let shape = &code.shapes[Object::Request as usize];
    let words = &mut seen.thread.words;
    let found = fields::read(&User, seen.layout, request, shape, words);
    let tuple = found.map_or(0, |[_, _, _, _, version]| version);
    live.machine().version(seen.layout, tuple)
}

/// The response object; 0 when there is none.
#[inline(always)]
fn response(code: &Code, locals: &[u64; WORDS]) -> u64 {
    /// `ob_ref` of a cell (`Include/cpython/cellobject.h`).
    const CELL: u64 = 16;
    if code.response == NO_SLOT {
        return 0;
    }
    let object = frame::local(locals, code.response);
    if code.is_in_cell == 0 {
        object
    } else {
        User.peek(object.wrapping_add(CELL))
    }
}

/// `handle_error` runs.
#[uprobe]
pub fn request_failed(ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    if let Some(seen) = Seen::now(&live)
        && let Some(code) = seen.learned()
    {
        let call = seen.call(code);
        let exception = frame::local(&seen.thread.words, HANDLE_ERROR_EXC);
        seen.thread.next.key = 0;
        let (seen_by, then) = (SeenBy::HandleError, PythonTail::Failed);
        send_exception(&ctx, &live, seen.thread, &call, exception, seen_by, then);
    }
    continue_with(&ctx, PythonTail::Failed);
    0
}

/// The same, once its exception is sent.
#[uprobe]
pub fn failure_noted(_ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    if let Some(seen) = Seen::now(&live)
        && let Some(code) = seen.learned()
    {
        let call = seen.call(code);
        let machine = live.machine();
        let status = if code.response == NO_SLOT {
            0
        } else {
            let status = frame::local(&seen.thread.words, code.response);
            machine.number(seen.layout, status) as u16
        };
        let is_none = is_none(seen.layout, call.request);
        machine.failed(&call, seen.thread.next.key, status, is_none);
    }
    0
}

/// Continues with sending the exception that ended a request, and then with another program; returns if
/// there is none to be sent.
#[inline(always)]
fn send_exception(
    ctx: &ProbeContext,
    live: &Live,
    thread: &mut Thread,
    call: &Call<'_>,
    object: u64,
    seen_by: SeenBy,
    then: PythonTail,
) {
    let key = match live.machine().serving(call.request, call.client) {
        // `handle_error` may call `datetime.now` more than once.
        Some(conn) if conn.flags & flags::ERROR_HANDLED == 0 => conn.entered_ns,
        None if seen_by as u16 == SeenBy::HandleError as u16
            && !live.machine().is_refused(call) =>
        {
            emit::now()
        }
        _ => return,
    };
    if object == 0 {
        return;
    }
    let next = Next {
        object,
        key,
        kind: seen_by as u32,
        then: then as u32,
        ..thread.next
    };
    hand_over(ctx, thread, next, PythonTail::SendException);
    // The program that sends is not loaded yet.
    thread.next.key = 0;
}

/// Sends an exception.
#[uprobe]
pub fn exception_sent(ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    if let Some(seen) = Seen::now(&live)
        && let Some(code) = seen.learned()
    {
        let call = seen.call(code);
        let mut next = seen.thread.next;
        let exception = Exception {
            layout: seen.layout,
            id: live.id,
            object: next.object,
            seen_by: if next.kind == SeenBy::HandleError as u32 {
                SeenBy::HandleError
            } else {
                SeenBy::Exit
            },
            has_left: true,
            depth: NO_DEPTH,
        };
        match live.machine().serving(call.request, call.client) {
            Some(conn) => exception.send_for(conn),
            None if !exception.send(next.key) => next.key = 0,
            None => {}
        }
        // SAFETY: as in `hand_over`; programs of the array take the same context.
        unsafe {
            core::ptr::write_volatile(&raw mut seen.thread.next, next);
            PYTHON_TAILS.tail_call(&ctx, next.then);
        }
    }
    0
}

/// Whether an object is `None`, by the name of its type.
#[inline(always)]
fn is_none(layout: &Layout, object: u64) -> bool {
    let mut name = [0; 9];
    let class = User.word(object.wrapping_add(u64::from(layout.object_type)));
    let at = class.and_then(|class| User.word(class.wrapping_add(u64::from(layout.type_name))));
    at.and_then(|at| User.read(at, &mut name)).is_ok() && name == *b"NoneType\0"
}
