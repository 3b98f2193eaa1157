//! Records of the kernel, decoded. Times are `CLOCK_MONOTONIC` nanoseconds.

use crate::untrusted::Untrusted;
use serde::{Deserialize, Serialize};

/// A process id in the host's pid namespace.
pub type Pid = u32;

/// An event in an observed process.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A request finished.
    Request(Box<Request>),
    /// Code handled an exception while a worker served a request.
    Exception(Box<Exception>),
    /// An exception passed through a frame during a deep capture.
    CapturedFrame(Box<CapturedFrame>),
    /// The running deep capture reached its limit of events.
    DeepCaptureExhausted { time_ns: u64 },
    /// A signal was sent to an observed process.
    Signal {
        time_ns: u64,
        pid: Pid,
        signal: u8,
        /// `None` for the kernel.
        sender: Option<Pid>,
        /// Another thread of the sender than its main thread sent it.
        by_thread: bool,
    },
    /// The kernel's OOM killer is about to kill an observed process.
    Oom { time_ns: u64, pid: Pid },
    /// The stack of a thread when its process got `SIGABRT`.
    Stack(Box<Stack>),
    /// Connections were closed without an answer though their clients waited for one.
    Lost {
        time_ns: u64,
        /// The process that closed them.
        pid: Pid,
        from: LostFrom,
        count: u32,
    },
    /// A garbage collection in an observed process.
    Gc {
        time_ns: u64,
        pid: Pid,
        pause_ns: u64,
    },
    /// An observed process forked.
    Fork {
        time_ns: u64,
        parent: Pid,
        child: Pid,
    },
    /// A process, observed or not, executed another program.
    Exec {
        time_ns: u64,
        pid: Pid,
        was_target: bool,
        command: String,
    },
    /// An observed process exited.
    Exit {
        time_ns: u64,
        pid: Pid,
        status: ExitStatus,
    },
}

/// How a process exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// With this code.
    Code(u8),
    /// Killed by this signal.
    Signal(u8),
}

/// An exception that was handled while a worker served a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    pub time_ns: u64,
    pub pid: Pid,
    /// [`Request::exceptions`] of the request; 0 for one that a worker handled before it had a request.
    pub request: u64,
    /// Address of the exception: one exception may be handled more than once.
    pub object: u64,
    /// Address of the exception that led to it (`__cause__` or `__context__`).
    pub came_from: Option<u64>,
    /// Address of the first exception of that chain.
    pub root: Option<u64>,
    /// It left the application, or was never in it.
    pub has_left: bool,
    /// Gunicorn called `handle_error` with it.
    pub was_gunicorns: bool,
    /// Calls between `handle_request` and the frame that caught it.
    pub depth: Option<u32>,
    pub class: Class,
    /// The innermost frames of its traceback, the innermost first.
    pub frames: Vec<Frame>,
    /// Frames of its traceback that are left out.
    pub frames_cut: u32,
    pub root_class: Option<Class>,
    /// The frame that raised the root.
    pub root_frame: Option<Frame>,
}

/// A frame that an exception passed through during a deep capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFrame {
    pub time_ns: u64,
    pub pid: Pid,
    /// [`Request::exceptions`] of the request.
    pub request: u64,
    /// Address of the exception, or of the value that it will be made from; 0 for none.
    pub object: u64,
    /// The exception object exists: CPython before 3.12 makes it when it is caught.
    pub is_made: bool,
    /// It passed through other frames before, so this frame did not raise it.
    pub has_traceback: bool,
    /// Address of its class.
    pub class_object: u64,
    /// Calls between `handle_request` and this frame.
    pub depth: u32,
    pub class: Class,
    pub frame: Frame,
}

/// The stack of a thread when its process got `SIGABRT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    pub time_ns: u64,
    pub pid: Pid,
    /// Address of its `PyThreadState`, which identifies the thread.
    pub thread_state: u64,
    /// The thread that got the signal: mostly the main thread of Python.
    pub is_current: bool,
    /// When the request that the thread serves entered the application.
    pub entered_ns: Option<u64>,
    pub method: Option<Untrusted>,
    pub path: Option<Untrusted>,
    pub path_cut: bool,
    /// The innermost first.
    pub frames: Vec<CodeLocation>,
    /// There are more, further out.
    pub is_cut: bool,
}

/// A frame and its current line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeLocation {
    #[serde(flatten)]
    pub frame: Frame,
    pub line: Option<u32>,
}

/// A class; a name that could not be read is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Class {
    pub module: Untrusted,
    pub name: Untrusted,
}

/// The function of a frame; a name that could not be read is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// As its module is imported, such as `shop.views`.
    pub module: Untrusted,
    /// Its file, relative to the root of its package where that is known.
    pub file: Untrusted,
    /// Its name; since CPython 3.11 with the name of its class.
    pub function: Untrusted,
    /// Its file belongs neither to an installed package nor to the standard library.
    #[serde(skip)]
    pub is_own: bool,
    /// Its file belongs to an installed package.
    #[serde(skip)]
    pub is_installed: bool,
}

