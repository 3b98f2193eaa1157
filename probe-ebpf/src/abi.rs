//! Everything that crosses between the kernel and userspace.
//!
//! All types are `repr(C)` without padding, made of integers only, so that any
//! bytes are a valid value. Times are `CLOCK_MONOTONIC` nanoseconds; a time of
//! zero means "not seen".

/// Bytes of a request head kept for each connection: enough for a request line.
pub const HEAD_BYTES: usize = 256;
/// Bytes of a type or command name kept in a record.
pub const NAME_BYTES: usize = 16;
/// Bytes kept of a class's name.
pub const CLASS_BYTES: usize = 64;
/// … of a module's name, of its beginning.
pub const MODULE_BYTES: usize = 48;
/// … of a function's name, of its end.
pub const FUNCTION_BYTES: usize = 64;
/// … of a file's name, of its end.
pub const FILE_BYTES: usize = 128;
/// Frames kept of a traceback, the innermost ones. A power of two.
pub const TRACEBACK_FRAMES: usize = 16;

/// What a record of the ring buffer is; the first field of its [`Header`].
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// [`RequestRecord`]
    Request = 1,
    /// [`ForkRecord`]
    Fork = 2,
    /// [`ExecRecord`]
    Exec = 3,
    /// [`ExitRecord`]
    Exit = 4,
    /// [`ExceptionRecord`]
    Exception = 5,
    /// [`CapturedFrameRecord`]
    CapturedFrame = 6,
    /// [`DeepCaptureExhaustedRecord`]
    DeepCaptureExhausted = 7,
    /// [`SignalRecord`]
    Signal = 8,
    /// [`OomRecord`]
    Oom = 9,
    /// [`StackRecord`]
    Stack = 10,
    /// [`GcRecord`]
    Gc = 11,
}

/// Begins every record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// A [`RecordKind`].
    pub kind: u16,
    /// Size of the whole record in bytes.
    pub len: u16,
    /// Process (thread group) the record is about, in the host's pid namespace.
    pub tgid: u32,
    /// When the record was made.
    pub time_ns: u64,
}
const _: () = assert!(size_of::<Header>() == 16);

/// One finished request.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RequestRecord {
    pub header: Header,
    /// The kernel established the connection; 0 for all but its first request.
    pub established_ns: u64,
    /// `accept` returned the connection; 0 for all but its first request.
    pub accepted_ns: u64,
    /// The first bytes of the request were read.
    pub first_read_ns: u64,
    /// Gunicorn's `handle_request` began.
    pub entered_ns: u64,
    /// The first bytes of the response were written.
    pub first_write_ns: u64,
    /// The last bytes of the response were written.
    pub last_write_ns: u64,
    /// Gunicorn's `handle_request` finished with the response, or failed.
    pub exited_ns: u64,
    /// All bytes read for the request; 0 when unseen.
    pub request_bytes: u64,
    /// All bytes written for the response.
    pub response_bytes: u64,
    /// What the exceptions seen while it was served name it by; 0 when there were none.
    pub exceptions: u64,
    /// How many records were made of them, told or lost.
    pub exceptions_count: u64,
    /// Bytes of the request up to its body; 0 when its end was not seen.
    pub request_head_bytes: u32,
    /// Bytes of the response up to its body; 0 when its end was not seen.
    pub response_head_bytes: u32,
    /// File descriptor of the connection in the worker; -1 when unknown.
    pub fd: i32,
    /// 0 for the first request of a connection, 1 for the next, …
    pub ordinal: u32,
    /// Status code of the response; 0 when unseen.
    pub status: u16,
    /// A set of [`flags`].
    pub flags: u16,
    /// Bytes of `line` that were filled.
    pub line_len: u16,
    /// A [`LineSource`]: what `line` holds.
    pub line_source: u16,
    /// Thread that finished the request.
    pub tid: u32,
    /// The worker family whose code handled it: a [`crate::gunicorn::Family`].
    pub family: u16,
    /// A [`TimedBy`]: which layer told the request.
    pub timed_by: u16,
    /// Start of the request: see [`LineSource`].
    pub line: [u8; HEAD_BYTES],
}
const _: () = assert!(size_of::<RequestRecord>() == 16 + 11 * 8 + 4 * 4 + 4 * 2 + 8 + HEAD_BYTES);

