//! Deep capture: after a request of a master failed for an unknown reason, the programs report every
//! frame that an exception leaves, for a bounded time and number of hits.
//!
//! ```text
//!            time over, or budget used
//!  Capturing ───────────────────────────> Resting ──> Over
//! ```
//!
//! Deep captures of several masters share the hits that each adds to the budget. A master rests after
//! its deep capture: long enough to keep the overhead below one per cent of a CPU, and longer each
//! time.

use super::{Watcher, is_alive};
use crate::clock::monotonic_ns;
use crate::gunicorn::tree::Coverage;
use anyhow::Result;
use observer_model::event::Pid;
use observer_model::fact::{DeepCapture, DeepCaptureState, Fact};
use std::collections::BTreeMap;

const SECOND_NS: u64 = 1_000_000_000;
/// Longest deep capture.
const CAPTURE_NS: u64 = 30 * SECOND_NS;
/// Hits that one deep capture adds to the budget.
const CAPTURE_HITS: u64 = 50_000;
/// Time between the report of the end and the detachment: a missing frame is then never mistaken for
/// one that no exception left.
const NOTICE_NS: u64 = SECOND_NS / 2;
/// Cost of a hit: the run time of the program (`cargo xtask bench errors`) and of a single-stepped trap
/// (`cargo xtask bench placement`), rounded up.
const HIT_NS: u64 = 25_000;
/// Deep captures of a master may use one part in this many of a CPU.
const SHARE: u64 = 100;
/// The shortest first rest of a master. Each further one is twice as long, up to the longest: the traps
/// slow down every process of that interpreter.
const FIRST_REST_NS: u64 = 5 * SECOND_NS;
/// The longest rest, and the rest after a deep capture that failed to start.
const LONGEST_REST_NS: u64 = 600 * SECOND_NS;

/// The masters with a deep capture, and those that rest.
#[derive(Debug, Default)]
pub(super) struct CaptureSchedule {
    is_off: bool,
    /// The budget: hits that all deep captures together may use, over all time.
    granted: u64,
    current: BTreeMap<Pid, Current>,
    /// End of each rest.
    resting: BTreeMap<Pid, u64>,
    /// Recent deep captures of each master, and the end of its last rest.
    taken: BTreeMap<Pid, (u32, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Current {
    reason: String,
    /// Hits used when it began.
    used_before: u64,
    /// When its next step is due.
    at_ns: u64,
    is_ending: bool,
}

/// A step that is due.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Report its end, with the reason it began.
    Announce(Pid, String),
    /// Detach, with the hits used when it began.
    End(Pid, u64),
    /// The rest is over.
    Forget(Pid),
}

impl CaptureSchedule {
    /// A schedule that begins no deep capture if `is_off`.
    #[must_use]
    pub(super) fn new(is_off: bool) -> Self {
        Self {
            is_off,
            ..Self::default()
        }
    }

    /// Whether a deep capture of this master may begin now.
    fn is_due(&self, pid: Pid) -> bool {
        let is_known = self.current.contains_key(&pid) || self.resting.contains_key(&pid);
        !self.is_off && !is_known
    }

    /// The next step that is due.
    fn due(&mut self, now: u64) -> Option<Step> {
        let mut current = self.current.iter_mut();
        if let Some((&pid, capture)) = current.find(|(_, capture)| capture.at_ns <= now) {
            if capture.is_ending {
                let used_before = capture.used_before;
                self.current.remove(&pid);
                return Some(Step::End(pid, used_before));
            }
            capture.is_ending = true;
            capture.at_ns = now + NOTICE_NS;
            return Some(Step::Announce(pid, capture.reason.clone()));
        }
        let rested = self.resting.iter().find(|(_, until_ns)| **until_ns <= now);
        let pid = rested.map(|(&pid, _)| pid)?;
        self.resting.remove(&pid);
        Some(Step::Forget(pid))
    }

    fn began(&mut self, pid: Pid, reason: String, used_before: u64, now: u64) {
        let capture = Current {
            reason,
            used_before,
            at_ns: now + CAPTURE_NS,
            is_ending: false,
        };
        self.current.insert(pid, capture);
    }

