//! Exceptions: which one failed a request.
//!
//! Seen where someone asks for the exception that is being handled, as frameworks
//! do to log it; by Gunicorn's own `handle_error`; and where a request ends while
//! one is still handled. While a closer look is taken, also wherever one goes up.

use super::emit::{self, header, reserve_spare, submit_later};
use super::maps::{
    CODES, LOOK, NEW_EXCEPTION, count, current, flow, layout, serving_target,
};
use super::memory::{User, copy_kernel, thread_pointer};
use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use probe_ebpf::abi::{
    ExceptionRecord, Flow, FrameNames, NO_DEPTH, ObjectKey, RecordKind, SeenBy, Stat,
    TRACEBACK_FRAMES, Target, UnwoundRecord,
};
use probe_ebpf::gunicorn::Kind;
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::Layout;

/// Exceptions told of one request that others handle.
const MAX_TOLD: u32 = 64;
/// Calls below `handle_request` that are looked through.
const MAX_DEPTH: u32 = 256;
/// Entries of a traceback; `sys.getrecursionlimit()` is a thousand.
const MAX_TRACEBACK: u32 = 1024;
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
    let exception = layout.handled_exception(&User, tstate)?;
    if exception == 0 {
        return Ok(());
    }
    let process = Process::new(id, target);
    let mut seen = Exception {
        layout,
        id,
        object: exception,
        seen_by: SeenBy::Asked,
        has_left: true,
        depth: 0,
    };
    let traceback = User.word(exception + u64::from(layout.exception_traceback))?;
    let (flow, depth) = match process.flow_in_traceback(layout, traceback)? {
        Some(flow) => (flow, 0),
        None => {
            seen.has_left = false;
            let frame = layout.current_frame(&User, tstate)?;
            let caught_in = layout.traceback_frame(&User, traceback).unwrap_or(0);
            match process.flow_on_stack(layout, frame, caught_in)? {
                Some(found) => found,
                None => return Ok(()),
            }
        }
    };
    seen.depth = depth;
    if flow.exceptions >= MAX_TOLD && !seen.has_left {
        count(Stat::ExceptionDropped);
        return Ok(());
    }
    seen.tell_of(flow);
    Ok(())
}

/// The thread state of the current thread.
#[inline(always)]
pub fn thread_state(target: &Target) -> Result<u64, Fault> {
    User.word(thread_pointer()?.wrapping_add(target.tstate_slot as u64))
}

/// The exception that the current thread handles while its request ends, if any.
#[inline(always)]
pub fn handled(layout: &Layout, target: &Target) -> u64 {
    let tstate = thread_state(target);
    let exception = tstate.and_then(|tstate| layout.handled_exception(&User, tstate));
    exception.unwrap_or(0)
}

/// The connection of a request is closed without an answer. What no `except Exception`
/// stopped, such as `SystemExit`, is handled by a `finally` then.
#[inline(always)]
pub fn unanswered(id: u64, target: &Target, flow: &mut Flow) {
    if let Some(layout) = layout(target)
        && try_unanswered(id, target, layout, flow).is_err()
    {
        count(Stat::ExceptionUnreadable);
    }
}