/// What [`RequestRecord::line`] holds.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineSource {
    /// Nothing: neither was readable.
    None = 0,
    /// The first bytes of the request as the client sent them.
    Wire = 1,
    /// Gunicorn's `Request.method`, padded with zeros to [`NAME_BYTES`], then `Request.path`.
    Python = 2,
}

/// Which layer told that there was a request, and when it was done.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimedBy {
    /// Gunicorn's own code, seen by the probe on `datetime.now`.
    Python = 0,
    /// The system calls on its connection alone: it has no times of Python.
    Socket = 1,
}

/// Flags of a [`RequestRecord`].
pub mod flags {
    /// `handle_error` ran for it.
    pub const ERROR_HANDLED: u16 = 1 << 0;
    /// It never entered the application: Gunicorn refused to parse it.
    pub const BAD_REQUEST: u16 = 1 << 1;
    /// `handle_request` reached its end (also with an exception while iterating).
    pub const EXITED: u16 = 1 << 2;
    /// The connection was closed before a response was seen.
    pub const CLOSED: u16 = 1 << 3;
    /// A write of the response failed: the client had gone.
    pub const WRITE_FAILED: u16 = 1 << 4;
    /// No connection was found for it: only the times of Python are known.
    pub const NO_CONNECTION: u16 = 1 << 5;
    /// Its first bytes were not seen by themselves: they were read together with
    /// what came before on the connection.
    pub const PIPELINED: u16 = 1 << 6;
    /// The connection was accepted before the observer came.
    pub const ADOPTED: u16 = 1 << 7;
    /// Pieces of its first line are missing behind what was kept.
    pub const LINE_CUT: u16 = 1 << 8;
}

/// A target forked.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ForkRecord {
    /// `tgid` is the parent.
    pub header: Header,
    /// The new process.
    pub child: u32,
    pub reserved: u32,
}
const _: () = assert!(size_of::<ForkRecord>() == 24);

/// A process began another program. Sent for every process of the host, so that
/// masters that start later are found; `target` tells those already observed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecRecord {
    pub header: Header,
    /// 1 if the process was a target until now.
    pub was_target: u32,
    pub reserved: u32,
    /// The new command name (`comm`).
    pub comm: [u8; NAME_BYTES],
}
const _: () = assert!(size_of::<ExecRecord>() == 40);

/// The last thread of a target ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExitRecord {
    pub header: Header,
    /// As `wait(2)` reports it: exit code << 8 | signal.
    pub wait_status: u32,
    pub reserved: u32,
}
const _: () = assert!(size_of::<ExitRecord>() == 24);

/// Who saw an exception.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenBy {
    /// Gunicorn's `handle_error` was called with it.
    HandleError = 1,
    /// It was handled when `handle_request` ended.
    Exit = 2,
    /// It was handled when `sys.exc_info` or `sys.exception` was called.
    Asked = 3,
    /// It was handled when the connection was closed, without an answer.
    Close = 4,
}

/// A class by its names.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ClassNames {
    /// `tp_name`: UTF-8 up to a zero. Of a class of C it begins with the module.
    pub name: [u8; CLASS_BYTES],
    /// `__module__`, ASCII or Latin-1.
    pub module: [u8; MODULE_BYTES],
    pub module_len: u8,
    pub reserved: [u8; 7],
}

impl ClassNames {
    /// Nothing read yet.
    pub const EMPTY: Self = Self {
        name: [0; CLASS_BYTES],
        module: [0; MODULE_BYTES],
        module_len: 0,
        reserved: [0; 7],
    };
}

/// What a frame runs. Texts have a width: bytes of each character.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FrameNames {
    /// Address of the frame; 0 for none.
    pub frame: u64,
    /// `__name__` of the globals, ASCII or Latin-1.
    pub module: [u8; MODULE_BYTES],
    /// End of `co_qualname`, before 3.11 of `co_name`.
    pub function: [u8; FUNCTION_BYTES],
    /// End of `co_filename`.
    pub file: [u8; FILE_BYTES],
    pub module_len: u8,
    pub function_len: u8,
    pub function_width: u8,
    pub file_len: u8,
    pub file_width: u8,
    pub reserved: [u8; 3],
}
const _: () = assert!(size_of::<FrameNames>() == 256);

