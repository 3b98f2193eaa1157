//! Starts and exits of workers, and exits of masters: for the log, `trace` and the API.

use crate::duration::seconds;
use crate::errors::cause::{self, Failure};
use crate::event::{CodeLocation, ExitStatus, Pid, Stack};
use crate::fact::Pending;
use crate::lifecycle::exit_reason::{ExitKind, ExitReason};
use crate::lifecycle::signal;
use crate::lifecycle::worker_state::Sent;
use crate::routes::normalize::Pattern;
use crate::routes::registry::RouteRegistry;
use crate::untrusted::Untrusted;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;

/// Events that the live view has.
const MAX_EVENTS: usize = 200;
/// Frames of stacks in all of them: the stacks of older events are dropped.
const MAX_FRAMES: usize = 4096;

/// `event` of a worker's start.
pub const WORKER_STARTED: &str = "worker_started";
/// `event` of a worker's exit.
pub const WORKER_ENDED: &str = "worker_ended";
/// `event` of a master's exit.
pub const MASTER_ENDED: &str = "master_ended";

/// `event` of the exit of a dirty arbiter or a dirty worker.
pub const DIRTY_ENDED: &str = "dirty_worker_ended";

/// A worker started or exited, or a master or a process of its dirty pool exited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerEvent {
    /// Unix time.
    pub time_seconds: f64,
    /// [`WORKER_STARTED`], [`WORKER_ENDED`], [`MASTER_ENDED`] or [`DIRTY_ENDED`].
    pub event: Cow<'static, str>,
    pub app: Untrusted,
    pub master_pid: Pid,
    /// `None` for an exit of the master.
    pub worker_pid: Option<Pid>,
    /// Empty for exits of the master and of its dirty pool.
    pub worker_id: String,
    pub worker_class: Untrusted,
    /// Absent from a start.
    #[serde(flatten)]
    pub exit: Option<WorkerExit>,
}

impl WorkerEvent {
    /// The process that it is about: `worker`, `master` or `dirty`, and its PID.
    #[must_use]
    pub fn process(&self) -> (&'static str, Pid) {
        match self.worker_pid {
            Some(pid) if self.event == DIRTY_ENDED => ("dirty", pid),
            Some(pid) => ("worker", pid),
            None => ("master", self.master_pid),
        }
    }
}

/// How a worker or a master exited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerExit {
    pub reason: ExitReason,
    pub restart_type: ExitKind,
    pub exit_code: Option<u8>,
    pub exit_signal: Option<u8>,
    /// Signals that were sent to it, in order.
    pub signals: Vec<SignalView>,
    pub uptime_seconds: Option<f64>,
    /// Requests that the observer saw it serve; of a master, that its workers served.
    pub served: u64,
    /// Requests in flight at the last sample before the exit, the oldest first.
    pub requests: Vec<PendingView>,
    /// Innermost frame of the application when the master aborted the worker.
    pub stuck_in: Option<Untrusted>,
    /// Stacks of its threads at that time.
    pub stacks: Vec<StackView>,
    /// The exception because of which it did not boot.
    pub failure: Option<Failure>,
}

/// A signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalView {
    /// Such as `TERM`.
    pub signal: Cow<'static, str>,
    /// `None` for the kernel.
    pub sender_pid: Option<Pid>,
}

impl From<&Sent> for SignalView {
    fn from(sent: &Sent) -> Self {
        Self {
            signal: signal::name(sent.signal).into(),
            sender_pid: sent.sender,
        }
    }
}

/// A request in flight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PendingView {
    /// `None` while unknown.
    pub method: Option<Untrusted>,
    /// As in metrics; empty when the path is unknown.
    pub route: Untrusted,
    /// As the client sent it, without the query.
    pub path: Option<Untrusted>,
    /// Since the request entered the application.
    pub age_seconds: f64,
}

impl PendingView {
    #[must_use]
    pub fn new(
        patterns: &[Pattern],
        routes: &RouteRegistry,
        pending: &Pending,
        now_ns: u64,
    ) -> Self {
        let path = pending.path.as_ref().map(Untrusted::raw);
        let route = path.map(|path| routes.name_of(patterns, path, pending.path_cut));
        Self {
            method: pending.method.clone(),
            route: route.unwrap_or_default().into(),
            path: pending.path.clone(),
            age_seconds: seconds(now_ns.saturating_sub(pending.begun_ns)),
        }
    }
}

/// The stack of a thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StackView {
    /// The thread that got the signal, mostly the main thread.
    pub is_current: bool,
    /// The request that the thread serves.
    pub request: Option<PendingView>,
    /// The innermost first.
    pub frames: Vec<CodeLocation>,
    /// There are more frames, further out.
    pub is_cut: bool,
}

