//! The Python stack of a thread.

use super::{FrameNames, HEAD_BYTES, Header};

/// Frames of a stack that are recorded, the innermost ones.
pub const STACK_FRAMES: usize = 48;
/// Threads of a process whose stacks are recorded.
pub const STACK_THREADS: u32 = 32;
/// The innermost frames, whose lines matter most.
pub const INNER_FRAMES: usize = 16;
/// Bytes kept of the start of an inner frame's line table: enough for a function of some hundred
/// lines.
pub const INNER_LINES_BYTES: usize = 2048;
/// Bytes kept of the start of an outer frame's line table.
pub const OUTER_LINES_BYTES: usize = 512;
/// Bytes kept of the line tables of all frames.
pub const ALL_LINES_BYTES: usize =
    INNER_FRAMES * INNER_LINES_BYTES + (STACK_FRAMES - INNER_FRAMES) * OUTER_LINES_BYTES;

/// Start and size of a frame's line table in [`StackRecord::lines`].
#[inline(always)]
#[must_use]
pub const fn lines_of(frame: usize) -> (usize, usize) {
    if frame < INNER_FRAMES {
        (frame * INNER_LINES_BYTES, INNER_LINES_BYTES)
    } else {
        let outer = (frame - INNER_FRAMES) * OUTER_LINES_BYTES;
        (INNER_FRAMES * INNER_LINES_BYTES + outer, OUTER_LINES_BYTES)
    }
}

/// The Python stack of a thread when its process gets `SIGABRT`, which is how Gunicorn ends a worker
/// that hangs (`gunicorn/arbiter.py`, `murder_workers`). Sent for threads that serve a request, the
/// thread that got the signal, and the main thread.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct StackRecord {
    pub header: Header,
    /// When the thread's request entered the application; 0 if it serves none.
    pub entered_ns: u64,
    /// Address of its `PyThreadState`.
    pub thread_state: u64,
    /// 1 for the thread that got the signal.
    pub is_current: u32,
    /// Frames that were found; those beyond [`STACK_FRAMES`] are not recorded.
    pub frames_len: u32,
    /// As in [`super::RequestRecord`].
    pub line_len: u16,
    pub line_source: u16,
    pub reserved: u32,
    pub line: [u8; HEAD_BYTES],
    /// The innermost first.
    pub frames: [StackFrame; STACK_FRAMES],
    pub lines: [u8; ALL_LINES_BYTES],
}
const _: () = assert!(
    size_of::<StackRecord>()
        == 16 + 2 * 8 + 4 * 4 + HEAD_BYTES + STACK_FRAMES * STACK_FRAME_BYTES + ALL_LINES_BYTES
);
const _: () = assert!(size_of::<StackRecord>() <= u16::MAX as usize);

const STACK_FRAME_BYTES: usize = size_of::<FrameNames>() + 16;

/// A frame of a stack, with what its line number is computed from.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct StackFrame {
    pub names: FrameNames,
    /// Bytes from the beginning of its code to its current instruction; [`NO_INSTRUCTION`] when
    /// unknown.
    pub instruction: u32,
    pub first_line: u32,
    /// Format of its line table: a [`crate::python::LineTable`].
    pub line_table: u32,
    /// Length of its line table in bytes; [`StackRecord::lines`] holds as much of it as fits.
    pub lines_len: u32,
}
const _: () = assert!(size_of::<StackFrame>() == STACK_FRAME_BYTES);

/// [`StackFrame::instruction`] when it is unknown.
pub const NO_INSTRUCTION: u32 = u32::MAX;

/// Value of the `STACK_WALKS` map: a walk through the threads of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackWalk {
    /// `PyThreadState` of the thread that walks.
    pub own: u64,
    /// `PyThreadState` of the next thread to read.
    pub next: u64,
    pub threads: u32,
    pub reserved: u32,
}
const _: () = assert!(size_of::<StackWalk>() == 24);