impl FrameNames {
    /// Nothing read yet.
    pub const EMPTY: Self = Self {
        frame: 0,
        module: [0; MODULE_BYTES],
        function: [0; FUNCTION_BYTES],
        file: [0; FILE_BYTES],
        module_len: 0,
        function_len: 0,
        function_width: 0,
        file_len: 0,
        file_width: 0,
        reserved: [0; 3],
    };
}

/// An exception that was handled while a request was served.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExceptionRecord {
    pub header: Header,
    /// [`RequestRecord::exceptions`] of the request.
    pub request: u64,
    /// Address of the exception.
    pub object: u64,
    /// … of the one that it came from; 0 for none.
    pub came_from: u64,
    /// … of the first of those that led to it; 0 if none did.
    pub root: u64,
    pub tid: u32,
    /// A [`SeenBy`].
    pub seen_by: u16,
    /// 1 if it left the application: it went up to `handle_request`.
    pub has_left: u16,
    /// How many calls below `handle_request` it was caught; [`NO_DEPTH`] or more when unknown.
    pub depth: u32,
    /// Entries of the traceback; the last of them are in `frames`.
    pub traceback_len: u32,
    pub class: ClassNames,
    pub root_class: ClassNames,
    /// The innermost frame of the root's traceback.
    pub root_frame: FrameNames,
    /// Frame number `n` of the traceback is at `n % TRACEBACK_FRAMES`.
    pub frames: [FrameNames; TRACEBACK_FRAMES],
}
const _: () =
    assert!(size_of::<ExceptionRecord>() == 16 + 6 * 8 + 2 * 120 + 256 * (TRACEBACK_FRAMES + 1));

/// [`ExceptionRecord::depth`] when it is not known, and the calls that were counted from there.
pub const NO_DEPTH: u32 = 1 << 31;

/// An exception went up out of a frame, or is caught there. Sent only while a closer
/// look is taken.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CapturedFrameRecord {
    pub header: Header,
    /// [`RequestRecord::exceptions`] of the request.
    pub request: u64,
    /// Address of the exception, or of what it will be made of; 0 for nothing.
    pub object: u64,
    /// Address of its class.
    pub class_object: u64,
    /// 1 if the exception was made; before 3.12 that is not done before it is caught.
    pub is_made: u16,
    /// 1 if it went up other frames before, so was not raised in this one.
    pub has_traceback: u16,
    /// How many calls below `handle_request` the frame is.
    pub depth: u32,
    pub class: ClassNames,
    pub frame: FrameNames,
}
const _: () = assert!(size_of::<CapturedFrameRecord>() == 16 + 4 * 8 + 120 + 256);

/// Index into the `LOOK` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookWord {
    /// Hits that are looked at, all told: written by userspace.
    Granted = 0,
    /// Hits that were: written by the program.
    Used = 1,
}

/// The closer look that is taken has seen as much as it may: what comes after this is not
/// looked at.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DeepCaptureExhaustedRecord {
    pub header: Header,
}
const _: () = assert!(size_of::<DeepCaptureExhaustedRecord>() == 16);

/// A signal was sent to a target, by `kill` or by the kernel itself.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SignalRecord {
    /// `tgid` is the process that it was sent to.
    pub header: Header,
    /// Process that sent it; 0 for the kernel.
    pub sender: u32,
    pub signal: u32,
}
const _: () = assert!(size_of::<SignalRecord>() == 24);

/// Signals that are told: those that end or steer a Gunicorn. Left out are those of job control and
/// timers, and `SIGCHLD`, which a master gets from the kernel for each worker that ends.
pub const TOLD_SIGNALS: u32 = {
    // HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 TERM TTIN TTOU XCPU WINCH SYS
    let told = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 21, 22, 24, 28, 31,
    ];
    let mut set = 0;
    let mut at = 0;
    while at < told.len() {
        set |= 1 << told[at];
        at += 1;
    }
    set
};

/// The kernel chose a process to end, for want of memory.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OomRecord {
    pub header: Header,
}
const _: () = assert!(size_of::<OomRecord>() == 16);

/// Frames of a stack that are told, the innermost ones.
pub const STACK_FRAMES: usize = 48;
/// Threads of a process whose stacks are told.
pub const STACK_THREADS: u32 = 32;
/// Frames whose lines matter most, the innermost ones: bytes kept of the line table of each, of its
/// beginning. That is enough for a function of some hundred lines.
pub const INNER_FRAMES: usize = 16;
pub const INNER_LINES_BYTES: usize = 2048;
/// … of each of the others.
pub const OUTER_LINES_BYTES: usize = 512;
/// … of all frames.
pub const ALL_LINES_BYTES: usize =
    INNER_FRAMES * INNER_LINES_BYTES + (STACK_FRAMES - INNER_FRAMES) * OUTER_LINES_BYTES;

