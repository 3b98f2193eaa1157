//! What the kernel told, decoded. Times are `CLOCK_MONOTONIC` nanoseconds.

use serde::Serialize;

/// A process id in the host's pid namespace.
pub type Pid = u32;

/// One thing that happened in an observed process.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A request finished.
    Request(Box<Request>),
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
    pub method: Option<String>,
    /// Path of the target as the client sent it, without the query.
    pub path: Option<String>,
    /// The path goes on after what is in `path`: only its beginning was captured.
    pub path_cut: bool,
    /// `HTTP/1.0`, `HTTP/1.1`, as the client sent it.
    pub protocol: Option<String>,
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
}

impl Request {
    /// Time in the application, `handle_request` from entry to exit; where no Python
    /// was seen, from the first byte read to the last byte written.
    #[must_use]
    pub fn duration_ns(&self) -> Option<u64> {
        match self.timed_by {
            TimedBy::Python => self.exited_ns?.checked_sub(self.entered_ns?),
            TimedBy::Socket => self.last_write_ns?.checked_sub(self.first_read_ns?),
        }
    }
}

impl Event {
    /// When it happened.
    #[must_use]
    pub fn time_ns(&self) -> u64 {
        match self {
            Self::Request(request) => request.finished_ns,
            Self::Fork { time_ns, .. }
            | Self::Exec { time_ns, .. }
            | Self::Exit { time_ns, .. } => *time_ns,
        }
    }
}