#[inline(always)]
fn try_unanswered(
    id: u64,
    target: &Target,
    layout: &Layout,
    flow: &mut Flow,
) -> Result<(), Fault> {
    let exception = layout.handled_exception(&User, thread_state(target)?)?;
    if exception == 0 {
        return Ok(());
    }
    let traceback = User.word(exception + u64::from(layout.exception_traceback))?;
    let of = Process::new(id, target).flow_in_traceback(layout, traceback)?;
    // It may be of another request: some connections are closed by another thread.
    if of.is_some_and(|of| of.entered_ns == flow.entered_ns) {
        let seen = Exception {
            layout,
            id,
            object: exception,
            seen_by: SeenBy::Close,
            has_left: true,
            depth: NO_DEPTH,
        };
        seen.tell_of(flow);
    }
    Ok(())
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
        if self.tell(flow.entered_ns) {
            flow.exceptions += 1;
        }
    }

    /// Tells it of the request that is named so. False if there was no room.
    #[inline(always)]
    pub fn tell(&self, request: u64) -> bool {
        let (Some(mut entry), Some(empty)) = (
            reserve_spare::<ExceptionRecord>(),
            NEW_EXCEPTION.get(0),
        ) else {
            return false;
        };
        // SAFETY: the memory is reserved and ours, and any bytes are a valid record.
        let record = unsafe { &mut *entry.as_mut_ptr() };
        clear(record, empty);
        record.header = header::<ExceptionRecord>(RecordKind::Exception, (self.id >> 32) as u32);
        record.request = request;
        record.object = self.object;
        record.tid = self.id as u32;
        record.seen_by = self.seen_by as u16;
        record.has_left = self.has_left as u16;
        record.depth = self.depth;
        if self.describe(record).is_err() {
            count(Stat::ExceptionUnreadable);
        }
        submit_later(entry);
        true
    }

    #[inline(always)]
    fn describe(&self, record: &mut ExceptionRecord) -> Result<(), Fault> {
        let layout = self.layout;
        let class = User.word(self.object + u64::from(layout.object_type))?;
        layout.class_names(&User, class, &mut record.class);
        self.describe_traceback(record)?;
        record.came_from = layout.came_from(&User, self.object)?;
        let root = layout.root_cause(&User, self.object)?;
        if root == self.object {
            return Ok(());
        }
        record.root = root;
        let class = User.word(root + u64::from(layout.object_type))?;
        layout.class_names(&User, class, &mut record.root_class);
        let mut traceback = User.word(root + u64::from(layout.exception_traceback))?;
        let mut last = 0;
        for _ in 0..MAX_TRACEBACK {
            if traceback == 0 {
                break;
            }
            last = traceback;
            traceback = User.word(traceback + u64::from(layout.traceback_next))?;
        }
        if last != 0 {
            let frame = layout.traceback_frame(&User, last)?;
            record.root_frame.frame = frame;
            layout.frame_names(&User, frame, &mut record.root_frame);
        }
        Ok(())
    }

    /// The innermost frames: each takes the place of one further out.
    #[inline(always)]
    fn describe_traceback(&self, record: &mut ExceptionRecord) -> Result<(), Fault> {
        const LAST: usize = TRACEBACK_FRAMES - 1;
        let layout = self.layout;
        let mut traceback = User.word(self.object + u64::from(layout.exception_traceback))?;
        for n in 0..MAX_TRACEBACK {
            if traceback == 0 {
                break;
            }
            record.traceback_len = n + 1;
            if let Some(names) = record.frames.get_mut(n as usize & LAST) {
                names.frame = layout.traceback_frame(&User, traceback).unwrap_or(0);
            }
            traceback = User.word(traceback + u64::from(layout.traceback_next))?;
        }
        for names in &mut record.frames {
            describe_frame(layout, names);
        }
        Ok(())
    }
}

#[inline(always)]
fn describe_frame(layout: &Layout, names: &mut FrameNames) {
    if names.frame != 0 {
        layout.frame_names(&User, names.frame, names);
    }
}

/// What is left in the ring of other records is not to be told again.
#[inline(always)]
fn clear(record: &mut ExceptionRecord, empty: &ExceptionRecord) {
    const SIZE: usize = size_of::<ExceptionRecord>();
    // SAFETY: records are bytes without padding.
    let (from, to) = unsafe {
        (
            &*core::ptr::from_ref(empty).cast::<[u8; SIZE]>(),
            &mut *core::ptr::from_mut(record).cast::<[u8; SIZE]>(),
        )
    };
    copy_kernel(from, to);
}

/// The process whose requests are looked for.
struct Process {
    tgid: u32,
    generation: u64,
}

impl Process {
    fn new(id: u64, target: &Target) -> Self {
        Self {
            tgid: (id >> 32) as u32,
            generation: target.generation,
        }
    }

