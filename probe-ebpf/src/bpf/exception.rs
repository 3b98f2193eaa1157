//! Exceptions: which one failed a request.
//!
//! The programs see an exception in four places:
//!
//! - a framework asks for the handled exception, to log it
//! - Gunicorn calls `handle_error`
//! - a request ends while an exception is still handled
//! - during a deep capture, an exception leaves a frame
//! - of tasks: something reads its `__traceback__`, or a response that failed is written meanwhile

use super::emit::{Rooms, header, send_now, send_spare};
use super::kernel::Live;
use super::kernel::serving;
use super::maps::{
    CAPTURE_BUDGET, CAPTURED_FRAME_ROOMS, EXCEPTION_ROOMS, NEW_CAPTURED_FRAME, NEW_EXCEPTION,
    PYTHON_TAILS, code, count, exceptions_layout, layout,
};
use super::memory::{User, thread_state};
use aya_ebpf::{
    macros::{tracepoint, uprobe},
    programs::{ProbeContext, TracePointContext},
};
use probe_ebpf::abi::{
    CaptureBudget, CapturedFrameRecord, Conn, DeepCaptureExhaustedRecord, ExceptionRecord,
    NO_DEPTH, Next, ObjectKey, PythonTail, RecordKind, Role, SeenBy, Stat, TRACEBACK_FRAMES,
    Thread,
};
use probe_ebpf::branchless::{all_if_zero, choose};
use probe_ebpf::coroutine::{CELL_VALUE, cells};
use probe_ebpf::gunicorn::Kind;
use probe_ebpf::machine::Kernel as _;
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::Layout;

/// Handled exceptions sent for one request.
const MAX_EXCEPTIONS: u32 = 64;
/// Calls searched for `handle_request`.
const MAX_DEPTH: u32 = 256;
/// Entries of a traceback that are read; a longer one is recursion.
const MAX_TRACEBACK: u32 = 256;
/// Entries of a traceback searched for `handle_request`, which come before the application's.
const SERVERS_FRAMES: u32 = 4;

/// A thread calls `sys.exc_info()` or `sys.exception()`.
#[uprobe]
pub fn exception_asked(ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    count(Stat::ExceptionHits);
    asked(&ctx, &live, None);
    0
}

#[inline(always)]
fn asked(ctx: &ProbeContext, live: &Live, given: Option<u64>) {
    match try_asked(live, given) {
        Ok(0) => {}
        Ok(object) => {
            if let Some(thread) = live.make_thread() {
                let next = Next {
                    object,
                    ..thread.next
                };
                // Volatile: the compiler does not know that another program reads it.
                // SAFETY: a valid reference; programs of the array take the same context.
                unsafe {
                    core::ptr::write_volatile(&raw mut thread.next, next);
                    PYTHON_TAILS.tail_call(ctx, PythonTail::FailBoot as u32);
                }
            }
        }
        Err(Fault) => count(Stat::ExceptionUnreadable),
    }
}

/// A worker handles an exception before it served anything: if it exits next, that is why.
#[uprobe]
pub fn boot_failed(_ctx: ProbeContext) -> u32 {
    if let Some(live) = serving()
        && let Some(layout) = exceptions_layout(live.target)
        && let Some(thread) = live.thread()
    {
        let exception = Exception {
            layout,
            id: live.id,
            object: thread.next.object,
            seen_by: SeenBy::Asked,
            has_left: true,
            depth: NO_DEPTH,
        };
        exception.send(0);
    }
    0
}

/// The getter of `BaseException.__traceback__` (`Objects/exceptions.c`): `logging` calls it with the exception
/// that it is given, as Uvicorn gives it.
#[uprobe]
pub fn traceback_read(ctx: ProbeContext) -> u32 {
    let Some(live) = serving().filter(|live| live.machine().has_tasks()) else {
        return 0;
    };
    count(Stat::ExceptionHits);
    asked(&ctx, &live, ctx.arg(0));
    0
}

/// A task writes a response that failed: servers and frameworks do while they handle the exception.
#[tracepoint]
pub fn response_fails(_ctx: TracePointContext) -> u32 {
    if let Some(live) = serving() {
        answered(&live);
    }
    0
}

/// The exception that a task handles while it writes a response that failed.
#[inline(always)]
pub fn answered(live: &Live) {
    if try_asked(live, None).is_err() {
        count(Stat::ExceptionUnreadable);
    }
}