/// The layer that reported a request and its times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimedBy {
    /// Gunicorn's own code, seen by the probe on the interpreter.
    #[default]
    Python,
    /// Its connection: times in Python are unknown.
    Socket,
    /// Its connection, and the task of asyncio that served it: that shows when it entered.
    Task,
}

/// A finished request. A value that was not seen is `None`, never zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Request {
    /// Worker that served it.
    pub pid: Pid,
    /// Thread that finished it.
    pub tid: u32,
    /// The layer that reported it.
    pub timed_by: TimedBy,
    /// The kernel established its connection; only for the first request of a connection.
    pub established_ns: Option<u64>,
    /// The worker accepted its connection; only for the first request of a connection.
    pub accepted_ns: Option<u64>,
    /// Its first byte was read.
    pub first_read_ns: Option<u64>,
    /// It entered the application; never for a bad request.
    pub entered_ns: Option<u64>,
    /// The first byte of the response was written.
    pub first_write_ns: Option<u64>,
    /// The last byte of the response was written.
    pub last_write_ns: Option<u64>,
    /// The application returned or raised.
    pub exited_ns: Option<u64>,
    /// When the kernel wrote its record: never before any of the above.
    pub finished_ns: u64,
    /// As the client sent it; up to 16 bytes.
    pub method: Option<Untrusted>,
    /// Path of the target as the client sent it, without the query.
    pub path: Option<Untrusted>,
    /// `path` holds only the beginning of the path.
    pub path_cut: bool,
    /// `HTTP/1.0`, `HTTP/1.1`, as the client sent it.
    pub protocol: Option<Untrusted>,
    /// Status code of the response.
    pub status: Option<u16>,
    /// Bytes of the request after its head.
    pub request_body_bytes: Option<u64>,
    /// All bytes written, head and body.
    pub response_bytes: Option<u64>,
    /// Bytes of the response after its head, with the framing of a chunked one.
    pub response_body_bytes: Option<u64>,
    /// 0 for the first request of a connection.
    pub ordinal: u32,
    /// Gunicorn's `handle_error` ran for it.
    pub error_handled: bool,
    /// Gunicorn refused to parse it: it never reached the application.
    pub bad_request: bool,
    /// The client disconnected before the response was written.
    pub client_gone: bool,
    /// Its connection is unknown: it has only the times in Python.
    pub no_connection: bool,
    /// It entered the application, and its connection was closed before `handle_request` or
    /// `handle_error` returned.
    pub was_cut: bool,
    /// Its worker exited before it was done.
    pub worker_exited: bool,
    /// Its connection was closed in the middle of its response.
    pub is_incomplete: bool,
    /// Its response was a stream.
    pub stream: Option<StreamKind>,
    /// The id by which its exceptions refer to it.
    #[serde(skip)]
    pub exceptions: Option<u64>,
    /// How many records of exceptions it has.
    #[serde(skip)]
    pub exceptions_count: u64,
}

/// Where a connection was when nobody could answer it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LostFrom {
    /// No worker had accepted it when its listener was closed.
    Backlog,
    /// A worker had accepted it and read nothing of what its client had sent.
    Accepted,
    /// A worker had read a request or a part of it, and never entered the application with it.
    Read,
}

impl LostFrom {
    /// Every place.
    pub const ALL: [Self; 3] = [Self::Backlog, Self::Accepted, Self::Read];

    /// The value of the label `reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backlog => "backlog",
            Self::Accepted => "accepted",
            Self::Read => "read",
        }
    }
}

/// A kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StreamKind {
    /// A WebSocket, or another protocol that a `101 Switching Protocols` began.
    #[serde(rename = "websocket")]
    WebSocket,
    /// Server-Sent Events.
    #[serde(rename = "stream")]
    Events,
}

impl StreamKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::WebSocket, Self::Events];

    /// The value of the label `kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Events => "stream",
        }
    }
}

impl Event {
    /// When it happened.
    #[must_use]
    pub fn time_ns(&self) -> u64 {
        match self {
            Self::Request(request) => request.finished_ns,
            Self::Exception(exception) => exception.time_ns,
            Self::CapturedFrame(captured_frame) => captured_frame.time_ns,
            Self::Stack(stack) => stack.time_ns,
            Self::Signal { time_ns, .. }
            | Self::Gc { time_ns, .. }
            | Self::Lost { time_ns, .. }
            | Self::Oom { time_ns, .. }
            | Self::DeepCaptureExhausted { time_ns }
            | Self::Fork { time_ns, .. }
            | Self::Exec { time_ns, .. }
            | Self::Exit { time_ns, .. } => *time_ns,
        }
    }
}
