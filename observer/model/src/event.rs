//! What the kernel told, decoded. Times are `CLOCK_MONOTONIC` nanoseconds.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A process id in the host's pid namespace.
pub type Pid = u32;

/// One thing that happened in an observed process.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A request finished.
    Request(Box<Request>),
    /// An exception was handled while a request was served.
    Exception(Box<Exception>),
    /// An exception went up out of a frame, while a closer look was taken.
    CapturedFrame(Box<CapturedFrame>),
    /// The closer look that is taken has seen as much as it may.
    DeepCaptureExhausted { time_ns: u64 },
    /// A signal was sent to an observed process.
    Signal {
        time_ns: u64,
        pid: Pid,
        signal: u8,
        /// Who sent it; `None` if that was the kernel.
        sender: Option<Pid>,
    },
    /// The kernel is about to kill an observed process, for want of memory.
    Oom { time_ns: u64, pid: Pid },
    /// Where a thread was when its process got `SIGABRT`.
    Stack(Box<Stack>),
    /// A thread of an observed process collected garbage.
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
    /// A process, observed or not, began another program.
    Exec {
        time_ns: u64,
        pid: Pid,
        was_target: bool,
        command: String,
    },
    /// An observed process ended.
    Exit {
        time_ns: u64,
        pid: Pid,
        status: ExitStatus,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

/// An exception that was handled while a request was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    pub time_ns: u64,
    pub pid: Pid,
    /// [`Request::exceptions`] of the request.
    pub request: u64,
    /// Address of the exception: the same one may be seen more than once.
    pub object: u64,
    /// Address of the one that it came from.
    pub came_from: Option<u64>,
    /// … of the first of those that led to it.
    pub root: Option<u64>,
    /// It left the application, or was never in it.
    pub has_left: bool,
    /// Gunicorn's `handle_error` was called with it.
    pub was_gunicorns: bool,
    /// How many calls below `handle_request` it was caught.
    pub depth: Option<u32>,
    pub class: Class,
    /// The innermost frames of its traceback, the innermost first.
    pub frames: Vec<Frame>,
    /// Frames of its traceback that are not among them.
    pub frames_cut: u32,
    pub root_class: Option<Class>,
    /// Where the root was raised.
    pub root_frame: Option<Frame>,
}

/// An exception in one of the frames that it goes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFrame {
    pub time_ns: u64,
    pub pid: Pid,
    /// [`Request::exceptions`] of the request.
    pub request: u64,
    /// Address of the exception, or of what it will be made of; 0 for nothing.
    pub object: u64,
    /// Whether it was made: before 3.12 that is not done before it is caught.
    pub is_made: bool,
    /// Whether it went up other frames before, so was not raised in this one.
    pub has_traceback: bool,
    /// Address of its class.
    pub class_object: u64,
    /// How many calls below `handle_request` the frame is.
    pub depth: u32,
    pub class: Class,
    pub frame: Frame,
}

/// Where a thread was when its process got `SIGABRT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    pub time_ns: u64,
    pub pid: Pid,
    /// Address of its `PyThreadState`, which tells threads apart.
    pub thread_state: u64,
    /// It is the thread that got the signal: the main thread of Python, mostly.
    pub is_current: bool,
    /// When the request that it serves entered the application.
    pub entered_ns: Option<u64>,
    pub method: Option<String>,
    pub path: Option<String>,
    pub path_cut: bool,
    /// The innermost first.
    pub frames: Vec<CodeLocation>,
    /// There are more, further out.
    pub is_cut: bool,
}

/// A frame, and the line it is at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeLocation {
    #[serde(flatten)]
    pub frame: Frame,
    pub line: Option<u32>,
}

/// A class, by its names; empty where they could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Class {
    pub module: String,
    pub name: String,
}

/// What a frame runs; empty where it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// As its module is imported, such as `shop.views`.
    pub module: String,
    /// Its file, relative to the root of its package where that is known.
    pub file: String,
    /// Its name, from 3.11 on with that of its class.
    pub function: String,
    /// Its file is not of an installed package or of the standard library.
    #[serde(skip)]
    pub is_own: bool,
    /// It is of an installed package.
    #[serde(skip)]
    pub is_installed: bool,
}

/// Which layer told that there was a request, and when it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimedBy {
    /// Gunicorn's own code, as the probe on the interpreter saw it.
    #[default]
    Python,
    /// The system calls on its connection alone: no time of Python is known.
    Socket,
}

/// A finished request. What was not seen is `None`, never zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Request {
    /// Worker that served it.
    pub pid: Pid,
    /// Thread that finished it.
    pub tid: u32,
    /// Which layer told of it.
    pub timed_by: TimedBy,
    /// The kernel established its connection (first request of a connection only).
    pub established_ns: Option<u64>,
    /// The worker accepted its connection (likewise).
    pub accepted_ns: Option<u64>,
    /// Its first byte was read.
    pub first_read_ns: Option<u64>,
    /// It entered the application; never for a bad request.
    pub entered_ns: Option<u64>,
    /// The first byte of the response was written.
    pub first_write_ns: Option<u64>,
    /// The last byte of the response was written.
    pub last_write_ns: Option<u64>,
    /// The application was done with it, or had failed.
    pub exited_ns: Option<u64>,
    /// When its record was made: never before any of the above.
    pub finished_ns: u64,
    /// As the client sent it; up to 16 bytes.
    pub method: Option<Cow<'static, str>>,
    /// Path of the target as the client sent it, without the query.
    pub path: Option<String>,
    /// The path goes on after what is in `path`: only its beginning was captured.
    pub path_cut: bool,
    /// `HTTP/1.0`, `HTTP/1.1`, as the client sent it.
    pub protocol: Option<Cow<'static, str>>,
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
    /// The client had gone before all of the response was written.
    pub client_gone: bool,
    /// Its connection was not known: only Python's times are.
    pub no_connection: bool,
    /// It entered, and its connection was closed without `handle_request` or `handle_error`
    /// having come to an end.
    pub was_cut: bool,
    /// What exceptions that were seen while it was served name it by.
    #[serde(skip)]
    pub exceptions: Option<u64>,
    /// How many records there were of them.
    #[serde(skip)]
    pub exceptions_count: u64,
}

impl Event {
    /// When it happened.
    #[must_use]
    pub fn time_ns(&self) -> u64 {
        match self {
            Self::Request(request) => request.finished_ns,
            Self::Exception(exception) => exception.time_ns,
            Self::CapturedFrame(unwound) => unwound.time_ns,
            Self::Stack(stack) => stack.time_ns,
            Self::Signal { time_ns, .. }
            | Self::Gc { time_ns, .. }
            | Self::Oom { time_ns, .. }
            | Self::DeepCaptureExhausted { time_ns }
            | Self::Fork { time_ns, .. }
            | Self::Exec { time_ns, .. }
            | Self::Exit { time_ns, .. } => *time_ns,
        }
    }
}