/// Where in [`StackRecord::lines`] a frame has its room, and how much.
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

/// Where a thread of Python is, frame by frame, when the process gets `SIGABRT`: that is how
/// Gunicorn ends a worker that hangs (`gunicorn/arbiter.py`, `murder_workers`). Only of threads
/// that serve a request, and of the one that gets the signal.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct StackRecord {
    pub header: Header,
    /// When the request that the thread serves entered; 0 if it serves none.
    pub entered_ns: u64,
    /// Address of its `PyThreadState`.
    pub thread_state: u64,
    /// 1 for the thread that got the signal.
    pub is_current: u32,
    /// Frames that were found; those beyond [`STACK_FRAMES`] are not told.
    pub frames_len: u32,
    /// As of [`RequestRecord`].
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

/// A frame of a stack, and what tells its line.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct StackFrame {
    pub names: FrameNames,
    /// Bytes from the beginning of its code to the instruction it is at; [`NO_INSTRUCTION`] when
    /// unknown.
    pub instruction: u32,
    pub first_line: u32,
    /// Which form its line table has: a [`crate::python::LineTable`].
    pub line_table: u32,
    /// How long that is; as much of it as there is room for is in [`StackRecord::lines`].
    pub lines_len: u32,
}
const _: () = assert!(size_of::<StackFrame>() == STACK_FRAME_BYTES);

/// [`StackFrame::instruction`] when it is not known.
pub const NO_INSTRUCTION: u32 = u32::MAX;
/// A thread of a target collected garbage.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct GcRecord {
    pub header: Header,
    /// How long it took.
    pub pause_ns: u64,
}
const _: () = assert!(size_of::<GcRecord>() == 24);

/// What a target is, as far as the programs care.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May become a master: observed like a worker, forks are followed.
    Candidate = 0,
    /// Forks workers, serves nothing itself.
    Master = 1,
    /// Serves requests; its own children are of no interest.
    Worker = 2,
    /// A Python program that is no Gunicorn: of no interest itself, but what it forks is a
    /// candidate.
    Bystander = 3,
}

impl Role {
    /// As a [`Target`] holds it.
    #[must_use]
    pub fn from_raw(role: u32) -> Option<Self> {
        let all = [Self::Candidate, Self::Master, Self::Worker, Self::Bystander];
        all.into_iter().find(|&known| known as u32 == role)
    }
}

/// Value of the `TARGETS` map, keyed by tgid.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Target {
    /// Index into the `LAYOUTS` map; [`NO_LAYOUT`] when Python is not read.
    pub layout: u32,
    /// A [`Role`].
    pub role: u32,
    /// Where the thread's `PyThreadState *` is, from the thread pointer.
    pub tstate_slot: i64,
    /// Tells this process from an earlier one of the same pid: what a dead
    /// process left in the maps is never taken for its successor's.
    pub generation: u64,
}
const _: () = assert!(size_of::<Target>() == 24);

/// [`Target::layout`] of a process whose interpreter is not read.
pub const NO_LAYOUT: u32 = u32::MAX;

/// Offsets of kernel structures, from BTF at start-up; a read-only global of the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelOffsets {
    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_exit_code: u32,
    pub task_signal: u32,
    pub signal_live: u32,
    /// `task_struct.thread.fsbase` (x86-64) or `.thread.uw.tp_value` (aarch64).
    pub task_thread_pointer: u32,
    pub task_files: u32,
    pub files_fdt: u32,
    pub fdt_fd: u32,
    pub fdt_max_fds: u32,
    pub file_private_data: u32,
    pub file_inode: u32,
    pub inode_mode: u32,
    pub socket_sk: u32,
    pub sock_socket: u32,
    pub sock_family: u32,
    pub unix_peer: u32,
}

/// Offsets of tracepoint fields, from their format files at start-up; likewise.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TracepointOffsets {
    /// First argument of a `sys_enter_*` tracepoint; the others follow, 8 bytes each.
    pub enter_args: u32,
    /// `ret` of a `sys_exit_*` tracepoint.
    pub exit_ret: u32,
}

