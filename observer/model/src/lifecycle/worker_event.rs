//! What happened to workers: for the log, `trace` and the API.

use crate::duration::seconds;
use crate::errors::cause;
use crate::event::{CodeLocation, ExitStatus, Pid, Stack};
use crate::fact::Pending;
use crate::lifecycle::exit_reason::{ExitKind, ExitReason};
use crate::lifecycle::signal;
use crate::lifecycle::worker_state::Sent;
use crate::routes::normalize as route;
use crate::routes::normalize::Pattern;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

/// Events that a view has.
const MAX_EVENTS: usize = 200;
/// Frames of stacks in all of them: the stacks of older events are dropped.
const MAX_FRAMES: usize = 4096;

/// Something happened to a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerEvent {
    /// Unix time.
    pub time_seconds: f64,
    /// `worker_started` or `worker_ended`.
    pub event: Cow<'static, str>,
    pub app: String,
    pub master_pid: Pid,
    pub worker_pid: Pid,
    pub worker_id: String,
    pub worker_class: Arc<str>,
    /// How it ended; absent of a start.
    #[serde(flatten)]
    pub ended: Option<Ended>,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub reason: ExitReason,
    pub restart_type: ExitKind,
    pub exit_code: Option<u8>,
    pub exit_signal: Option<u8>,
    /// What it was sent, in order.
    pub signals: Vec<SignalView>,
    pub uptime_seconds: Option<f64>,
    /// Requests it was seen to serve.
    pub served: u64,
    /// Those in progress when it was last looked at, the oldest first.
    pub requests: Vec<PendingView>,
    /// Innermost frame of the application when its master gave it up.
    pub stuck_in: Option<String>,
    /// Where its threads were then.
    pub stacks: Vec<StackView>,
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

/// A request in progress.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PendingView {
    /// Unknown as long as `None`.
    pub method: Option<String>,
    /// As metrics have it; empty when the path is unknown.
    pub route: String,
    /// As the client sent it, without the query.
    pub path: Option<String>,
    /// Since it entered the application.
    pub age_seconds: f64,
}

impl PendingView {
    #[must_use]
    pub fn new(patterns: &[Pattern], pending: &Pending, now_ns: u64) -> Self {
        let path = pending.path.as_deref();
        let route = path.map(|path| route::reduce(patterns, path, pending.path_cut));
        Self {
            method: pending.method.clone(),
            route: route.unwrap_or_default().into_owned(),
            path: pending.path.clone(),
            age_seconds: seconds(now_ns.saturating_sub(pending.begun_ns)),
        }
    }
}

/// Where a thread was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StackView {
    /// It is the one that got the signal, mostly the main thread.
    pub is_current: bool,
    /// What it was serving.
    pub request: Option<PendingView>,
    /// The innermost first.
    pub frames: Vec<CodeLocation>,
    /// There are more frames, further out.
    pub is_cut: bool,
}

impl StackView {
    #[must_use]
    pub fn new(patterns: &[Pattern], stack: &Stack) -> Self {
        let request = stack.entered_ns.map(|begun_ns| {
            let pending = Pending {
                begun_ns,
                tid: 0,
                method: stack.method.clone(),
                path: stack.path.clone(),
                path_cut: stack.path_cut,
            };
            PendingView::new(patterns, &pending, stack.time_ns)
        });
        Self {
            is_current: stack.is_current,
            request,
            frames: stack.frames.clone(),
            is_cut: stack.is_cut,
        }
    }
}

/// Where the application hangs: of the thread whose request is the oldest, else of the one
/// that got the signal, the innermost frame that is the application's own, else the innermost.
#[must_use]
pub fn stuck_in(stacks: &[Stack]) -> Option<String> {
    let serving = stacks.iter().filter(|stack| stack.entered_ns.is_some());
    let stack = serving
        .min_by_key(|stack| stack.entered_ns)
        .or_else(|| stacks.iter().find(|stack| stack.is_current))?;
    let own = stack.frames.iter().find(|place| place.frame.is_own);
    let place = own.or_else(|| stack.frames.first())?;
    Some(cause::place(&place.frame))
}

impl Ended {
    /// The status as its parts.
    #[must_use]
    pub fn status(status: Option<ExitStatus>) -> (Option<u8>, Option<u8>) {
        match status {
            Some(ExitStatus::Code(code)) => (Some(code), None),
            Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        }
    }
}

/// The last events, for views.
#[derive(Debug, Default)]
pub struct Events {
    shown: VecDeque<WorkerEvent>,
}

impl Events {
    pub fn push(&mut self, event: WorkerEvent) {
        self.shown.push_back(event);
        if self.shown.len() > MAX_EVENTS {
            self.shown.pop_front();
        }
        let mut frames = 0;
        for ended in self
            .shown
            .iter_mut()
            .rev()
            .filter_map(|event| event.ended.as_mut())
        {
            frames += ended
                .stacks
                .iter()
                .map(|stack| stack.frames.len())
                .sum::<usize>();
            if frames > MAX_FRAMES {
                ended.stacks.clear();
            }
        }
    }

    /// The last ones, in order.
    pub fn shown(&self) -> impl Iterator<Item = &WorkerEvent> {
        self.shown.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Frame;

    fn place(function: &str, is_own: bool) -> CodeLocation {
        let frame = Frame {
            file: "shop.py".to_owned(),
            function: function.to_owned(),
            is_own,
            ..Frame::default()
        };
        CodeLocation {
            frame,
            line: Some(7),
        }
    }

    fn stack(entered_ns: Option<u64>, is_current: bool, frames: &[(&str, bool)]) -> Stack {
        Stack {
            entered_ns,
            is_current,
            frames: frames.iter().map(|&(name, own)| place(name, own)).collect(),
            ..Stack::default()
        }
    }

    #[test]
    fn it_hangs_in_the_applications_own_frame_of_the_oldest_request() {
        let main = stack(None, true, &[("wait", false), ("run", false)]);
        let young = stack(Some(20), false, &[("young", true)]);
        let old = stack(
            Some(10),
            false,
            &[("acquire", false), ("old", true), ("view", true)],
        );
        let all = [main.clone(), young, old];
        assert_eq!(stuck_in(&all).as_deref(), Some("shop.py:old"));
        // Nothing is served: it is its main thread that hangs.
        assert_eq!(stuck_in(&[main]).as_deref(), Some("shop.py:wait"));
        assert_eq!(stuck_in(&[]), None);
        assert_eq!(stuck_in(&[stack(Some(1), true, &[])]), None);
    }

    #[test]
    fn events_and_their_stacks_are_bounded() {
        let mut events = Events::default();
        let frames: Vec<_> = (0..48).map(|_| ("f", true)).collect();
        let of = StackView::new(&[], &stack(None, true, &frames));
        for _ in 0..1000 {
            let ended = Ended {
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
            };
            events.push(WorkerEvent {
                ended: Some(ended),
                ..WorkerEvent::default()
            });
        }
        assert_eq!(events.shown().count(), MAX_EVENTS);
        let with_stacks = |event: &&WorkerEvent| {
            event
                .ended
                .as_ref()
                .is_some_and(|ended| !ended.stacks.is_empty())
        };
        assert_eq!(events.shown().filter(with_stacks).count(), MAX_FRAMES / 48);
        assert!(
            events
                .shown()
                .last()
                .is_some_and(|event| with_stacks(&event))
        );
    }
}