    /// The budget is used: all deep captures end at once, without an announcement.
    fn exhausted(&mut self, now: u64) {
        for capture in self.current.values_mut() {
            capture.is_ending = true;
            capture.at_ns = now;
        }
    }

    /// A deep capture used this many hits, or failed to start; the master rests now.
    fn rest(&mut self, pid: Pid, hits: Option<u64>, now: u64) {
        let (taken, rested_ns) = self.taken.entry(pid).or_default();
        if now > rested_ns.saturating_add(LONGEST_REST_NS + CAPTURE_NS) {
            *taken = 0;
        }
        let least_ns = FIRST_REST_NS.saturating_mul(1 << (*taken).min(16));
        *taken += 1;
        let rest_ns = hits.map_or(LONGEST_REST_NS, |hits| hits * HIT_NS * SHARE);
        let until_ns = now + rest_ns.max(least_ns.min(LONGEST_REST_NS));
        *rested_ns = until_ns;
        self.resting.insert(pid, until_ns);
    }

    /// Removes a master. Whether it had a deep capture.
    fn forget(&mut self, pid: Pid) -> bool {
        self.resting.remove(&pid);
        self.taken.remove(&pid);
        self.current.remove(&pid).is_some()
    }

    /// When the next step is due.
    pub(super) fn next_ns(&self) -> Option<u64> {
        let current = self.current.values().map(|capture| capture.at_ns);
        self.resting.values().copied().chain(current).min()
    }
}

impl Watcher {
    /// A request of this master failed for an unknown reason: begins a deep capture, unless it has one
    /// or rests.
    pub(super) fn request_deep_capture(&mut self, pid: Pid, reason: String) {
        if !self.captures.is_due(pid) {
            return;
        }
        match self.begin_deep_capture(pid) {
            Ok(Some(used)) => {
                tracing::info!(pid, reason, "deep capture began");
                let now = monotonic_ns();
                self.captures.began(pid, reason.clone(), used, now);
                self.send_deep_capture(pid, DeepCaptureState::Capturing, now, reason);
            }
            // Its Python is not read any more.
            Ok(None) => {}
            Err(_) if !is_alive(pid) => {}
            Err(error) => {
                let now = monotonic_ns();
                let reason = format!("{error:#}");
                tracing::warn!(pid, "deep capture failed to start: {reason}");
                self.captures.rest(pid, None, now);
                self.send_deep_capture(pid, DeepCaptureState::Failed, now, reason);
            }
        }
    }

    /// Attaches; returns the hits used before, or `None` if the master's Python is not read.
    fn begin_deep_capture(&mut self, pid: Pid) -> Result<Option<u64>> {
        let master = self.masters.get(&pid);
        let Some(Coverage::Full(interpreter)) = master.map(|master| &master.found.coverage) else {
            return Ok(None);
        };
        let used = self.programs.maps.captures_used();
        // Drops the budget that earlier deep captures left.
        if self.captures.current.is_empty() {
            self.captures.granted = used;
        }
        let granted = self.captures.granted.max(used) + CAPTURE_HITS;
        self.programs.maps.grant_captures(granted)?;
        self.captures.granted = granted;
        self.programs.attach_deep_capture(pid, interpreter)?;
        Ok(Some(used))
    }

    /// The programs report that the budget is used, perhaps that of earlier deep captures.
    pub(super) fn deep_captures_exhausted(&mut self) {
        if self.programs.maps.captures_used() >= self.captures.granted {
            self.captures.exhausted(monotonic_ns());
        }
    }

    /// Does every step that is due.
    pub(super) fn step_deep_captures(&mut self) {
        // The record may have been lost: the ring may have been full.
        if !self.captures.current.is_empty() {
            self.deep_captures_exhausted();
        }
        while let Some(step) = self.captures.due(monotonic_ns()) {
            let now = monotonic_ns();
            match step {
                Step::Announce(pid, reason) => {
                    self.send_deep_capture(pid, DeepCaptureState::Resting, now, reason);
                }
                Step::End(pid, used_before) => {
                    self.programs.release_deep_capture(pid);
                    let hits = self
                        .programs
                        .maps
                        .captures_used()
                        .saturating_sub(used_before);
                    tracing::info!(pid, hits, "deep capture ended");
                    self.captures.rest(pid, Some(hits), now);
                    let reason = format!("captured {hits} frames");
                    self.send_deep_capture(pid, DeepCaptureState::Resting, now, reason);
                }
                Step::Forget(pid) => {
                    self.send_deep_capture(pid, DeepCaptureState::Over, now, String::new());
                }
            }
        }
    }