/// An exception, or the one that is handled, is reported, if it belongs to a request. Returns it if it may be
/// why a worker cannot boot, else 0.
#[inline(always)]
fn try_asked(live: &Live, given: Option<u64>) -> Result<u64, Fault> {
    let Some(layout) = exceptions_layout(live.target) else {
        return Ok(0);
    };
    let tstate = thread_state(live.target)?;
    let object = given.unwrap_or_else(|| layout.handled_exception(&User, tstate));
    if object == 0 {
        return Ok(0);
    }
    let process = Process::new(live.id);
    let frame = layout.current_frame(&User, tstate)?;
    let caught_in = layout.caught_in(&User, object);
    let on_stack = process.find_on_stack(layout, frame, caught_in);
    let caller = if on_stack.is_some() {
        on_stack
    } else {
        // `handle_request` may be over when an exception that left the application is asked for.
        process.find_in_traceback(layout, object)
    };
    let Some(caller) = caller else {
        return Ok(if may_boot(live) { object } else { 0 });
    };
    let has_left = on_stack.is_none() || caller.frame == caught_in;
    let machine = live.machine();
    let found = if machine.has_tasks() {
        machine.task(caller.request, caller.client)
    } else {
        let conn = machine.serving(caller.request, caller.client);
        conn.map(|conn| {
            let entered_ns = conn.entered_ns;
            (conn, entered_ns)
        })
    };
    let Some((conn, entered_ns)) = found else {
        return Ok(0);
    };
    if conn.exceptions >= MAX_EXCEPTIONS && !has_left {
        count(Stat::ExceptionDropped);
        return Ok(0);
    }
    let seen = Exception {
        layout,
        id: live.id,
        object,
        seen_by: SeenBy::Asked,
        has_left,
        depth: caller.depth,
    };
    if conn.entered_ns == entered_ns {
        // Counted even if it is dropped, so that the loss is known.
        conn.exceptions += 1;
    }
    seen.send(entered_ns);
    Ok(0)
}

/// Whether a worker may still be booting: it does so in its main thread, which has read nothing yet.
#[inline(always)]
fn may_boot(live: &Live) -> bool {
    let is_main = live.id as u32 == live.target.tgid;
    let has_read = |thread: &mut Thread| thread.last_read | thread.serving != 0;
    is_main && !live.thread().is_some_and(has_read)
}

/// The exception that left the application and ends a request; 0 for none.
#[inline(always)]
pub fn ending(live: &Live, layout: &Layout, tstate: u64, request: u64) -> u64 {
    let object = layout.handled_exception(&User, tstate);
    if object == 0 {
        return 0;
    }
    // It may belong to another request or to none: some connections are closed by another thread, and
    // Gunicorn itself may be started while an exception is handled.
    let of = Process::new(live.id).find_in_traceback(layout, object);
    if of.is_some_and(|caller| caller.request == request) {
        object
    } else {
        0
    }
}

/// The connection of a request is closed without an answer. An exception that no `except Exception`
/// stopped, such as `SystemExit`, is then handled by a `finally`.
#[inline(always)]
pub fn unanswered(live: &Live, conn: &mut Conn) {
    let (Some(layout), Ok(tstate)) = (layout(live.target), thread_state(live.target)) else {
        return;
    };
    let object = ending(live, layout, tstate, conn.request);
    if object != 0 {
        let seen = Exception {
            layout,
            id: live.id,
            object,
            seen_by: SeenBy::Close,
            has_left: true,
            depth: NO_DEPTH,
        };
        seen.send_for(conn);
    }
}

/// An exception that is about to be sent.
pub struct Exception<'a> {
    pub layout: &'a Layout,
    pub id: u64,
    pub object: u64,
    pub seen_by: SeenBy,
    pub has_left: bool,
    pub depth: u32,
}

