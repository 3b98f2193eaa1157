//! Why a worker exited. The reason follows from the signals sent to the worker and their senders, from
//! the signals sent to its master, and from the exit status. When they do not decide, the reason is
//! `unknown`.
//!
//! Gunicorn's side is `gunicorn/arbiter.py` (19.10 to 27.0): `murder_workers` sends `SIGABRT`,
//! then `SIGKILL`; `manage_workers` sends `SIGTERM` after `SIGHUP` and `SIGTTOU`; `stop` sends
//! `SIGTERM` or `SIGQUIT`, then `SIGKILL`. `reap_workers` stops the master when a worker exits with 3
//! (`WORKER_BOOT_ERROR`) or 4 (`APP_LOAD_ERROR`).

use crate::errors::fatal_exit::FatalExit;
use crate::event::{ExitStatus, Pid};
use crate::lifecycle::signal;
use crate::lifecycle::worker_state::{Sent, WorkerState};
use serde::{Deserialize, Serialize};

pub(super) const BOOT_ERRORS: [u8; 2] = [3, 4];
/// A reload, or a request for fewer workers, explains what the master does to its workers within this time:
/// with `preload_app` it imports the application first.
const ANSWER_NS: u64 = 300_000_000_000;
/// A stop of the master also explains a signal that the worker got this long before: a terminal or a
/// supervisor sends the signal to the whole process group.
const TOGETHER_NS: u64 = 1_000_000_000;

/// Why a worker exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// It sent no heartbeat for the timeout, and its master killed it.
    Timeout,
    /// The kernel's OOM killer killed it.
    Oom,
    /// It had served `max_requests` requests.
    MaxRequests,
    /// Its master replaced its workers, after `SIGHUP`.
    Reload,
    /// Its master reduced the number of workers, after `SIGTTOU`.
    Ttou,
    /// `gunicornc worker remove`.
    WorkerRemove,
    /// `gunicornc worker kill`.
    WorkerKill,
    /// Somebody other than its master sent it a signal to stop.
    Quit,
    /// A signal or an exit code that nobody asked for.
    Crash,
    /// It exited before it could serve.
    BootError,
    /// Its master stops, or is gone.
    Shutdown,
    /// The observer does not know.
    Unknown,
}

impl ExitReason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Timeout,
        Self::Oom,
        Self::MaxRequests,
        Self::Reload,
        Self::Ttou,
        Self::WorkerRemove,
        Self::WorkerKill,
        Self::Quit,
        Self::Crash,
        Self::BootError,
        Self::Shutdown,
        Self::Unknown,
    ];

    /// As it is exported.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Oom => "oom",
            Self::MaxRequests => "max_requests",
            Self::Reload => "reload",
            Self::Ttou => "ttou",
            Self::WorkerRemove => "worker_remove",
            Self::WorkerKill => "worker_kill",
            Self::Quit => "quit",
            Self::Crash => "crash",
            Self::BootError => "boot_error",
            Self::Shutdown => "shutdown",
            Self::Unknown => "unknown",
        }
    }

    /// Whether nobody asked for the exit: a sign of trouble.
    #[must_use]
    pub fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::Timeout | Self::Oom | Self::Crash | Self::BootError | Self::Unknown
        )
    }
}

impl From<ExitReason> for FatalExit {
    fn from(reason: ExitReason) -> Self {
        match reason {
            ExitReason::Timeout => Self::Timeout,
            ExitReason::Oom => Self::Oom,
            ExitReason::Crash => Self::Crash,
            _ => Self::Other,
        }
    }
}

/// Whether the worker finished its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitKind {
    /// It finished its requests.
    Graceful,
    /// It did not.
    Forced,
}

impl ExitKind {
    /// The label `restart_type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Graceful => "graceful",
            Self::Forced => "forced",
        }
    }
}

/// What is known about the exit of a worker.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub state: &'a WorkerState,
    pub status: Option<ExitStatus>,
    pub ended_ns: u64,
    pub master: Pid,
    /// Signals sent to its master, in order.
    pub asked: &'a [Sent],
    /// Its master stops by itself, because a worker could not boot.
    pub is_halting: bool,
    pub master_ended: bool,
    /// Its master takes commands of `gunicornc` (`gunicorn/ctl`, from 25.0 on).
    pub takes_commands: bool,
    /// `max_requests`; `None` when unknown, 0 for no limit.
    pub max_requests: Option<u64>,
    /// Requests that the observer saw it serve.
    pub served: u64,
    /// The observer saw its start, so that `served` has all its requests.
    pub is_all: bool,
}

/// Why the worker exited, and whether it finished its work.
#[must_use]
pub fn of(evidence: &Evidence<'_>) -> (ExitReason, ExitKind) {
    let exit_kind = exit_kind(evidence.state, evidence.status);
    (reason(evidence), exit_kind)
}

