//! Python stacks of a worker's threads when it gets `SIGABRT`.
//!
//! The thread that got the signal is stopped in the kernel. Other threads run on, so their stacks may
//! be read inconsistently now and then. One program reads one thread and then continues with itself:
//! the verifier walks one thread only.

use super::emit::{Rooms, header, send_spare};
use super::exception::Process;
use super::kernel::Live;
use super::kernel::serving;
use super::maps::{NEW_STACK, STACK_ROOMS, STACK_TAILS, STACK_WALKS, any_layout, count, current};
use super::memory::{User, copy_kernel, thread_state};
use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use probe_ebpf::abi::{
    Conn, HEAD_BYTES, NO_INSTRUCTION, RecordKind, STACK_FRAMES, STACK_THREADS, StackFrame,
    StackRecord, StackWalk, Stat, lines_of,
};
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::Layout;

const ABRT: i32 = 6;

/// `signal_deliver(sig, info, ka)`: runs in the thread that gets the signal.
#[raw_tracepoint(tracepoint = "signal_deliver")]
pub fn signal_delivered(ctx: RawTracePointContext) -> i32 {
    if ctx.arg::<i32>(0) == ABRT && begin().is_some() {
        // SAFETY: programs of the array take the same context.
        unsafe { STACK_TAILS.tail_call(&ctx, 0) }
    }
    0
}

/// Prepares the walk through the threads of this process.
#[inline(always)]
fn begin() -> Option<()> {
    let live = serving()?;
    any_layout(live.target)?;
    let Ok(own) = thread_state(live.target) else {
        count(Stat::FrameUnreadable);
        return None;
    };
    if own == 0 {
        return None; // not a Python thread
    }
    let walk = StackWalk {
        own,
        next: own,
        threads: 0,
        reserved: 0,
    };
    STACK_WALKS.insert(live.id, walk, 0).ok()
}

/// Reads one thread and continues with the next.
#[raw_tracepoint(tracepoint = "signal_deliver")]
pub fn stack_of_thread(ctx: RawTracePointContext) -> i32 {
    let id = current();
    if step(id).is_some() {
        // SAFETY: as above.
        unsafe { STACK_TAILS.tail_call(&ctx, 0) }
    }
    let _ = STACK_WALKS.remove(id);
    0
}

/// Reads one thread; `None` when it was the last.
#[inline(always)]
fn step(id: u64) -> Option<()> {
    let live = serving()?;
    let layout = any_layout(live.target)?;
    // SAFETY: only this thread has this key.
    let walk = unsafe { &mut *STACK_WALKS.get_ptr_mut(id)? };
    let tstate = walk.next;
    let is_first = walk.threads == 0;
    let (base, offset) = if is_first {
        let interpreter = User.peek(tstate + u64::from(layout.tstate_interp));
        (interpreter, layout.interp_threads)
    } else {
        (tstate, layout.tstate_next)
    };
    walk.next = User.peek(base + u64::from(offset));
    walk.threads += 1;
    if is_first || tstate != walk.own {
        let thread = Thread {
            live: &live,
            layout,
            tstate,
            is_current: is_first,
            // CPython puts new threads before the others (`add_threadstate` of `Python/pystate.c`).
            is_main: walk.next == 0,
        };
        if thread.send().is_err() {
            count(Stat::FrameUnreadable);
        }
    }
    (walk.next != 0 && walk.threads <= STACK_THREADS).then_some(())
}

/// Fills in the request that a thread serves.
#[inline(always)]
fn request(conn: &Conn, record: &mut StackRecord) {
    record.entered_ns = conn.entered_ns;
    record.line_len = conn.line_len as u16;
    record.line_source = conn.line_source;
    copy_kernel(&conn.line[..HEAD_BYTES], &mut record.line);
}

struct Thread<'a> {
    live: &'a Live,
    layout: &'a Layout,
    tstate: u64,
    is_current: bool,
    is_main: bool,
}

impl Thread<'_> {
    /// Sends its stack, if it serves a request, got the signal or is the main thread. The kernel gives
    /// a signal to another thread while the main thread has an earlier one pending (`wants_signal` of
    /// `kernel/signal.c`).
    #[inline(always)]
    fn send(&self) -> Result<(), Fault> {
        let frame = self.layout.current_frame(&User, self.tstate)?;
        let process = Process::new(self.live.id);
        let caller = process.find_on_stack(self.layout, frame, 0);
        let machine = self.live.machine();
        let conn = caller.and_then(|caller| machine.serving(caller.request, caller.client));
        if conn.is_none() && !self.is_current && !self.is_main {
            return Ok(());
        }
        let rooms = Rooms {
            rooms: &STACK_ROOMS,
            empty: &NEW_STACK,
        };
        send_spare(&rooms, |record| {
            record.header = header::<StackRecord>(RecordKind::Stack, self.live.target.tgid);
            record.thread_state = self.tstate;
            record.is_current = self.is_current as u32;
            if let Some(conn) = conn {
                request(conn, record);
            }
            self.frames(frame, record);
        });
        Ok(())
    }

    #[inline(always)]
    fn frames(&self, mut frame: u64, record: &mut StackRecord) {
        let layout = self.layout;
        for (n, place) in record.frames.iter_mut().enumerate() {
            if frame == 0 {
                break;
            }
            record.frames_len += 1;
            let (at, room) = lines_of(n);
            if let Some(lines) = record.lines.get_mut(at..at + room) {
                self.frame(frame, place, lines);
            }
            frame = User.peek(frame + u64::from(layout.frame_back));
        }
        if frame != 0 {
            record.frames_len = STACK_FRAMES as u32 + 1;
        }
    }

    #[inline(always)]
    fn frame(&self, frame: u64, place: &mut StackFrame, lines: &mut [u8]) {
        let layout = self.layout;
        place.names.frame = frame;
        layout.frame_names(&User, frame, &mut place.names);
        let code = layout.code(&User, frame).unwrap_or(0);
        place.instruction = layout
            .instruction_offset(&User, frame, code)
            .unwrap_or(NO_INSTRUCTION);
        place.first_line = User.peek(code + u64::from(layout.code_first_line)) as u32;
        place.line_table = layout.line_table;
        let table = User.peek(code + u64::from(layout.code_lines));
        let len = User.peek(table + u64::from(layout.var_size));
        let kept = if len > lines.len() as u64 {
            lines.len()
        } else {
            len as usize
        };
        if let Some(lines) = lines.get_mut(..kept) {
            // An unreadable table is filled with zeros, which are no valid table.
            let _ = User.read(table + u64::from(layout.bytes_data), lines);
        }
        place.lines_len = len as u32;
    }
}
