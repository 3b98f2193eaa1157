//! A worker between its fork and its end.
//!
//! ```text
//!             Worker.booted           TERM, QUIT, INT; Worker.alive is false
//!  Booting ─────────────────> Running ──────────────────────────────────────> Quitting
//!     └────────────┬─────────────┴──────────────────────┬─────────────────────────┘
//!                  │ ABRT: its master gave it up         v
//!                  └───────────────────────────────> Aborting
//! ```

use super::signal;
use crate::event::{Pid, Stack};
use crate::fact::WorkerInFlight;
use serde::{Deserialize, Serialize};

/// Signals of one kind that are kept of a worker, the first ones: however many of one it gets, as at
/// each rotation of logs, the others are not lost for it.
const SAME_SIGNALS: usize = 4;
/// Stacks, likewise.
const MAX_STACKS: usize = 32;

/// A signal that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub time_ns: u64,
    pub signal: u8,
    /// `None` for the kernel.
    pub sender: Option<Pid>,
}

/// How far a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Booting,
    Running,
    Quitting,
    Aborting,
}

impl Stage {
    /// All of them, in order.
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

/// What happened to a worker, beside its requests.
#[derive(Clone, Debug, Default)]
pub struct WorkerState {
    pub signals: Vec<Sent>,
    /// The kernel chose it to be killed for want of memory.
    pub oom: bool,
    /// Its memory was looked at, and told or not.
    pub was_looked_at: bool,
    /// `Worker.booted` and `Worker.alive`, as last seen.
    pub booted: Option<bool>,
    pub alive: Option<bool>,
    /// It had a request.
    pub served: bool,
    /// Where its threads were when it was aborted.
    pub stacks: Vec<Stack>,
    /// Its requests in progress when last looked at.
    pub in_flight: WorkerInFlight,
    /// … before it was aborted, and when that was: what it does then ends them.
    pub aborted: Option<(u64, WorkerInFlight)>,
}

impl WorkerState {
    /// A signal was sent to it.
    pub fn signal(&mut self, sent: Sent) {
        if sent.signal == signal::ABRT && self.aborted.is_none() {
            self.aborted = Some((sent.time_ns, self.in_flight.clone()));
        }
        let same = self.signals.iter().filter(|of| of.signal == sent.signal);
        if same.count() < SAME_SIGNALS {
            self.signals.push(sent);
        }
    }

    /// Where one of its threads is.
    pub fn stack(&mut self, stack: &Stack) {
        if self.stacks.len() < MAX_STACKS {
            self.stacks.push(stack.clone());
        }
    }

    /// It began to serve, as far as was seen.
    #[must_use]
    pub fn has_run(&self) -> bool {
        self.served || self.booted == Some(true) || self.in_flight.count > 0
    }

    /// How far it is; `None` where nothing tells.
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
        } else if self.booted.is_none() && self.was_looked_at {
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
        }
    }

    #[test]
    fn a_worker_boots_runs_quits_and_is_aborted() {
        let mut state = WorkerState::default();
        assert_eq!(state.stage(), Some(Stage::Booting));
        state.was_looked_at = true;
        assert_eq!(state.stage(), None, "its memory does not tell");
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
    fn a_worker_that_serves_runs_whatever_its_memory_says() {
        let state = WorkerState {
            served: true,
            was_looked_at: true,
            ..WorkerState::default()
        };
        assert_eq!(state.stage(), Some(Stage::Running));
    }

    #[test]
    fn what_is_kept_of_a_worker_is_bounded() {
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
