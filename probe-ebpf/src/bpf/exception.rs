//! Exceptions: which one failed a request.
//!
//! Seen where someone asks for the exception that is being handled, as frameworks
//! do to log it; by Gunicorn's own `handle_error`; and where a request ends while
//! one is still handled. While a closer look is taken, also wherever one goes up.

use super::emit::{Rooms, header, send_now, send_spare};
use super::maps::{
    CODES, EXCEPTION_ROOMS, LOOK, NEW_EXCEPTION, NEW_UNWOUND, UNWOUND_ROOMS, count, current, flow,
    layout, serving_target,
};
use super::memory::{User, thread_state};
use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use probe_ebpf::abi::{
    CapturedFrameRecord, DeepCaptureExhaustedRecord, ExceptionRecord, Flow, LookWord, NO_DEPTH,
    ObjectKey, RecordKind, Role, SeenBy, Stat, TRACEBACK_FRAMES, Target,
};
use probe_ebpf::gunicorn::Kind;
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::Layout;

/// Exceptions told of one request that others handle.
const MAX_TOLD: u32 = 64;
/// Calls below `handle_request` that are looked through.
const MAX_DEPTH: u32 = 256;
/// Entries of a traceback: what is further in is a function that calls itself.
const MAX_TRACEBACK: u32 = 256;
/// Entries of a traceback before the application's: `handle` and `handle_request`.
const SERVERS_FRAMES: u32 = 4;

/// `sys.exc_info()` or `sys.exception()` is called.
#[uprobe]
pub fn exception_asked(_ctx: ProbeContext) -> u32 {
    let id = current();
    let Some(target) = serving_target((id >> 32) as u32) else {
        return 0;
    };
    count(Stat::ExceptionHits);
    if try_asked(id, target).is_err() {
        count(Stat::ExceptionUnreadable);
    }
    0
}

#[inline(always)]
fn try_asked(id: u64, target: &Target) -> Result<(), Fault> {
    let Some(layout) = layout(target) else {
        return Ok(());
    };
    let tstate = thread_state(target)?;
    let object = layout.handled_exception(&User, tstate);
    if object == 0 {
        return Ok(());
    }
    let process = Process::new(id);
    let frame = layout.current_frame(&User, tstate)?;
    let caught_in = layout.caught_in(&User, object);
    let on_stack = process.find_on_stack(layout, frame, caught_in);
    let caller = if on_stack.is_some() {
        on_stack
    } else {
        // What has left the application may be asked for when `handle_request` is over.
        process.find_in_traceback(layout, object)
    };
    let Some(caller) = caller else {
        return Ok(());
    };
    let has_left = on_stack.is_none() || caller.frame == caught_in;
    let Some(flow) = flow(&process.key(caller.request), target.generation) else {
        return Ok(());
    };
    if flow.exceptions >= MAX_TOLD && !has_left {
        count(Stat::ExceptionDropped);
        return Ok(());
    }
    let seen = Exception {
        layout,
        id,
        object,
        seen_by: SeenBy::Asked,
        has_left,
        depth: caller.depth,
    };
    seen.tell_of(flow);
    Ok(())
}

/// The exception that ends a request, if one does that has left the application.
#[inline(always)]
pub fn ending(id: u64, layout: &Layout, tstate: u64, request: u64) -> u64 {
    let object = layout.handled_exception(&User, tstate);
    if object == 0 {
        return 0;
    }
    // It may be of another request, or have nothing to do with any: some connections are closed by
    // another thread, and Gunicorn itself may be started while one is handled.
    let of = Process::new(id).find_in_traceback(layout, object);
    if of.is_some_and(|caller| caller.request == request) {
        object
    } else {
        0
    }
}

/// The connection of a request is closed without an answer. What no `except Exception`
/// stopped, such as `SystemExit`, is handled by a `finally` then.
#[inline(always)]
pub fn unanswered(id: u64, target: &Target, request: u64, flow: &mut Flow) {
    let (Some(layout), Ok(tstate)) = (layout(target), thread_state(target)) else {
        return;
    };
    let object = ending(id, layout, tstate, request);
    if object != 0 {
        let seen = Exception {
            layout,
            id,
            object,
            seen_by: SeenBy::Close,
            has_left: true,
            depth: NO_DEPTH,
        };
        seen.tell_of(flow);
    }
}

/// An exception that is about to be told.
pub struct Exception<'a> {
    pub layout: &'a Layout,
    pub id: u64,
    pub object: u64,
    pub seen_by: SeenBy,
    pub has_left: bool,
    pub depth: u32,
}