    /// The request whose `handle_request` a traceback begins with, or that of `handle`:
    /// an exception with such a one has left the application.
    #[inline(always)]
    fn flow_in_traceback(
        &self,
        layout: &Layout,
        mut traceback: u64,
    ) -> Result<Option<&'static mut Flow>, Fault> {
        for _ in 0..SERVERS_FRAMES {
            if traceback == 0 {
                break;
            }
            let frame = layout.traceback_frame(&User, traceback)?;
            if let Some(flow) = self.flow_of_frame(layout, frame)? {
                return Ok(Some(flow));
            }
            traceback = User.word(traceback + u64::from(layout.traceback_next))?;
        }
        Ok(None)
    }

    /// The request that a stack serves, and how many calls below its `handle_request`
    /// the frame is that caught the exception.
    #[inline(always)]
    fn flow_on_stack(
        &self,
        layout: &Layout,
        mut frame: u64,
        caught_in: u64,
    ) -> Result<Option<(&'static mut Flow, u32)>, Fault> {
        let mut depth = NO_DEPTH;
        for _ in 0..MAX_DEPTH {
            if frame == 0 {
                return Ok(None);
            }
            if frame == caught_in {
                depth = 0;
            }
            if let Some(flow) = self.flow_of_frame(layout, frame)? {
                return Ok(Some((flow, depth)));
            }
            depth = depth.saturating_add(1);
            frame = User.word(frame + u64::from(layout.frame_back))?;
        }
        count(Stat::StackTooDeep);
        Ok(None)
    }

    /// The request of a frame, if it is one of `handle_request`. That was looked at
    /// when the request entered.
    #[inline(always)]
    fn flow_of_frame(
        &self,
        layout: &Layout,
        frame: u64,
    ) -> Result<Option<&'static mut Flow>, Fault> {
        let key = self.key(layout.code(&User, frame)?);
        // SAFETY: integers, copied at once.
        let Some(code) = (unsafe { CODES.get(key) }) else {
            return Ok(None);
        };
        if code.kind != Kind::HandleRequest as u32 {
            return Ok(None);
        }
        let request = self.key(layout.local(&User, frame, code.req)?);
        Ok(flow(&request, self.generation))
    }

    #[inline(always)]
    fn key(&self, address: u64) -> ObjectKey {
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
    let Some(look) = LOOK.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: integers; a lost race costs one hit more or less.
    let look = unsafe { &mut *look };
    if look.hits_left == 0 {
        if look.exhausted_ns == 0 {
            look.exhausted_ns = emit::now();
        }
        return 0;
    }
    look.hits_left -= 1;
    count(Stat::UnwoundHits);
    if try_unwound(id, target).is_err() {
        count(Stat::ExceptionUnreadable);
    }
    0
}

#[inline(always)]
fn try_unwound(id: u64, target: &Target) -> Result<(), Fault> {
    let Some(layout) = layout(target) else {
        return Ok(());
    };
    let tstate = thread_state(target)?;
    let frame = layout.current_frame(&User, tstate)?;
    let found = Process::new(id, target).flow_on_stack(layout, frame, frame)?;
    let Some((flow, depth)) = found else {
        return Ok(());
    };
    let (class, object) = layout.raised_exception(&User, tstate)?;
    let Some(mut entry) = reserve_spare::<UnwoundRecord>() else {
        return Ok(());
    };
    // SAFETY: the memory is reserved and ours, and any bytes are a valid record.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    // SAFETY: integers, of which zero is a value.
    *record = unsafe { core::mem::zeroed() };
    record.header = header::<UnwoundRecord>(RecordKind::Unwound, (id >> 32) as u32);
    record.request = flow.entered_ns;
    record.object = object;
    record.class_object = class;
    record.tid = id as u32;
    record.depth = depth;
    layout.class_names(&User, class, &mut record.class);
    record.frame.frame = frame;
    layout.frame_names(&User, frame, &mut record.frame);
    submit_later(entry);
    flow.unwound += 1;
    Ok(())
}
