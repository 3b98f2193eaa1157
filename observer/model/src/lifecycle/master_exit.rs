//! Why a master exited, from the signals sent to it and its exit status. `Arbiter.run` and
//! `Arbiter.halt` of `gunicorn/arbiter.py` (19.10 to 27.0) exit with 0 after a signal to stop, with 3 or 4
//! after a worker that could not boot, and with 255 (-1) after an exception.

use crate::event::ExitStatus;
use crate::lifecycle::exit_reason::{BOOT_ERRORS, ExitKind, ExitReason, exit_kind};
use crate::lifecycle::signal;
use crate::lifecycle::worker_state::WorkerState;

/// The reasons of masters.
pub const REASONS: [ExitReason; 5] = [
    ExitReason::Quit,
    ExitReason::BootError,
    ExitReason::Oom,
    ExitReason::Crash,
    ExitReason::Unknown,
];

/// Signals that a master takes as requests: they never end it.
const REQUESTS: [u8; 6] = [
    signal::HUP,
    signal::USR1,
    signal::USR2,
    signal::TTIN,
    signal::TTOU,
    signal::WINCH,
];

/// Whether a signal may end a master.
#[must_use]
pub fn may_end(signal: u8) -> bool {
    !REQUESTS.contains(&signal)
}

/// Why a master exited, and whether it stopped its workers gracefully. `state` has the signals that may
/// end it.
#[must_use]
pub fn of(state: &WorkerState, status: Option<ExitStatus>) -> (ExitReason, ExitKind) {
    (reason(state, status), exit_kind(state, status))
}

fn reason(state: &WorkerState, status: Option<ExitStatus>) -> ExitReason {
    let stops = [signal::TERM, signal::QUIT, signal::INT];
    let was_asked = state.signals.iter().any(|it| stops.contains(&it.signal));
    match status {
        Some(ExitStatus::Signal(signal::KILL)) if state.oom => ExitReason::Oom,
        Some(ExitStatus::Code(0)) if was_asked => ExitReason::Quit,
        // It had no handler yet.
        Some(ExitStatus::Signal(signal)) if was_asked && stops.contains(&signal) => {
            ExitReason::Quit
        }
        Some(ExitStatus::Code(code)) if BOOT_ERRORS.contains(&code) => ExitReason::BootError,
        Some(ExitStatus::Code(0)) | None => ExitReason::Unknown,
        Some(ExitStatus::Code(_) | ExitStatus::Signal(_)) => ExitReason::Crash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::worker_state::Sent;

    #[test]
    fn the_reason_follows_from_signals_and_status() {
        use ExitStatus::{Code, Signal};
        type Case = (
            &'static [u8],
            bool,
            Option<ExitStatus>,
            ExitReason,
            ExitKind,
        );
        const GRACEFUL: ExitKind = ExitKind::Graceful;
        const FORCED: ExitKind = ExitKind::Forced;
        let cases: [Case; 13] = [
            (&[15], false, Some(Code(0)), ExitReason::Quit, GRACEFUL),
            (&[15, 3], false, Some(Code(0)), ExitReason::Quit, FORCED),
            (&[2], false, Some(Code(0)), ExitReason::Quit, FORCED),
            (&[15], false, Some(Signal(15)), ExitReason::Quit, FORCED),
            (&[15], false, Some(Code(255)), ExitReason::Crash, FORCED),
            (&[15, 9], false, Some(Signal(9)), ExitReason::Crash, FORCED),
            (&[9], true, Some(Signal(9)), ExitReason::Oom, FORCED),
            (&[11], true, Some(Signal(11)), ExitReason::Crash, FORCED),
            (&[], false, Some(Code(3)), ExitReason::BootError, FORCED),
            (&[], false, Some(Code(4)), ExitReason::BootError, FORCED),
            (&[], false, Some(Code(1)), ExitReason::Crash, FORCED),
            (&[], false, Some(Code(0)), ExitReason::Unknown, GRACEFUL),
            (&[15], false, None, ExitReason::Unknown, FORCED),
        ];
        for (signals, oom, status, reason, kind) in cases {
            let mut state = WorkerState {
                oom,
                ..WorkerState::default()
            };
            for &signal in signals {
                state.signal(Sent {
                    time_ns: 1,
                    signal,
                    sender: Some(7),
                    by_thread: false,
                });
            }
            let expected = (reason, kind);
            assert_eq!(of(&state, status), expected, "{signals:?} {status:?}");
            assert!(REASONS.contains(&reason));
        }
    }

    #[test]
    fn requests_do_not_end_a_master() {
        assert!([1, 10, 12, 21, 22, 28].into_iter().all(|it| !may_end(it)));
        assert!([2, 3, 6, 9, 11, 15].into_iter().all(may_end));
    }
}