impl Exception<'_> {
    /// Tells it of a request that entered.
    #[inline(always)]
    pub fn tell_of(&self, flow: &mut Flow) {
        // Also if it cannot be told: then that it is missing is known.
        flow.exceptions += 1;
        self.tell(flow.entered_ns);
    }

    /// Tells it of the request that is named so. False if there was no room.
    ///
    /// A function of its own, so that the verifier goes on in one way after it.
    #[inline(never)]
    pub fn tell(&self, request: u64) -> bool {
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

    /// The innermost frames: each takes the place of one further out.
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

/// A `handle_request` that was found.
#[derive(Clone, Copy)]
pub struct Caller {
    frame: u64,
    pub request: u64,
    /// How many calls below it the frame is that was looked for.
    depth: u32,
}

impl Caller {
    #[inline(always)]
    fn of(layout: &Layout, frame: u64, slot: u32, depth: u32) -> Self {
        Self {
            frame,
            request: layout.local(&User, frame, slot).unwrap_or(0),
            depth,
        }
    }
}

/// The process whose requests are looked for.
pub struct Process {
    tgid: u32,
}

impl Process {
    pub fn new(id: u64) -> Self {
        Self {
            tgid: (id >> 32) as u32,
        }
    }

    /// The `handle_request` that a traceback begins with, or `handle` and then that: an
    /// exception with such a one has left the application.
    #[inline(always)]
    fn find_in_traceback(&self, layout: &Layout, exception: u64) -> Option<Caller> {
        let mut traceback = User.peek(exception + u64::from(layout.exception_traceback));
        for _ in 0..SERVERS_FRAMES {
            if traceback == 0 {
                break;
            }
            let frame = layout.frame_of_traceback(&User, traceback);
            if let Some(slot) = self.request_slot(layout, frame) {
                return Some(Caller::of(layout, frame, slot, NO_DEPTH));
            }
            traceback = User.peek(traceback + u64::from(layout.traceback_next));
        }
        None
    }

    /// The `handle_request` that a stack is below of.
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
            if let Some(slot) = self.request_slot(layout, frame) {
                return Some(Caller::of(layout, frame, slot, depth));
            }
            // No branch may ask for it: the verifier would tell all its values apart.
            depth = depth.wrapping_add(1);
            frame = User.peek(frame + u64::from(layout.frame_back));
        }
        count(Stat::StackTooDeep);
        None
    }

    /// The local variable that is the request, if a frame is one of `handle_request`. That was
    /// looked at when the request entered.
    #[inline(always)]
    fn request_slot(&self, layout: &Layout, frame: u64) -> Option<u32> {
        let key = self.key(layout.code(&User, frame).unwrap_or(0));
        // SAFETY: integers, copied at once.
        let code = unsafe { CODES.get(key) }?;
        (code.kind == Kind::HandleRequest as u32).then_some(code.req)
    }

    #[inline(always)]
    pub fn key(&self, address: u64) -> ObjectKey {
        ObjectKey {
            address,
            tgid: self.tgid,
            reserved: 0,
        }
    }
}

/// An exception goes up out of a frame, or is caught there: `PyTraceBack_Here` is called.
#[uprobe]
pub fn exception_unwound(_ctx: ProbeContext) -> u32 {
    let id = current();
    let Some(target) = serving_target((id >> 32) as u32) else {
        return 0;
    };
    // Those that are no worker have no requests.
    if target.role != Role::Worker as u32 {
        return 0;
    }
    let (Some(granted), Some(used)) = (
        LOOK.get(LookWord::Granted as u32),
        LOOK.get_ptr_mut(LookWord::Used as u32),
    ) else {
        return 0;
    };
    // SAFETY: an integer that only this program writes; a lost race costs a hit more.
    let used = unsafe { &mut *used };
    if *used >= *granted {
        return 0;
    }
    *used += 1;
    if *used >= *granted {
        exhausted(id);
    }
    count(Stat::UnwoundHits);
    if try_unwound(id, target).is_err() {
        count(Stat::ExceptionUnreadable);
    }
    0
}

/// Tells that no more is looked at, before any request ends of which that is true.
#[inline(always)]
fn exhausted(id: u64) {
    let header =
        header::<DeepCaptureExhaustedRecord>(RecordKind::DeepCaptureExhausted, (id >> 32) as u32);
    send_now(DeepCaptureExhaustedRecord { header });
}

#[inline(always)]
fn try_unwound(id: u64, target: &Target) -> Result<(), Fault> {
    let Some(layout) = layout(target) else {
        return Ok(());
    };
    let tstate = thread_state(target)?;
    let frame = layout.current_frame(&User, tstate)?;
    let process = Process::new(id);
    let Some(caller) = process.find_on_stack(layout, frame, frame) else {
        return Ok(());
    };
    let Some(flow) = flow(&process.key(caller.request), target.generation) else {
        return Ok(());
    };
    let raised = layout.raised_exception(&User, tstate);
    // Also if it cannot be told: then that something is missing is known.
    flow.unwound += 1;
    let rooms = Rooms {
        rooms: &UNWOUND_ROOMS,
        empty: &NEW_UNWOUND,
    };
    send_spare(&rooms, |record| {
        record.header = header::<CapturedFrameRecord>(RecordKind::CapturedFrame, (id >> 32) as u32);
        record.request = flow.entered_ns;
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
