//! The state of a worker between its fork and its exit.
//!
//! ```text
//!             Worker.booted           TERM, QUIT, INT; Worker.alive is false
//!  Booting ─────────────────> Running ──────────────────────────────────────> Quitting
//!     └────────────┬─────────────┴──────────────────────┬─────────────────────────┘
//!                  │ ABRT: the master's timeout          v
//!                  └───────────────────────────────> Aborting
//! ```

use super::signal;
use crate::errors::cause::Failure;
use crate::event::{Exception, Pid, Stack};
use crate::fact::WorkerInFlight;
use serde::{Deserialize, Serialize};

/// Signals of one kind that are kept of a worker. Only the first ones are kept, so that many signals
/// of one kind, such as one for each rotation of logs, do not displace the others.
const SAME_SIGNALS: usize = 4;
/// Stacks that are kept of a worker.
const MAX_STACKS: usize = 32;

/// A signal that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub time_ns: u64,
    pub signal: u8,
    /// `None` for the kernel.
    pub sender: Option<Pid>,
    /// Another thread of the sender than its main thread sent it.
    pub by_thread: bool,
}

/// The stage of a worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Booting,
    Running,
    Quitting,
    Aborting,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 4] = [Self::Booting, Self::Running, Self::Quitting, Self::Aborting];

    /// As it is exported.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Quitting => "quitting",
            Self::Aborting => "aborting",
        }
    }
}

/// What the observer knows of a worker, beside its requests.
#[derive(Clone, Debug, Default)]
pub struct WorkerState {
    pub signals: Vec<Sent>,
    /// The kernel's OOM killer chose it.
    pub oom: bool,
    /// The observer has read its memory, or tried to.
    pub was_read: bool,
    /// `Worker.booted` and `Worker.alive`, as last read.
    pub booted: Option<bool>,
    pub alive: Option<bool>,
    /// Since when it quits or is aborted.
    pub quitting_ns: Option<u64>,
    /// It has served a request.
    pub served: bool,
    /// Stacks of its threads when it was aborted.
    pub stacks: Vec<Stack>,
    /// Requests in flight at the last sample.
    pub in_flight: WorkerInFlight,
    /// The last exception that it handled before it had a request.
    pub failure: Option<Box<Failure>>,
    /// The time of its abort, and the requests in flight just before: the abort ends them.
    pub aborted: Option<(u64, WorkerInFlight)>,
}

/// [`Stack::thread_state`] of a stack that was read from outside.
pub const READ_OUTSIDE: u64 = 0;

impl WorkerState {
    /// A signal was sent to the worker.
    pub fn signal(&mut self, sent: Sent) {
        if sent.signal == signal::ABRT && self.aborted.is_none() {
            self.aborted = Some((sent.time_ns, self.in_flight.clone()));
        }
        let same = self.signals.iter().filter(|of| of.signal == sent.signal);
        if same.count() < SAME_SIGNALS {
            self.signals.push(sent);
        }
        self.check_quitting(sent.time_ns);
    }

    /// Notes the time, if it quits now.
    pub fn check_quitting(&mut self, now_ns: u64) {
        let quits = matches!(self.stage(), Some(Stage::Quitting | Stage::Aborting));
        if quits && self.quitting_ns.is_none() {
            self.quitting_ns = Some(now_ns);
        }
    }

    /// The stack of one of its threads was captured.
    pub fn stack(&mut self, stack: &Stack) {
        if stack.thread_state != READ_OUTSIDE {
            // Those that came with the signal are as of then.
            self.stacks
                .retain(|known| known.thread_state != READ_OUTSIDE);
        }
        if self.stacks.len() < MAX_STACKS {
            self.stacks.push(stack.clone());
        }
    }

    /// It handled an exception, and had no request yet.
    pub fn failed_before_requests(&mut self, exception: &Exception) {
        if !self.has_run() {
            self.failure = Some(Box::new(Failure::of(exception)));
        }
    }

    /// Whether it has begun to serve.
    #[must_use]
    pub fn has_run(&self) -> bool {
        self.served || self.booted == Some(true) || self.in_flight.count > 0
    }

    /// Its stage; `None` when unknown.
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        let got = |wanted: &[u8]| {
            self.signals
                .iter()
                .any(|sent| wanted.contains(&sent.signal))
        };
        if got(&[signal::ABRT]) {
            Some(Stage::Aborting)
        } else if got(&[signal::TERM, signal::QUIT, signal::INT]) || self.alive == Some(false) {
            Some(Stage::Quitting)
        } else if self.has_run() {
            Some(Stage::Running)
        } else if self.booted.is_none() && self.was_read {
            None
        } else {
            Some(Stage::Booting)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(signal: u8) -> Sent {
        Sent {
            time_ns: 1,
            signal,
            sender: None,
            by_thread: false,
        }
    }

    #[test]
    fn stages_follow_memory_and_signals() {
        let mut state = WorkerState::default();
        assert_eq!(state.stage(), Some(Stage::Booting));
        state.was_read = true;
        assert_eq!(state.stage(), None, "its memory could not be read");
        state.booted = Some(false);
        assert_eq!(state.stage(), Some(Stage::Booting));
        state.booted = Some(true);
        assert_eq!(state.stage(), Some(Stage::Running));
        state.signal(sent(10));
        assert_eq!(state.stage(), Some(Stage::Running));
        state.alive = Some(false);
        assert_eq!(state.stage(), Some(Stage::Quitting));
        state.signal(sent(signal::ABRT));
        assert_eq!(state.stage(), Some(Stage::Aborting));
    }

    #[test]
    fn a_worker_that_serves_is_running_whatever_its_memory_says() {
        let state = WorkerState {
            served: true,
            was_read: true,
            ..WorkerState::default()
        };
        assert_eq!(state.stage(), Some(Stage::Running));
    }

    #[test]
    fn a_worker_quits_since_the_first_sign_of_it() {
        let at = |time_ns, signal| Sent {
            time_ns,
            ..sent(signal)
        };
        let mut state = WorkerState::default();
        state.signal(at(1, signal::HUP));
        assert_eq!(state.quitting_ns, None);
        state.signal(at(2, signal::TERM));
        state.signal(at(3, signal::ABRT));
        assert_eq!(state.quitting_ns, Some(2));
        let mut state = WorkerState {
            alive: Some(false),
            ..WorkerState::default()
        };
        state.check_quitting(5);
        state.check_quitting(6);
        assert_eq!(state.quitting_ns, Some(5));
    }

    #[test]
    fn signals_and_stacks_of_a_worker_are_bounded() {
        let mut state = WorkerState::default();
        for _ in 0..1000 {
            state.signal(sent(10));
            state.stack(&Stack::default());
        }
        state.signal(sent(signal::ABRT));
        assert_eq!(state.signals.len(), SAME_SIGNALS + 1);
        assert_eq!(state.stage(), Some(Stage::Aborting));
        assert_eq!(state.stacks.len(), MAX_STACKS);
    }
}