impl Exception<'_> {
    /// Sends it for a request that entered the application.
    #[inline(always)]
    pub fn send_for(&self, conn: &mut Conn) {
        // Counted even if it is dropped, so that the loss is known.
        conn.exceptions += 1;
        self.send(conn.entered_ns);
    }

    /// Sends it with the request's key. False if there was no room.
    ///
    /// A function of its own, so that the verifier continues on one path after it.
    #[inline(never)]
    pub fn send(&self, request: u64) -> bool {
        let rooms = Rooms {
            rooms: &EXCEPTION_ROOMS,
            empty: &NEW_EXCEPTION,
        };
        send_spare(&rooms, |record| {
            record.header =
                header::<ExceptionRecord>(RecordKind::Exception, (self.id >> 32) as u32);
            record.request = request;
            record.object = self.object;
            record.tid = self.id as u32;
            record.seen_by = self.seen_by as u16;
            record.has_left = self.has_left as u16;
            record.depth = self.depth;
            self.describe(record);
        })
    }

    #[inline(always)]
    fn describe(&self, record: &mut ExceptionRecord) {
        let layout = self.layout;
        record.came_from = layout.came_from(&User, self.object);
        let root = layout.root_cause(&User, self.object);
        if root != self.object {
            record.root = root;
            let class = User.peek(root + u64::from(layout.object_type));
            layout.class_names(&User, class, &mut record.root_class);
            self.describe_root(root, record);
        }
        let class = User.peek(self.object + u64::from(layout.object_type));
        layout.class_names(&User, class, &mut record.class);
        self.describe_traceback(record);
    }

    #[inline(always)]
    fn describe_root(&self, root: u64, record: &mut ExceptionRecord) {
        let layout = self.layout;
        let mut traceback = User.peek(root + u64::from(layout.exception_traceback));
        let mut last = 0;
        for _ in 0..MAX_TRACEBACK {
            if traceback == 0 {
                break;
            }
            last = traceback;
            traceback = User.peek(traceback + u64::from(layout.traceback_next));
        }
        if last != 0 {
            let frame = layout.frame_of_traceback(&User, last);
            record.root_frame.frame = frame;
            layout.frame_names(&User, frame, &mut record.root_frame);
        }
    }

    /// Records the innermost frames: each overwrites one further out.
    #[inline(always)]
    fn describe_traceback(&self, record: &mut ExceptionRecord) {
        const LAST: usize = TRACEBACK_FRAMES - 1;
        let layout = self.layout;
        let mut traceback = User.peek(self.object + u64::from(layout.exception_traceback));
        for n in 0..MAX_TRACEBACK {
            if traceback == 0 {
                break;
            }
            record.traceback_len = n + 1;
            if let Some(names) = record.frames.get_mut(n as usize & LAST) {
                names.frame = layout.frame_of_traceback(&User, traceback);
            }
            traceback = User.peek(traceback + u64::from(layout.traceback_next));
        }
        for names in &mut record.frames {
            if names.frame != 0 {
                layout.frame_names(&User, names.frame, names);
            }
        }
    }
}

/// A frame of `handle_request`, or of a coroutine that serves a request.
#[derive(Clone, Copy)]
pub struct Caller {
    frame: u64,
    pub request: u64,
    /// The object of the connection.
    pub client: u64,
    /// How many calls below it the start of the search is.
    depth: u32,
}

/// Where a frame has the objects of its request.
#[derive(Clone, Copy)]
struct Slots {
    request: u32,
    client: u32,
    /// Which of them are in cells: a set of [`cells`].
    cells: u32,
}

impl Caller {
    /// Without branches: the verifier would follow each way by itself.
    #[inline(always)]
    fn of(layout: &Layout, frame: u64, slots: Slots, depth: u32) -> Self {
        let object = |slot: u32, cell: u32| {
            let object = layout.local(&User, frame, slot).unwrap_or(0);
            let is_in_cell = !all_if_zero(u64::from(slots.cells & cell));
            choose(
                is_in_cell,
                User.peek(object.wrapping_add(CELL_VALUE)),
                object,
            )
        };
        Self {
            frame,
            request: object(slots.request, cells::REQUEST),
            client: object(slots.client, cells::SERVER),
            depth,
        }
    }
}

/// The process whose requests are searched.
pub struct Process {
    tgid: u32,
}

impl Process {
    pub fn new(id: u64) -> Self {
        Self {
            tgid: (id >> 32) as u32,
        }
    }

    /// The `handle_request` at the start of a traceback, perhaps behind `handle`: such an exception
    /// has left the application.
    #[inline(always)]
    fn find_in_traceback(&self, layout: &Layout, exception: u64) -> Option<Caller> {
        let mut traceback = User.peek(exception + u64::from(layout.exception_traceback));
        for _ in 0..SERVERS_FRAMES {
            if traceback == 0 {
                break;
            }
            let frame = layout.frame_of_traceback(&User, traceback);
            if let Some(slots) = self.slots(layout, frame) {
                return Some(Caller::of(layout, frame, slots, NO_DEPTH));
            }
            traceback = User.peek(traceback + u64::from(layout.traceback_next));
        }
        None
    }