impl StackView {
    #[must_use]
    pub fn new(patterns: &[Pattern], routes: &RouteRegistry, stack: &Stack) -> Self {
        let request = stack.entered_ns.map(|begun_ns| {
            let pending = Pending {
                begun_ns,
                tid: 0,
                method: stack.method.clone(),
                path: stack.path.clone(),
                path_cut: stack.path_cut,
                written_ns: None,
            };
            PendingView::new(patterns, routes, &pending, stack.time_ns)
        });
        Self {
            is_current: stack.is_current,
            request,
            frames: stack.frames.clone(),
            is_cut: stack.is_cut,
        }
    }
}

/// The function that a worker is stuck in. It is taken from the stack of the thread with the oldest
/// request, else of the thread that got the signal: the innermost frame of the application's own
/// files, else the innermost frame.
#[must_use]
pub fn stuck_in(stacks: &[Stack]) -> Option<Untrusted> {
    let serving = stacks.iter().filter(|stack| stack.entered_ns.is_some());
    let stack = serving
        .min_by_key(|stack| stack.entered_ns)
        .or_else(|| stacks.iter().find(|stack| stack.is_current))?;
    let own = stack.frames.iter().find(|location| location.frame.is_own);
    let location = own.or_else(|| stack.frames.first())?;
    Some(cause::place(&location.frame))
}

impl WorkerExit {
    /// Exit code and signal of a status.
    #[must_use]
    pub fn status(status: Option<ExitStatus>) -> (Option<u8>, Option<u8>) {
        match status {
            Some(ExitStatus::Code(code)) => (Some(code), None),
            Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        }
    }
}

/// The last events, for the live view.
#[derive(Debug, Default)]
pub struct RecentWorkerEvents {
    events: VecDeque<WorkerEvent>,
}

impl RecentWorkerEvents {
    pub fn push(&mut self, event: WorkerEvent) {
        self.events.push_back(event);
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
        let mut frames = 0;
        for exit in self
            .events
            .iter_mut()
            .rev()
            .filter_map(|event| event.exit.as_mut())
        {
            frames += exit
                .stacks
                .iter()
                .map(|stack| stack.frames.len())
                .sum::<usize>();
            if frames > MAX_FRAMES {
                exit.stacks.clear();
            }
        }
    }

    /// The oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &WorkerEvent> {
        self.events.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Frame;

    fn location(function: &'static str, is_own: bool) -> CodeLocation {
        let frame = Frame {
            file: "shop.py".into(),
            function: function.into(),
            is_own,
            ..Frame::default()
        };
        CodeLocation {
            frame,
            line: Some(7),
        }
    }

    fn stack(entered_ns: Option<u64>, is_current: bool, frames: &[(&'static str, bool)]) -> Stack {
        let frames = frames.iter().map(|&(name, own)| location(name, own));
        Stack {
            entered_ns,
            is_current,
            frames: frames.collect(),
            ..Stack::default()
        }
    }

    #[test]
    fn a_worker_is_stuck_in_the_applications_own_frame_of_the_oldest_request() {
        let main = stack(None, true, &[("wait", false), ("run", false)]);
        let young = stack(Some(20), false, &[("young", true)]);
        let old = stack(
            Some(10),
            false,
            &[("acquire", false), ("old", true), ("view", true)],
        );
        let all = [main.clone(), young, old];
        assert_eq!(stuck_in(&all), Some("shop.py:old".into()));
        // Without a request, it is stuck in its main thread.
        assert_eq!(stuck_in(&[main]), Some("shop.py:wait".into()));
        assert_eq!(stuck_in(&[]), None);
        assert_eq!(stuck_in(&[stack(Some(1), true, &[])]), None);
    }

    #[test]
    fn events_and_their_stacks_are_bounded() {
        let mut events = RecentWorkerEvents::default();
        let frames: Vec<_> = (0..48).map(|_| ("f", true)).collect();
        let of = StackView::new(&[], &RouteRegistry::default(), &stack(None, true, &frames));
        for _ in 0..1000 {
            let exit = WorkerExit {
                reason: ExitReason::Timeout,
                restart_type: ExitKind::Forced,
                exit_code: None,
                exit_signal: None,
                signals: Vec::new(),
                uptime_seconds: None,
                served: 0,
                requests: Vec::new(),
                stuck_in: None,
                stacks: vec![of.clone()],
                failure: None,
            };
            events.push(WorkerEvent {
                exit: Some(exit),
                ..WorkerEvent::default()
            });
        }
        assert_eq!(events.iter().count(), MAX_EVENTS);
        let with_stacks = |event: &&WorkerEvent| {
            let exit = event.exit.as_ref();
            exit.is_some_and(|exit| !exit.stacks.is_empty())
        };
        assert_eq!(events.iter().filter(with_stacks).count(), MAX_FRAMES / 48);
        let last = events.iter().last();
        assert!(last.is_some_and(|event| with_stacks(&event)));
    }
}
