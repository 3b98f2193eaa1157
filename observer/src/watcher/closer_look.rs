//! The closer look: while a request of a master failed and nobody knows why, every frame
//! that an exception goes up is told, for a bounded time and number of hits.
//!
//! ```text
//!               nobody else's turn          time over, or hits used up
//!  ── wanted ─> Waiting ───────────> Looking ──────────────────────────> Resting ──> over
//! ```
//!
//! One is taken at a time, and the rest after it is as long as makes all looks of a master
//! cost no more than a hundredth of a processor.

use super::Watcher;
use crate::clock::monotonic_ns;
use crate::discover::tree::Coverage;
use crate::event::Pid;
use crate::fact::{Fact, Look, LookState};
use anyhow::{Result, anyhow};
use std::collections::{BTreeMap, VecDeque};

const SECOND_NS: u64 = 1_000_000_000;
/// How long a look is at most.
const LOOK_NS: u64 = 30 * SECOND_NS;
/// Hits of one look.
const LOOK_HITS: u64 = 50_000;
/// The end is told so long before the programs are detached: nothing that goes unseen is taken
/// for something that did not happen.
const NOTICE_NS: u64 = SECOND_NS / 2;
/// What a hit costs, as `cargo xtask bench errors` measures it, rounded up.
const HIT_NS: u64 = 10_000;
/// A look may take this part of a processor.
const SHARE: u64 = 100;
const SHORTEST_REST_NS: u64 = SECOND_NS;
/// After a look that could not be taken.
const REST_OF_FAILED_NS: u64 = 600 * SECOND_NS;

/// Whose turn it is.
#[derive(Debug, Default)]
pub struct CloserLooks {
    is_off: bool,
    waiting: VecDeque<(Pid, String)>,
    current: Option<Current>,
    /// Until when.
    resting: BTreeMap<Pid, u64>,
}

#[derive(Debug, PartialEq, Eq)]
struct Current {
    pid: Pid,
    reason: String,
    /// When the next step is due.
    at_ns: u64,
    is_ending: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Begin(Pid, String),
    /// To be told that it ends.
    Announce(Pid, String),
    End(Pid),
    /// It has rested.
    Forget(Pid),
}

impl CloserLooks {
    /// None is ever taken if `is_off`.
    #[must_use]
    pub fn new(is_off: bool) -> Self {
        Self {
            is_off,
            ..Self::default()
        }
    }

    /// Whether it is now to come for this master, and was not before.
    fn want(&mut self, pid: Pid, reason: String) -> bool {
        let is_known = self
            .current
            .as_ref()
            .is_some_and(|current| current.pid == pid)
            || self.resting.contains_key(&pid)
            || self.waiting.iter().any(|(waiting, _)| *waiting == pid);
        if self.is_off || is_known {
            return false;
        }
        self.waiting.push_back((pid, reason));
        true
    }

    /// The next thing that is due.
    fn due(&mut self, now: u64) -> Option<Step> {
        if let Some(current) = self.current.as_mut().filter(|current| current.at_ns <= now) {
            let pid = current.pid;
            if current.is_ending {
                self.current = None;
                return Some(Step::End(pid));
            }
            current.is_ending = true;
            current.at_ns = now + NOTICE_NS;
            return Some(Step::Announce(pid, current.reason.clone()));
        }
        let rested = self.resting.iter().find(|(_, until_ns)| **until_ns <= now);
        if let Some(pid) = rested.map(|(&pid, _)| pid) {
            self.resting.remove(&pid);
            return Some(Step::Forget(pid));
        }
        if self.current.is_none() {
            let (pid, reason) = self.waiting.pop_front()?;
            return Some(Step::Begin(pid, reason));
        }
        None
    }

    fn began(&mut self, pid: Pid, reason: String, now: u64) {
        self.current = Some(Current {
            pid,
            reason,
            at_ns: now + LOOK_NS,
            is_ending: false,
        });
    }

    /// It sees no more, and so need not be announced to end.
    fn exhausted(&mut self, now: u64) {
        if let Some(current) = &mut self.current {
            current.is_ending = true;
            current.at_ns = now;
        }
    }

    /// It was taken, and so many hits were looked at; or it could not be taken.
    fn rest(&mut self, pid: Pid, hits: Option<u64>, now: u64) {
        let rest_ns = hits.map_or(REST_OF_FAILED_NS, |hits| hits * HIT_NS * SHARE);
        self.resting
            .insert(pid, now + rest_ns.max(SHORTEST_REST_NS));
    }

    /// A master has gone.
    fn forget(&mut self, pid: Pid) -> bool {
        self.waiting.retain(|(waiting, _)| *waiting != pid);
        self.resting.remove(&pid);
        self.current.take_if(|current| current.pid == pid).is_some()
    }

    /// When something is due.
    pub(super) fn next_ns(&self) -> Option<u64> {
        let current = self.current.as_ref().map(|current| current.at_ns);
        self.resting.values().copied().chain(current).min()
    }
}

impl Watcher {
    /// A request of this master failed, and it is not known why.
    pub(super) fn want_closer_look(&mut self, pid: Pid, reason: String) {
        let is_read = self
            .masters
            .get(&pid)
            .is_some_and(|master| matches!(master.found.coverage, Coverage::Full(_)));
        if is_read && self.looks.want(pid, reason.clone()) {
            self.tell_look(pid, LookState::Waiting, monotonic_ns(), reason);
        }
    }

