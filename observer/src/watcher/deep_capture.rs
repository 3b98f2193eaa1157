//! The closer look: while a request of a master failed and nobody knows why, every frame
//! that an exception goes up is told, for a bounded time and number of hits.
//!
//! ```text
//!            time over, or hits used up
//!  Looking ──────────────────────────────> Resting ──> over
//! ```
//!
//! DeepCaptures at several masters share the hits that each brings along. The rest after a look is as long
//! as makes what all looks at a master see cost no more than a hundredth of a processor, and longer
//! each time.

use super::Watcher;
use crate::clock::monotonic_ns;
use crate::gunicorn::tree::Coverage;
use anyhow::Result;
use observer_model::event::Pid;
use observer_model::fact::{DeepCapture, DeepCaptureState, Fact};
use std::collections::BTreeMap;

const SECOND_NS: u64 = 1_000_000_000;
/// How long a look is at most.
const LOOK_NS: u64 = 30 * SECOND_NS;
/// Hits of one look.
const LOOK_HITS: u64 = 50_000;
/// The end is told so long before the programs are detached: nothing that goes unseen is taken
/// for something that did not happen.
const NOTICE_NS: u64 = SECOND_NS / 2;
/// What a hit costs: the program's time, as `cargo xtask bench errors` measures it, and that of a
/// trap that the kernel single-steps (`cargo xtask bench placement`), rounded up.
const HIT_NS: u64 = 25_000;
/// A look may take this part of a processor.
const SHARE: u64 = 100;
/// The first rest of a master is no shorter, and each further one twice as long, up to the longest:
/// the kernel's traps are felt by every process of that interpreter, whoever's it is.
const FIRST_REST_NS: u64 = 5 * SECOND_NS;
/// After a look that could not be taken, too.
const LONGEST_REST_NS: u64 = 600 * SECOND_NS;