/// Reasons why something was not observed, and other counts of the programs:
/// index into the per-CPU `STATS` map. `ALL` is the one registry of them.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// The record of a request did not fit into the ring buffer.
    RingFull = 0,
    /// `CONNS` had no room for an accepted connection.
    ConnsFull,
    /// `FLOWS` had no room for a request.
    FlowsFull,
    /// `TARGETS` had no room for a forked worker.
    TargetsFull,
    /// `THREADS` had no room for a thread.
    ThreadsFull,
    /// The thread state or the calling frame could not be read.
    FrameUnreadable,
    /// The bytes of a request or response could not be read.
    BufferUnreadable,
    /// The socket behind an accepted descriptor could not be found.
    SocketUnreadable,
    /// A request began with one still open under the same identity.
    FlowReplaced,
    /// `handle_request` ended without a known beginning (it ran when the observer came).
    ExitUnmatched,
    /// A request had no connection known to us.
    FlowWithoutConn,
    /// Method and path of a pipelined request could not be read.
    LineUnreadable,
    /// An exception could not be read.
    ExceptionUnreadable,
    /// An exception was not told, for the sake of the requests: too many came at once.
    ExceptionDropped,
    /// The request of an exception was not found: too many calls were below it.
    StackTooDeep,
    /// `datetime.now` calls seen in targets.
    PythonHits,
    /// … of them from Gunicorn's request handling.
    PythonRequestHits,
    /// `sys.exc_info` and `sys.exception` calls seen in targets.
    ExceptionHits,
    /// Frames of targets that an exception went up, while a closer look was taken.
    UnwoundHits,
    /// A record that is not of a request did not fit into the ring buffer.
    RingFullOther,
}

impl Stat {
    /// Every counter, in index order, with the name it is exported under and
    /// whether it counts a loss.
    pub const ALL: &'static [(Stat, &'static str, bool)] = &[
        (Stat::RingFull, "ring_full", true),
        (Stat::ConnsFull, "connections_full", true),
        (Stat::FlowsFull, "requests_full", true),
        (Stat::TargetsFull, "targets_full", true),
        (Stat::ThreadsFull, "threads_full", true),
        (Stat::FrameUnreadable, "frame_unreadable", true),
        (Stat::BufferUnreadable, "buffer_unreadable", true),
        (Stat::SocketUnreadable, "socket_unreadable", true),
        (Stat::FlowReplaced, "request_replaced", true),
        (Stat::ExitUnmatched, "exit_unmatched", true),
        (Stat::FlowWithoutConn, "request_without_connection", true),
        (Stat::LineUnreadable, "request_line_unreadable", true),
        (Stat::ExceptionUnreadable, "exception_unreadable", true),
        (Stat::ExceptionDropped, "exception_dropped", true),
        (Stat::StackTooDeep, "stack_too_deep", false),
        (Stat::PythonHits, "python_hits", false),
        (Stat::PythonRequestHits, "python_request_hits", false),
        (Stat::ExceptionHits, "exception_hits", false),
        (Stat::UnwoundHits, "unwound_hits", false),
        (Stat::RingFullOther, "ring_full_other", true),
    ];
    /// How many there are.
    pub const COUNT: u32 = 20;
}
const _: () = {
    assert!(Stat::ALL.len() == Stat::COUNT as usize);
    let mut i = 0;
    while i < Stat::ALL.len() {
        assert!(Stat::ALL[i].0 as usize == i);
        i += 1;
    }
};

/// Programs that others go on with: index into the `TAILS` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Bytes of a request were read.
    RequestRead = 0,
    /// Bytes that may begin a response are about to be written.
    ResponseBegins = 1,
    /// A connection is about to be closed.
    Closes = 2,
}

impl Tail {
    /// All of them, in index order, with the names of the programs.
    pub const ALL: [(Tail, &'static str); 3] = [
        (Tail::RequestRead, "request_read"),
        (Tail::ResponseBegins, "response_begins"),
        (Tail::Closes, "connection_closes"),
    ];
}

/// Key of the `CONNS` map: an accepted connection of a target.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnKey {
    pub tgid: u32,
    pub fd: i32,
}

/// Key of the maps of Python objects of a target: code objects in `CODES`,
/// requests in `FLOWS`, connections in `CLIENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectKey {
    pub address: u64,
    pub tgid: u32,
    pub reserved: u32,
}