    /// The kernel says that it looks at no more.
    pub(super) fn closer_look_exhausted(&mut self) {
        self.looks.exhausted(monotonic_ns());
    }

    /// Begins and ends what is due.
    pub(super) fn look_closer(&mut self) {
        while let Some(step) = self.looks.due(monotonic_ns()) {
            match step {
                Step::Begin(pid, reason) => match self.begin_look(pid) {
                    Ok(since_ns) => {
                        tracing::info!(pid, reason, "taking a closer look at exceptions");
                        self.looks.began(pid, reason.clone(), since_ns);
                        self.tell_look(pid, LookState::Looking, since_ns, reason);
                    }
                    Err(error) => {
                        let now = monotonic_ns();
                        let reason = format!("{error:#}");
                        tracing::warn!(pid, "cannot take a closer look at exceptions: {reason}");
                        self.looks.rest(pid, None, now);
                        self.tell_look(pid, LookState::Failed, now, reason);
                    }
                },
                Step::Announce(pid, reason) => {
                    self.tell_look(pid, LookState::Resting, monotonic_ns(), reason);
                }
                Step::End(pid) => self.end_look(pid),
                Step::Forget(pid) => {
                    self.tell_look(pid, LookState::Over, monotonic_ns(), String::new());
                }
            }
        }
    }

    fn begin_look(&mut self, pid: Pid) -> Result<u64> {
        let master = self.masters.get(&pid);
        let Some(Coverage::Full(interpreter)) = master.map(|master| &master.found.coverage) else {
            return Err(anyhow!("process {pid} is no master that is read any more"));
        };
        self.tables.set_look(LOOK_HITS)?;
        self.interpreters.attach_unwound(pid, interpreter)?;
        Ok(monotonic_ns())
    }

    fn end_look(&mut self, pid: Pid) {
        self.interpreters.release_unwound(pid);
        let now = monotonic_ns();
        let hits = LOOK_HITS.saturating_sub(self.tables.look());
        tracing::info!(pid, hits, "took a closer look at exceptions");
        self.looks.rest(pid, Some(hits), now);
        let reason = format!("{hits} hits were looked at");
        self.tell_look(pid, LookState::Resting, now, reason);
    }

    /// A master has gone: it is looked at no more.
    pub(super) fn forget_look(&mut self, pid: Pid) {
        if self.looks.forget(pid) {
            self.interpreters.release_unwound(pid);
        }
    }

    fn tell_look(&self, pid: Pid, state: LookState, since_ns: u64, reason: String) {
        self.tell(Fact::Look(Look {
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

    fn steps(looks: &mut CloserLooks, now: u64) -> Vec<Step> {
        std::iter::from_fn(|| looks.due(now)).take(10).collect()
    }

    #[test]
    fn one_look_is_taken_at_a_time_and_then_rests_for_what_it_cost() {
        let mut looks = CloserLooks::new(false);
        assert!(looks.want(7, "500 on /a".to_owned()));
        assert!(!looks.want(7, "500 on /b".to_owned()));
        assert!(looks.want(8, "no answer".to_owned()));
        assert_eq!(looks.due(1), Some(Step::Begin(7, "500 on /a".to_owned())));
        looks.began(7, "500 on /a".to_owned(), 1);
        assert_eq!(steps(&mut looks, LOOK_NS), []);
        assert!(!looks.want(7, String::new()));
        let over = 1 + LOOK_NS;
        assert_eq!(looks.next_ns(), Some(over));
        let announced = [Step::Announce(7, "500 on /a".to_owned())];
        assert_eq!(steps(&mut looks, over), announced);
        let end = over + NOTICE_NS;
        assert_eq!(looks.due(end), Some(Step::End(7)));
        looks.rest(7, Some(10_000), end);
        assert_eq!(looks.due(end), Some(Step::Begin(8, "no answer".to_owned())));
        looks.began(8, String::new(), end);
        assert!(!looks.want(7, String::new()), "it rests");
        // Ten thousand hits of ten microseconds each are a hundredth of ten seconds.
        assert_eq!(steps(&mut looks, end + 10 * SECOND_NS - 1), []);
        assert_eq!(steps(&mut looks, end + 10 * SECOND_NS), [Step::Forget(7)]);
        assert!(looks.want(7, String::new()));
    }

    #[test]
    fn one_that_is_exhausted_ends_at_once() {
        let mut looks = CloserLooks::new(false);
        looks.want(7, String::new());
        looks.due(0);
        looks.began(7, String::new(), 0);
        looks.exhausted(5);
        assert_eq!(steps(&mut looks, 5), [Step::End(7)]);
    }

    #[test]
    fn a_master_that_has_gone_is_not_looked_at() {
        let mut looks = CloserLooks::new(false);
        looks.want(7, String::new());
        assert!(!looks.forget(7));
        assert_eq!(steps(&mut looks, 0), []);
        looks.want(7, String::new());
        looks.due(0);
        looks.began(7, String::new(), 0);
        assert!(looks.forget(7));
        assert_eq!(steps(&mut looks, u64::MAX), []);
    }

    #[test]
    fn none_is_taken_where_that_is_not_wanted() {
        let mut looks = CloserLooks::new(true);
        assert!(!looks.want(7, String::new()));
        assert_eq!(steps(&mut looks, 0), []);
    }
}