/// At which masters a look is taken, and which rest.
#[derive(Debug, Default)]
pub struct DeepCaptures {
    is_off: bool,
    /// Hits that the kernel was ever let have.
    granted: u64,
    current: BTreeMap<Pid, Current>,
    /// Until when.
    resting: BTreeMap<Pid, u64>,
    /// How many looks were taken at a master lately, and until when it rested last.
    taken: BTreeMap<Pid, (u32, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Current {
    reason: String,
    /// Hits that were used when it began.
    used_before: u64,
    /// When the next step is due.
    at_ns: u64,
    is_ending: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// To be told that it ends.
    Announce(Pid, String),
    /// So many hits were used when it began.
    End(Pid, u64),
    /// It has rested.
    Forget(Pid),
}

impl DeepCaptures {
    /// None is ever taken if `is_off`.
    #[must_use]
    pub fn new(is_off: bool) -> Self {
        Self {
            is_off,
            ..Self::default()
        }
    }

    /// Whether one is to be taken at this master now.
    fn is_due(&self, pid: Pid) -> bool {
        let is_known = self.current.contains_key(&pid) || self.resting.contains_key(&pid);
        !self.is_off && !is_known
    }

    /// The next thing that is due.
    fn due(&mut self, now: u64) -> Option<Step> {
        let mut current = self.current.iter_mut();
        if let Some((&pid, look)) = current.find(|(_, look)| look.at_ns <= now) {
            if look.is_ending {
                let used_before = look.used_before;
                self.current.remove(&pid);
                return Some(Step::End(pid, used_before));
            }
            look.is_ending = true;
            look.at_ns = now + NOTICE_NS;
            return Some(Step::Announce(pid, look.reason.clone()));
        }
        let rested = self.resting.iter().find(|(_, until_ns)| **until_ns <= now);
        let pid = rested.map(|(&pid, _)| pid)?;
        self.resting.remove(&pid);
        Some(Step::Forget(pid))
    }

    fn began(&mut self, pid: Pid, reason: String, used_before: u64, now: u64) {
        let look = Current {
            reason,
            used_before,
            at_ns: now + LOOK_NS,
            is_ending: false,
        };
        self.current.insert(pid, look);
    }

    /// They see no more, and so need not be announced to end.
    fn exhausted(&mut self, now: u64) {
        for look in self.current.values_mut() {
            look.is_ending = true;
            look.at_ns = now;
        }
    }

    /// It was taken, and so many hits were looked at; or it could not be taken.
    fn rest(&mut self, pid: Pid, hits: Option<u64>, now: u64) {
        let (taken, rested_ns) = self.taken.entry(pid).or_default();
        if now > rested_ns.saturating_add(LONGEST_REST_NS + LOOK_NS) {
            *taken = 0;
        }
        let least_ns = FIRST_REST_NS.saturating_mul(1 << (*taken).min(16));
        *taken += 1;
        let rest_ns = hits.map_or(LONGEST_REST_NS, |hits| hits * HIT_NS * SHARE);
        let until_ns = now + rest_ns.max(least_ns.min(LONGEST_REST_NS));
        *rested_ns = until_ns;
        self.resting.insert(pid, until_ns);
    }

    /// A master has gone. Whether a look was taken at it.
    fn forget(&mut self, pid: Pid) -> bool {
        self.resting.remove(&pid);
        self.taken.remove(&pid);
        self.current.remove(&pid).is_some()
    }

    /// When something is due.
    pub(super) fn next_ns(&self) -> Option<u64> {
        let current = self.current.values().map(|look| look.at_ns);
        self.resting.values().copied().chain(current).min()
    }
}

impl Watcher {
    /// A request of this master failed, and it is not known why.
    pub(super) fn want_closer_look(&mut self, pid: Pid, reason: String) {
        if !self.looks.is_due(pid) {
            return;
        }
        match self.begin_look(pid) {
            Ok(Some(used)) => {
                tracing::info!(pid, reason, "taking a closer look at exceptions");
                let now = monotonic_ns();
                self.looks.began(pid, reason.clone(), used, now);
                self.tell_look(pid, DeepCaptureState::Looking, now, reason);
            }
            // It is not read any more.
            Ok(None) => {}
            Err(error) => {
                let now = monotonic_ns();
                let reason = format!("{error:#}");
                tracing::warn!(pid, "cannot take a closer look at exceptions: {reason}");
                self.looks.rest(pid, None, now);
                self.tell_look(pid, DeepCaptureState::Failed, now, reason);
            }
        }
    }

    /// How many hits were used before it.
    fn begin_look(&mut self, pid: Pid) -> Result<Option<u64>> {
        let master = self.masters.get(&pid);
        let Some(Coverage::Full(interpreter)) = master.map(|master| &master.found.coverage) else {
            return Ok(None);
        };
        let used = self.tables.look_used();
        // What the last one left over is not used.
        if self.looks.current.is_empty() {
            self.looks.granted = used;
        }
        let granted = self.looks.granted.max(used) + LOOK_HITS;
        self.tables.grant_look(granted)?;
        self.looks.granted = granted;
        self.interpreters.attach_unwound(pid, interpreter)?;
        Ok(Some(used))
    }

    /// The kernel says that it looks at no more; that may be of looks before those of now.
    pub(super) fn closer_look_exhausted(&mut self) {
        if self.tables.look_used() >= self.looks.granted {
            self.looks.exhausted(monotonic_ns());
        }
    }

    /// Ends what is over.
    pub(super) fn look_closer(&mut self) {
        // That may have found no room in the ring.
        if !self.looks.current.is_empty() {
            self.closer_look_exhausted();
        }
        while let Some(step) = self.looks.due(monotonic_ns()) {
            let now = monotonic_ns();
            match step {
                Step::Announce(pid, reason) => {
                    self.tell_look(pid, DeepCaptureState::Resting, now, reason);
                }
                Step::End(pid, used_before) => {
                    self.interpreters.release_unwound(pid);
                    let hits = self.tables.look_used().saturating_sub(used_before);
                    tracing::info!(pid, hits, "took a closer look at exceptions");
                    self.looks.rest(pid, Some(hits), now);
                    let reason = format!("{hits} hits were looked at");
                    self.tell_look(pid, DeepCaptureState::Resting, now, reason);
                }
                Step::Forget(pid) => {
                    self.tell_look(pid, DeepCaptureState::Over, now, String::new());
                }
            }
        }
    }

    /// A master has gone, or is observed no more: it is looked at no more.
    pub(super) fn forget_look(&mut self, pid: Pid) {
        if self.looks.forget(pid) {
            self.interpreters.release_unwound(pid);
            self.tell_look(pid, DeepCaptureState::Over, monotonic_ns(), String::new());
        }
    }

    fn tell_look(&self, pid: Pid, state: DeepCaptureState, since_ns: u64, reason: String) {
        self.tell(Fact::DeepCapture(DeepCapture {
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

    fn steps(looks: &mut DeepCaptures, now: u64) -> Vec<Step> {
        std::iter::from_fn(|| looks.due(now)).take(10).collect()
    }

    #[test]
    fn a_look_ends_after_its_time_and_then_rests_for_what_it_cost() {
        let mut looks = DeepCaptures::new(false);
        assert!(looks.is_due(7));
        looks.began(7, "500 on /a".to_owned(), 60, 1);
        assert!(!looks.is_due(7) && looks.is_due(8));
        assert_eq!(steps(&mut looks, LOOK_NS), []);
        let over = 1 + LOOK_NS;
        assert_eq!(looks.next_ns(), Some(over));
        let announced = [Step::Announce(7, "500 on /a".to_owned())];
        assert_eq!(steps(&mut looks, over), announced);
        let end = over + NOTICE_NS;
        assert_eq!(steps(&mut looks, end), [Step::End(7, 60)]);
        looks.rest(7, Some(10_000), end);
        assert!(!looks.is_due(7), "it rests");
        // Ten thousand hits of 25 microseconds are a hundredth of 25 seconds.
        assert_eq!(steps(&mut looks, end + 25 * SECOND_NS - 1), []);
        assert_eq!(steps(&mut looks, end + 25 * SECOND_NS), [Step::Forget(7)]);
        assert!(looks.is_due(7));
    }

    #[test]
    fn each_further_rest_of_a_master_is_longer() {
        let mut looks = DeepCaptures::new(false);
        let mut now = 0;
        let mut rests = Vec::new();
        for _ in 0..10 {
            looks.began(7, String::new(), 0, now);
            looks.due(now + LOOK_NS);
            looks.due(now + LOOK_NS + NOTICE_NS);
            looks.rest(7, Some(1), now);
            let until_ns = looks.next_ns().unwrap();
            rests.push((until_ns - now) / SECOND_NS);
            looks.due(until_ns);
            now = until_ns;
        }
        assert_eq!(rests, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
    }

    #[test]
    fn looks_that_have_no_hits_left_end_at_once() {
        let mut looks = DeepCaptures::new(false);
        looks.began(7, String::new(), 100, 0);
        looks.began(8, String::new(), 50, 0);
        looks.exhausted(5);
        let ends = [Step::End(7, 100), Step::End(8, 50)];
        assert_eq!(steps(&mut looks, 5), ends);
    }

    #[test]
    fn one_that_cannot_be_taken_is_not_tried_again_soon() {
        let mut looks = DeepCaptures::new(false);
        looks.rest(7, None, 0);
        assert_eq!(steps(&mut looks, LONGEST_REST_NS - 1), []);
        assert!(!looks.is_due(7));
        assert_eq!(steps(&mut looks, LONGEST_REST_NS), [Step::Forget(7)]);
    }

    #[test]
    fn a_master_that_has_gone_is_not_looked_at() {
        let mut looks = DeepCaptures::new(false);
        assert!(!looks.forget(7));
        looks.began(7, String::new(), 1, 0);
        assert!(looks.forget(7));
        assert_eq!(steps(&mut looks, u64::MAX), []);
    }

    #[test]
    fn none_is_taken_where_that_is_not_wanted() {
        assert!(!DeepCaptures::new(true).is_due(7));
    }
}
