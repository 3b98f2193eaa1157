//! Why a worker ended: from who sent which signal, what its master was asked for, and how it
//! exited. What that does not tell is `unknown`.
//!
//! Gunicorn's side of it is `gunicorn/arbiter.py` (19.10 to 27.0): `murder_workers` sends `SIGABRT`,
//! then `SIGKILL`; `manage_workers` sends `SIGTERM` after `SIGHUP` and `SIGTTOU`; `stop` sends
//! `SIGTERM` or `SIGQUIT`, then `SIGKILL`. `reap_workers` stops the master when a worker exits with 3
//! (`WORKER_BOOT_ERROR`) or 4 (`APP_LOAD_ERROR`).

use crate::event::{ExitStatus, Pid};
use crate::lifecycle::signal;
use crate::lifecycle::worker_state::{Sent, WorkerState};
use serde::{Deserialize, Serialize};

const BOOT_ERRORS: [u8; 2] = [3, 4];
/// A stop of the master is the reason also of what a worker was sent this long before: both
/// get the signal that a terminal or a supervisor sends to a process group.
const TOGETHER_NS: u64 = 1_000_000_000;

/// Why a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// Its master heard nothing of it for the timeout.
    Timeout,
    /// The kernel killed it for want of memory.
    Oom,
    /// It had served as many requests as it may.
    MaxRequests,
    /// Its master replaced its workers, after `SIGHUP`.
    Reload,
    /// Its master was asked for fewer workers, by `SIGTTOU`.
    Ttou,
    /// Somebody asked it, and not its master, to stop.
    Quit,
    /// A signal or an exit that nobody asked for.
    Crash,
    /// It ended before it could serve.
    BootError,
    /// Its master stops, or has gone.
    Shutdown,
    /// What was seen does not tell.
    Unknown,
}

impl ExitReason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Timeout,
        Self::Oom,
        Self::MaxRequests,
        Self::Reload,
        Self::Ttou,
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
            Self::Quit => "quit",
            Self::Crash => "crash",
            Self::BootError => "boot_error",
            Self::Shutdown => "shutdown",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it is a sign of trouble: nobody asked for it.
    #[must_use]
    pub fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::Timeout | Self::Oom | Self::Crash | Self::BootError | Self::Unknown
        )
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitKind {
    /// It finished what it had to do.
    Graceful,
    /// It did not.
    Forced,
}

impl ExitKind {
    /// As it is exported: `restart_type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Graceful => "graceful",
            Self::Forced => "forced",
        }
    }
}

/// What is known when a worker has ended.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub state: &'a WorkerState,
    pub status: Option<ExitStatus>,
    pub ended_ns: u64,
    pub master: Pid,
    /// Signals that its master got, in order.
    pub asked: &'a [Sent],
    /// Its master stops by itself: a worker could not boot.
    pub is_halting: bool,
    pub master_ended: bool,
    /// `max_requests`; `None` when that is not known, 0 when there is no limit.
    pub max_requests: Option<u64>,
    /// Requests it was seen to serve; `is_all` if it was watched from its beginning.
    pub served: u64,
    pub is_all: bool,
}

/// Why it ended, and how.
#[must_use]
pub fn of(evidence: &Evidence<'_>) -> (ExitReason, ExitKind) {
    let got = |wanted: u8| {
        evidence
            .state
            .signals
            .iter()
            .any(|sent| sent.signal == wanted)
    };
    let rough = [signal::QUIT, signal::INT, signal::ABRT, signal::KILL];
    let terms = evidence
        .state
        .signals
        .iter()
        .filter(|sent| sent.signal == signal::TERM);
    let has_finished = match evidence.status {
        Some(ExitStatus::Code(code)) => code == 0,
        // The master asks again while it winds up, and then its own handler has gone already.
        Some(ExitStatus::Signal(signal)) => signal == signal::TERM && terms.count() > 1,
        None => false,
    };
    let is_graceful = has_finished && !rough.into_iter().any(got);
    let exit_kind = if is_graceful {
        ExitKind::Graceful
    } else {
        ExitKind::Forced
    };
    (reason(evidence), exit_kind)
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
        return asked_for(evidence, stop.time_ns).unwrap_or(if evidence.is_halting {
            ExitReason::Shutdown
        } else {
            ExitReason::Unknown
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
        // It deep_captures now and then whether its master is still there.
        Some(ExitStatus::Code(0)) if evidence.master_ended => ExitReason::Shutdown,
        Some(ExitStatus::Code(0)) if has_served_enough(evidence) => ExitReason::MaxRequests,
        Some(ExitStatus::Code(0)) | None => ExitReason::Unknown,
        Some(ExitStatus::Code(_)) => ExitReason::Crash,
    }
}

/// What the master was asked for last before it sent a signal at `until_ns`.
fn asked_for(evidence: &Evidence<'_>, until_ns: u64) -> Option<ExitReason> {
    let asked = evidence
        .asked
        .iter()
        .rev()
        .filter(|sent| sent.time_ns <= until_ns);
    asked
        .filter_map(|sent| match sent.signal {
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
