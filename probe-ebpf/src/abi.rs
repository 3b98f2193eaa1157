//! Everything that crosses between the eBPF programs and userspace, one record or map value a file.
//!
//! All types are `repr(C)` without padding and made of integers only, so that any bytes are a valid
//! value. Times are `CLOCK_MONOTONIC` nanoseconds; a time of zero means "not seen".

mod conn;
mod deep_capture;
mod exception;
mod exec;
mod exit;
pub mod flags;
mod fork;
mod gc;
mod gil;
mod header;
mod lost;
mod names;
mod object_key;
mod offsets;
mod oom;
mod request;
mod signal;
mod stack;
mod stat;
mod tail;
mod target;
mod thread;

pub use conn::{CONN_PLACE_COUNT, Conn, Established, HEAD_SLACK, Phase, conn_place, marks};
pub use deep_capture::{CaptureBudget, CapturedFrameRecord, DeepCaptureExhaustedRecord};
pub use exception::{ExceptionRecord, NO_DEPTH, SeenBy};
pub use exec::ExecRecord;
pub use exit::ExitRecord;
pub use fork::ForkRecord;
pub use gc::{GcRecord, GcRun};
pub use gil::Gil;
pub use header::{Header, RecordKind};
pub use lost::{LostFrom, LostRecord};
pub use names::{ClassNames, FrameNames};
pub use object_key::ObjectKey;
pub use offsets::{ENTER_ARGS, EXIT_RET, KernelOffsets};
pub use oom::OomRecord;
pub use request::{LineSource, RequestRecord, SHORT_LINE_BYTES, TimedBy};
pub use signal::{REPORTED_SIGNALS, SENT_BY_THREAD, SignalRecord};
pub use stack::{
    ALL_LINES_BYTES, INNER_FRAMES, INNER_LINES_BYTES, NO_INSTRUCTION, OUTER_LINES_BYTES,
    STACK_FRAMES, STACK_THREADS, StackFrame, StackRecord, StackWalk, lines_of,
};
pub use stat::Stat;
pub use tail::{IoTail, PythonTail, SocketTail, Tail};
pub use target::{MAX_PORTS, Mode, NO_LAYOUT, Role, TARGET_PLACE_COUNT, Target, target_flags};
pub use thread::{Call, Next, THREAD_PLACE_COUNT, Thread, WORDS, WRITE_WORDS};

/// Bytes of a request head kept for each connection: enough for a request line.
pub const HEAD_BYTES: usize = 256;
/// Bytes of a method or command name kept in a record.
pub const NAME_BYTES: usize = 16;
/// Bytes kept of a class's name.
pub const CLASS_BYTES: usize = 64;
/// Bytes kept of the start of a module's name.
pub const MODULE_BYTES: usize = 48;
/// Bytes kept of the end of a function's name.
pub const FUNCTION_BYTES: usize = 64;
/// Bytes kept of the end of a file's name.
pub const FILE_BYTES: usize = 128;
/// Innermost frames kept of a traceback. A power of two.
pub const TRACEBACK_FRAMES: usize = 16;
