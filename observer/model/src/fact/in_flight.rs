//! What workers do at a moment: requests, connections, stacks.

use crate::event::Pid;
use crate::untrusted::Untrusted;
use serde::{Deserialize, Serialize};
use std::ops::Add;

/// Requests in flight at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InFlight {
    /// Every request in flight at this time is in `workers`, or has a record of its own.
    pub at_ns: u64,
    /// The one process that was read; `None` for all.
    pub only: Option<Pid>,
    /// Whether the programs see that connections are closed.
    #[serde(default)]
    pub sees_connections: bool,
    /// Workers with at least one connection, or one request.
    pub workers: Vec<WorkerInFlight>,
}

/// Requests in flight of one worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerInFlight {
    pub pid: Pid,
    pub count: u32,
    /// The requests that began first, the oldest first.
    pub oldest: Vec<Pending>,
    /// `None` where the programs do not see that connections are closed.
    #[serde(default)]
    pub connections: Option<Connections>,
}

/// Open connections of a worker on which no request is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Accepted; nothing was read yet.
    pub accepted: u32,
    /// A request, or a part of it, was read; the application was not entered.
    pub reading: u32,
    /// Kept open after a response.
    pub idle: u32,
    pub websockets: u32,
    /// Event streams.
    pub events: u32,
    /// Since when the first of `accepted` waits.
    pub accepted_since_ns: Option<u64>,
    /// Since when the first of `reading` is read.
    pub read_since_ns: Option<u64>,
}

impl Add for Connections {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let first = |a: Option<u64>, b: Option<u64>| [a, b].into_iter().flatten().min();
        Self {
            accepted: self.accepted.saturating_add(other.accepted),
            reading: self.reading.saturating_add(other.reading),
            idle: self.idle.saturating_add(other.idle),
            websockets: self.websockets.saturating_add(other.websockets),
            events: self.events.saturating_add(other.events),
            accepted_since_ns: first(self.accepted_since_ns, other.accepted_since_ns),
            read_since_ns: first(self.read_since_ns, other.read_since_ns),
        }
    }
}

impl Connections {
    /// Since when the first of those that wait to be served waits.
    #[must_use]
    pub fn waits_since_ns(&self) -> Option<u64> {
        let first = [self.accepted_since_ns, self.read_since_ns];
        first.into_iter().flatten().min()
    }

    /// Connections that wait to be served.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.accepted.saturating_add(self.reading)
    }
}

/// The stack of a thread, as userspace read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ThreadStack {
    /// 0 when unknown.
    pub tid: u32,
    pub is_main: bool,
    /// It serves a request.
    pub is_serving: bool,
    pub method: Option<Untrusted>,
    pub path: Option<Untrusted>,
    /// The innermost first.
    pub frames: Vec<ThreadFrame>,
    /// There are more, further out.
    pub is_cut: bool,
}

/// A frame of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ThreadFrame {
    pub file: Untrusted,
    pub function: Untrusted,
    pub line: Option<u32>,
    /// As [`crate::event::Frame::is_own`].
    pub is_own: bool,
}

/// A request in flight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// When it entered the application; without times of Python, when its first byte was read.
    pub begun_ns: u64,
    /// The thread that serves it, or 0.
    pub tid: u32,
    pub method: Option<Untrusted>,
    pub path: Option<Untrusted>,
    /// `path` holds only the beginning of the path.
    pub path_cut: bool,
    /// When the worker last wrote a part of the response.
    #[serde(default)]
    pub written_ns: Option<u64>,
}