    /// A master has exited or is not observed any more: ends its deep capture.
    pub(super) fn forget_deep_capture(&mut self, pid: Pid) {
        if self.captures.forget(pid) {
            self.programs.release_deep_capture(pid);
            self.send_deep_capture(pid, DeepCaptureState::Over, monotonic_ns(), String::new());
        }
    }

    fn send_deep_capture(&self, pid: Pid, state: DeepCaptureState, since_ns: u64, reason: String) {
        self.send(Fact::DeepCapture(DeepCapture {
            pid,
            state,
            since_ns,
            reason,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(captures: &mut CaptureSchedule, now: u64) -> Vec<Step> {
        std::iter::from_fn(|| captures.due(now)).take(10).collect()
    }

    #[test]
    fn a_deep_capture_ends_after_its_time_and_then_rests_in_proportion_to_its_hits() {
        let mut captures = CaptureSchedule::new(false);
        assert!(captures.is_due(7));
        captures.began(7, "500 on /a".to_owned(), 60, 1);
        assert!(!captures.is_due(7) && captures.is_due(8));
        assert_eq!(steps(&mut captures, CAPTURE_NS), []);
        let over = 1 + CAPTURE_NS;
        assert_eq!(captures.next_ns(), Some(over));
        let announced = [Step::Announce(7, "500 on /a".to_owned())];
        assert_eq!(steps(&mut captures, over), announced);
        let end = over + NOTICE_NS;
        assert_eq!(steps(&mut captures, end), [Step::End(7, 60)]);
        captures.rest(7, Some(10_000), end);
        assert!(!captures.is_due(7), "it rests");
        // Ten thousand hits of 25 microseconds are one per cent of 25 seconds.
        assert_eq!(steps(&mut captures, end + 25 * SECOND_NS - 1), []);
        assert_eq!(
            steps(&mut captures, end + 25 * SECOND_NS),
            [Step::Forget(7)]
        );
        assert!(captures.is_due(7));
    }

    #[test]
    fn each_further_rest_of_a_master_is_longer() {
        let mut captures = CaptureSchedule::new(false);
        let mut now = 0;
        let mut rests = Vec::new();
        for _ in 0..10 {
            captures.began(7, String::new(), 0, now);
            captures.due(now + CAPTURE_NS);
            captures.due(now + CAPTURE_NS + NOTICE_NS);
            captures.rest(7, Some(1), now);
            let until_ns = captures.next_ns().unwrap();
            rests.push((until_ns - now) / SECOND_NS);
            captures.due(until_ns);
            now = until_ns;
        }
        assert_eq!(rests, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
    }

    #[test]
    fn deep_captures_end_at_once_when_the_budget_is_used() {
        let mut captures = CaptureSchedule::new(false);
        captures.began(7, String::new(), 100, 0);
        captures.began(8, String::new(), 50, 0);
        captures.exhausted(5);
        let ends = [Step::End(7, 100), Step::End(8, 50)];
        assert_eq!(steps(&mut captures, 5), ends);
    }

    #[test]
    fn a_deep_capture_that_failed_to_start_is_not_tried_again_soon() {
        let mut captures = CaptureSchedule::new(false);
        captures.rest(7, None, 0);
        assert_eq!(steps(&mut captures, LONGEST_REST_NS - 1), []);
        assert!(!captures.is_due(7));
        assert_eq!(steps(&mut captures, LONGEST_REST_NS), [Step::Forget(7)]);
    }

    #[test]
    fn the_deep_capture_of_a_master_that_exited_has_no_more_steps() {
        let mut captures = CaptureSchedule::new(false);
        assert!(!captures.forget(7));
        captures.began(7, String::new(), 1, 0);
        assert!(captures.forget(7));
        assert_eq!(steps(&mut captures, u64::MAX), []);
    }

    #[test]
    fn no_deep_capture_begins_when_they_are_disabled() {
        assert!(!CaptureSchedule::new(true).is_due(7));
    }
}