/// Value of the `STACK_WALKS` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackWalk {
    /// `PyThreadState` of the thread that looks.
    pub own: u64,
    /// … of the one to be looked at next.
    pub next: u64,
    pub threads: u32,
    pub reserved: u32,
}

/// Value of the `UNIX_SOCKS` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    pub time_ns: u64,
    /// The `struct sock` at the other end.
    pub client: u64,
}

/// How far the request of a connection is.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No byte of the next request was read.
    Idle = 0,
    /// Its head is being read.
    Reading = 1,
    /// It entered the application.
    Entered = 2,
    /// Gunicorn refused it.
    Refused = 3,
}

/// Bytes of slack after a head, so that a bounded copy at any offset stays inside.
pub const HEAD_SLACK: usize = 64;

/// Value of the `CONNS` map: a connection and the request on it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Conn {
    /// [`Target::generation`] of its process.
    pub generation: u64,
    pub established_ns: u64,
    pub accepted_ns: u64,
    pub first_read_ns: u64,
    pub first_write_ns: u64,
    pub last_write_ns: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Gunicorn refused its request because of an exception that was told; 0 before.
    pub refused_ns: u64,
    /// The request object it serves: key into `FLOWS`; 0 for none.
    pub request: u64,
    /// The Python object that stands for it: key into `CLIENTS`; 0 when unknown.
    pub client: u64,
    pub request_scan: crate::http::HeadScan,
    /// How many bytes the response has when it is complete, as its head says;
    /// [`crate::http::CHUNKED`] until its last chunk, 0 when that is not known.
    /// Kept only for a request that Python did not enter.
    pub response_end: u64,
    pub request_head_bytes: u32,
    pub response_head_bytes: u32,
    pub ordinal: u32,
    pub line_len: u32,
    pub status: u16,
    /// A [`Phase`].
    pub phase: u16,
    /// [`flags`] of the request so far.
    pub flags: u16,
    /// A [`LineSource`]: what `line` holds.
    pub line_source: u16,
    pub line: [u8; HEAD_BYTES + HEAD_SLACK],
}
const _: () = assert!(size_of::<Conn>() == 11 * 8 + 16 + 4 * 4 + 8 + HEAD_BYTES + HEAD_SLACK);

/// Value of the `FLOWS` map: a request between entry and exit.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// [`Target::generation`] of its process.
    pub generation: u64,
    pub entered_ns: u64,
    pub exited_ns: u64,
    /// The connection's descriptor; -1 when unknown.
    pub fd: i32,
    /// A [`crate::gunicorn::Family`].
    pub family: u32,
    /// [`flags`] of the request so far.
    pub flags: u16,
    /// 1 once its record was sent.
    pub sent: u16,
    pub tid: u32,
    /// Exceptions told of it.
    pub exceptions: u32,
    /// Frames told that an exception of it went up.
    pub unwound: u32,
}
const _: () = assert!(size_of::<Flow>() == 48);

impl Flow {
    /// What its exceptions name it by: no other request of its process entered then.
    #[inline(always)]
    #[must_use]
    pub fn exceptions_name(&self) -> u64 {
        if self.exceptions | self.unwound == 0 {
            0
        } else {
            self.entered_ns
        }
    }
}

/// Value of the `THREADS` map, keyed by tgid << 32 | tid: the system call a thread is in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// [`Target::generation`] of its process.
    pub generation: u64,
    /// User address of the bytes of the call under way.
    pub buffer: u64,
    /// Descriptor of the call under way; -1 when it is of no interest.
    pub fd: i32,
    /// Descriptor of the last connection it read from; -1 for none.
    pub last_read_fd: i32,
}
const _: () = assert!(size_of::<Thread>() == 24);

/// Value of the `COLLECTIONS` map, keyed by tgid << 32 | tid: a thread collects garbage.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Collection {
    /// [`Target::generation`] of its process.
    pub generation: u64,
    pub begun_ns: u64,
    /// Its stack pointer then: a collection within this one has a lower one.
    pub stack: u64,
}
const _: () = assert!(size_of::<Collection>() == 24);

/// Value of the `GILS` map, keyed by tgid: what threads of a process that wait for its global
/// interpreter lock wait on, a condition variable and the mutex behind it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Gil {
    /// Where it begins.
    pub from: u64,
    /// … and ends.
    pub to: u64,
}
const _: () = assert!(size_of::<Gil>() == 16);