    /// The `handle_request` above a frame on the stack.
    #[inline(always)]
    pub fn find_on_stack(&self, layout: &Layout, mut frame: u64, caught_in: u64) -> Option<Caller> {
        let mut depth = NO_DEPTH;
        for _ in 0..MAX_DEPTH {
            if frame == 0 {
                return None;
            }
            if frame == caught_in {
                depth = 0;
            }
            if let Some(slots) = self.slots(layout, frame) {
                return Some(Caller::of(layout, frame, slots, depth));
            }
            // No branch may test it: the verifier would track every value.
            depth = depth.wrapping_add(1);
            frame = User.peek(frame + u64::from(layout.frame_back));
        }
        count(Stat::StackTooDeep);
        None
    }

    /// Slots of request and connection among the local variables, if a frame serves a request. Its code
    /// was classified when the request entered.
    #[inline(always)]
    fn slots(&self, layout: &Layout, frame: u64) -> Option<Slots> {
        let key = ObjectKey::new(self.tgid, layout.code(&User, frame).unwrap_or(0));
        let code = code(key)?;
        let other = Kind::Coroutine as u32 ^ code.kind;
        let is_coroutine = all_if_zero(u64::from(other));
        let slots = Slots {
            request: code.req,
            client: code.client,
            cells: code.is_in_cell & is_coroutine as u32,
        };
        (other == 0 || code.kind == Kind::HandleRequest as u32).then_some(slots)
    }
}

/// An exception leaves a frame, or is caught in it: Python calls `PyTraceBack_Here`.
#[uprobe]
pub fn deep_capture(_ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    // Only workers have requests.
    if live.target.role != Role::Worker as u32 {
        return 0;
    }
    let (Some(granted), Some(used)) = (
        CAPTURE_BUDGET.get(CaptureBudget::Granted as u32),
        CAPTURE_BUDGET.get_ptr_mut(CaptureBudget::Used as u32),
    ) else {
        return 0;
    };
    // SAFETY: an integer that only this program writes; a lost race costs one more hit.
    let used = unsafe { &mut *used };
    if *used >= *granted {
        return 0;
    }
    *used += 1;
    if *used >= *granted {
        exhausted(live.id);
    }
    count(Stat::DeepCaptureHits);
    if try_deep_capture(&live).is_err() {
        count(Stat::ExceptionUnreadable);
    }
    0
}

/// Reports that the budget is used, before any request ends whose frames are missing.
#[inline(always)]
fn exhausted(id: u64) {
    let header =
        header::<DeepCaptureExhaustedRecord>(RecordKind::DeepCaptureExhausted, (id >> 32) as u32);
    send_now(DeepCaptureExhaustedRecord { header });
}

#[inline(always)]
fn try_deep_capture(live: &Live) -> Result<(), Fault> {
    let Some(layout) = layout(live.target) else {
        return Ok(());
    };
    let tstate = thread_state(live.target)?;
    let frame = layout.current_frame(&User, tstate)?;
    let process = Process::new(live.id);
    let Some(caller) = process.find_on_stack(layout, frame, frame) else {
        return Ok(());
    };
    let Some(conn) = live.machine().serving(caller.request, caller.client) else {
        return Ok(());
    };
    let raised = layout.raised_exception(&User, tstate);
    // Counted even if it is dropped, so that the loss is known.
    conn.captured_frames += 1;
    let rooms = Rooms {
        rooms: &CAPTURED_FRAME_ROOMS,
        empty: &NEW_CAPTURED_FRAME,
    };
    send_spare(&rooms, |record| {
        record.header = header::<CapturedFrameRecord>(RecordKind::CapturedFrame, live.target.tgid);
        record.request = conn.entered_ns;
        record.object = raised.object;
        record.class_object = raised.class;
        record.is_made = raised.is_made as u16;
        record.has_traceback = raised.has_traceback as u16;
        record.depth = caller.depth;
        layout.class_names(&User, raised.class, &mut record.class);
        record.frame.frame = frame;
        layout.frame_names(&User, frame, &mut record.frame);
    });
    Ok(())
}