/// Whether a process finished its work.
pub(super) fn exit_kind(state: &WorkerState, status: Option<ExitStatus>) -> ExitKind {
    let got = |wanted: u8| state.signals.iter().any(|sent| sent.signal == wanted);
    let rough = [signal::QUIT, signal::INT, signal::ABRT, signal::KILL];
    let terms = state
        .signals
        .iter()
        .filter(|sent| sent.signal == signal::TERM);
    let has_finished = match status {
        Some(ExitStatus::Code(code)) => code == 0,
        // While the master stops, it sends SIGTERM again, when the worker's handler is already gone.
        Some(ExitStatus::Signal(signal)) => signal == signal::TERM && terms.count() > 1,
        None => false,
    };
    let is_graceful = has_finished && !rough.into_iter().any(got);
    if is_graceful {
        ExitKind::Graceful
    } else {
        ExitKind::Forced
    }
}

fn reason(evidence: &Evidence<'_>) -> ExitReason {
    let Evidence {
        state,
        status,
        master,
        ..
    } = *evidence;
    let by_master = |sent: &&Sent| sent.sender == Some(master);
    let stops = [signal::TERM, signal::QUIT, signal::INT];
    if state.oom && status == Some(ExitStatus::Signal(signal::KILL)) {
        return ExitReason::Oom;
    }
    if state
        .signals
        .iter()
        .filter(by_master)
        .any(|sent| sent.signal == signal::ABRT)
    {
        return ExitReason::Timeout;
    }
    let mut of_master = state.signals.iter().filter(by_master);
    let stop = of_master.find(|s| s.signal == signal::KILL || stops.contains(&s.signal));
    if let Some(stop) = stop {
        // `worker remove` and `worker kill` send no signal to the master. The first lets its main thread
        // stop a worker, the second does so itself, in a thread of its own (`gunicorn/ctl/handlers.py`).
        return asked_for(evidence, stop.time_ns).unwrap_or(match evidence {
            Evidence {
                is_halting: true, ..
            } => ExitReason::Shutdown,
            Evidence {
                takes_commands: true,
                ..
            } if stop.by_thread => ExitReason::WorkerKill,
            Evidence {
                takes_commands: true,
                ..
            } => ExitReason::WorkerRemove,
            _ => ExitReason::Unknown,
        });
    }
    let quit = state
        .signals
        .iter()
        .find(|sent| stops.contains(&sent.signal));
    let has_quit = match status {
        Some(ExitStatus::Code(code)) => code == 0,
        Some(ExitStatus::Signal(signal)) => stops.contains(&signal),
        None => false,
    };
    if let Some(quit) = quit.filter(|_| has_quit) {
        let asked = asked_for(evidence, quit.time_ns + TOGETHER_NS);
        return asked
            .filter(|&asked| asked == ExitReason::Shutdown)
            .unwrap_or(ExitReason::Quit);
    }
    match status {
        Some(ExitStatus::Signal(_)) => ExitReason::Crash,
        Some(ExitStatus::Code(code)) if BOOT_ERRORS.contains(&code) && !state.has_run() => {
            ExitReason::BootError
        }
        // A worker checks now and then whether its master is still alive.
        Some(ExitStatus::Code(0)) if evidence.master_ended => ExitReason::Shutdown,
        Some(ExitStatus::Code(0)) if has_served_enough(evidence) => ExitReason::MaxRequests,
        Some(ExitStatus::Code(0)) | None => ExitReason::Unknown,
        Some(ExitStatus::Code(_)) => ExitReason::Crash,
    }
}

/// The last request to the master, by a signal, up to `until_ns`.
fn asked_for(evidence: &Evidence<'_>, until_ns: u64) -> Option<ExitReason> {
    let asked = evidence
        .asked
        .iter()
        .rev()
        .filter(|sent| sent.time_ns <= until_ns);
    asked
        .filter_map(|sent| match sent.signal {
            signal::HUP | signal::TTOU if until_ns.saturating_sub(sent.time_ns) > ANSWER_NS => None,
            signal::HUP => Some(ExitReason::Reload),
            signal::TTOU => Some(ExitReason::Ttou),
            signal::TERM | signal::INT | signal::QUIT | signal::WINCH => Some(ExitReason::Shutdown),
            _ => None,
        })
        .next()
}

fn has_served_enough(evidence: &Evidence<'_>) -> bool {
    let limit = evidence.max_requests.filter(|&limit| limit > 0);
    limit.is_some_and(|limit| evidence.served >= limit || !evidence.is_all)
}

#[cfg(test)]
#[path = "exit_reason_tests.rs"]
mod tests;
