//! Follows processes: finds Gunicorn masters and their workers, and attaches to their interpreters.
//!
//! ```text
//!            exec, scan           arbiter found
//!  unknown ─────────────> candidate ─────────────> master ── fork ──> worker
//!                             ├── no Python ──> unknown
//!                             └── too long ──> bystander ── fork ──> candidate
//! ```
//!
//! The eBPF programs follow a candidate from its first instruction, before it is known to be a master,
//! so that the first request of its first worker is counted. A Python program that is no master is a
//! bystander: the programs report its forks only, because it may start Gunicorn in a child without an
//! exec, as `multiprocessing` does.

mod aborted;
mod deep_capture;
mod gauges;
pub mod inbox;
mod observe;

use crate::clock::monotonic_ns;
use crate::gunicorn::listeners::Listeners;
use crate::gunicorn::tree::{FoundMaster, Tree};
use crate::probe::Programs;
use deep_capture::CaptureSchedule;
use inbox::Inbox;
use observer_model::event::Pid;
use observer_model::fact::{Dirty, DirtyRole, Fact, TargetLevel};
use probe_ebpf::abi::{Role, Target};
use std::collections::{HashMap, HashSet};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// Events that the watcher reacts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An observed process forked.
    Fork { parent: Pid, child: Pid },
    /// A process began another program.
    Exec { pid: Pid },
    /// An observed process exited.
    Exit { pid: Pid },
    /// Somebody sent SIGABRT to an observed process.
    Aborted { pid: Pid },
    /// A request of a master failed for an unknown reason.
    Unexplained { master: Pid, request: String },
    /// The deep captures used their budget of hits.
    DeepCaptureExhausted,
    /// The names of pods changed.
    PodsChanged,
}

/// What the operator chose.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Observed masters; all of the host if empty.
    pub only: Vec<Pid>,
    /// Whether GIL waits are measured.
    pub gil: bool,
    /// Whether deep captures are disabled.
    pub no_deep_capture: bool,
}

const MS: u64 = 1_000_000;
/// Pause before the first check of a candidate; each further one is longer.
const FIRST_PAUSE_NS: u64 = 10 * MS;
const LONGEST_PAUSE_NS: u64 = 500 * MS;
/// While programs are loaded in a thread, those that are loaded are taken this often.
const TAKE_LATE_EVERY: Duration = Duration::from_millis(20);
/// A Python process that is no master by then is left to the rescan.
const CANDIDATE_NS: u64 = 60_000 * MS;
/// Pause between a fork and the follow-up: the master then knows its new worker.
const FOLLOW_UP_NS: u64 = 20 * MS;
/// Follow-ups of a fork until the master knows its new worker.
const FOLLOW_UPS: u32 = 8;
/// Pause between an exit and the removal of what the process left in the maps.
const SWEEP_NS: u64 = 2_000 * MS;
/// Longest pause between two such removals.
const SWEEP_EVERY_NS: u64 = 10_000 * MS;
/// Pause between scans of all processes, which find what lost events did not show.
const RESCAN_NS: u64 = 30_000 * MS;
/// A rescan comes this soon after dropped notices, however many were dropped.
const RESCAN_AFTER_LOSS_NS: u64 = 1_000 * MS;

/// When a candidate is checked.
struct CandidateChecks {
    at_ns: u64,
    pause_ns: u64,
    until_ns: u64,
    /// Whether its memory was understood once.
    was_read: bool,
    /// Pause between a fork and the check: longer each time it turns out to be no Gunicorn.
    after_fork_ns: u64,
}

/// What to do about a candidate that is no master yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    CheckAgain,
    /// Its memory never matched its interpreter's layout.
    TakeUnread,
    GiveUp,
}

impl CandidateChecks {
    fn first(now: u64) -> Self {
        Self {
            at_ns: now + FIRST_PAUSE_NS,
            pause_ns: FIRST_PAUSE_NS,
            until_ns: now + CANDIDATE_NS,
            was_read: false,
            after_fork_ns: FIRST_PAUSE_NS,
        }
    }

    /// Schedules the next check after one that found no master; `is_read` if its memory was understood.
    fn schedule(&mut self, now: u64, is_read: bool) -> Next {
        self.was_read |= is_read;
        self.pause_ns = (self.pause_ns * 3 / 2).min(LONGEST_PAUSE_NS);
        self.at_ns = now + self.pause_ns;
        match (self.at_ns > self.until_ns, self.was_read) {
            (false, _) => Next::CheckAgain,
            (true, false) => Next::TakeUnread,
            (true, true) => Next::GiveUp,
        }
    }
}

struct Master {
    found: FoundMaster,
    /// Its level, until its workers are targets and it can be reported.
    unreported: Option<TargetLevel>,
    /// Whether its workers decrypt by themselves.
    is_tls: bool,
    listeners: Listeners,
    /// Its dirty pool.
    dirty: Vec<Dirty>,
    /// Forked workers that the master's memory does not list yet.
    expected: HashSet<Pid>,
    follow_ups: u32,
    follow_up_ns: Option<u64>,
}

/// The watcher's state; owns the eBPF programs.
pub struct Watcher {
    programs: Programs,
    captures: CaptureSchedule,
    options: Options,
    facts: Sender<Fact>,
    tree: Tree,
    masters: HashMap<Pid, Master>,
    candidates: HashMap<Pid, CandidateChecks>,
    /// Masters that cannot be observed: logged once.
    refused: HashSet<Pid>,
    /// Workers of masters that exited: they may serve for another moment.
    orphans: HashMap<Pid, Vec<Pid>>,
    gauges: gauges::Due,
    sweep_ns: u64,
    rescan_ns: u64,
}

/// Whether a process with this pid exists, even as a zombie.
fn is_alive(pid: Pid) -> bool {
    let pid = Pid::cast_signed(pid);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}

impl Watcher {
    /// A watcher with the programs attached to the host; it sends what it finds to `facts`.
    #[must_use]
    pub fn new(programs: Programs, facts: Sender<Fact>, tree: Tree, options: Options) -> Self {
        Self {
            programs,
            captures: CaptureSchedule::new(options.no_deep_capture),
            options,
            facts,
            tree,
            masters: HashMap::new(),
            candidates: HashMap::new(),
            refused: HashSet::new(),
            orphans: HashMap::new(),
            gauges: gauges::Due::default(),
            sweep_ns: 0,
            rescan_ns: 0,
        }
    }

    /// Finds masters that already run, and attaches to them.
    pub fn scan(&mut self) {
        let now = monotonic_ns();
        self.rescan_ns = now + RESCAN_NS;
        let scan = match self.tree.scan(self.known()) {
            Ok(scan) => scan,
            Err(error) => {
                tracing::warn!("cannot list processes: {error}; is /proc mounted?");
                return;
            }
        };
        // Finds lost forks and changed settings.
        for pid in self.masters.keys().copied().collect::<Vec<_>>() {
            self.observe_workers(pid);
            if self.has_gone(pid) {
                // Its exit was lost.
                self.programs.maps.remove_target(pid);
                self.forget(pid);
                self.send(Fact::NotGunicorn { pid });
            }
        }
        for found in scan.masters {
            if self.is_wanted(found.master.pid) && !self.masters.contains_key(&found.master.pid) {
                self.candidates.remove(&found.master.pid);
                self.confirm(found);
            }
        }
        for (pid, _) in scan.not_ready {
            if self.options.only.is_empty()
                && !self.refused.contains(&pid)
                && self.role(pid).is_none_or(|role| role == Role::Bystander)
            {
                self.follow(pid, now);
            }
        }
        for pid in scan.bystanders {
            if self.options.only.is_empty() && self.role(pid).is_none() {
                self.stand_by(pid);
            }
        }
        let tree = &self.tree;
        let is_gone = |pid: &Pid| tree.procfs().process(*pid).is_err();
        // They are no targets: the programs do not report their exit.
        let gone: Vec<Pid> = self.refused.iter().copied().filter(is_gone).collect();
        for pid in gone {
            self.refused.remove(&pid);
            self.send(Fact::NotGunicorn { pid });
        }
        for (pid, reason) in scan.refused {
            let is_new = self.is_wanted(pid) && !self.refused.contains(&pid);
            if is_new && !self.not_observed(pid, &reason) {
                self.refuse(pid, &reason);
            }
        }
        self.send_map_entries();
    }

    /// Reacts to notices until every notifier is closed. The programs are detached with it.
    pub fn run(mut self, mut inbox: Inbox) {
        self.programs.start_late();
        loop {
            let now = monotonic_ns();
            let mut wait = Duration::from_nanos(self.next_ns().saturating_sub(now));
            if self.programs.has_late() {
                wait = wait.min(TAKE_LATE_EVERY);
            }
            match inbox.wait(wait) {
                Ok(seen) => self.see(seen),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // Programs are detached one after another. Without targets, those that are
                    // still attached report nothing.
                    self.programs.maps.remove_targets();
                    return;
                }
            }
            while let Some(seen) = inbox.next() {
                self.see(seen);
            }
            self.take_late();
            if inbox.has_lost() {
                self.rescan_ns = self.rescan_ns.min(monotonic_ns() + RESCAN_AFTER_LOSS_NS);
            }
            self.work(inbox.is_active());
        }
    }

    fn is_wanted(&self, pid: Pid) -> bool {
        self.options.only.is_empty() || self.options.only.contains(&pid)
    }

    /// When the next work is due.
    fn next_ns(&self) -> u64 {
        let checks = self.candidates.values().map(|checks| checks.at_ns);
        let follow_ups = self
            .masters
            .values()
            .filter_map(|master| master.follow_up_ns);
        checks
            .chain(follow_ups)
            .chain(self.captures.next_ns())
            .chain((!self.masters.is_empty()).then(|| self.gauges.at_ns()))
            .chain([self.sweep_ns, self.rescan_ns])
            .min()
            .unwrap_or(0)
    }

    fn see(&mut self, seen: Seen) {
        let now = monotonic_ns();
        match seen {
            Seen::Fork { parent, child } => {
                if let Some(master) = self.masters.get_mut(&parent) {
                    master.expected.insert(child);
                    master.follow_ups = FOLLOW_UPS;
                    master.follow_up_ns = Some(now + FOLLOW_UP_NS);
                } else if let Some(master) = self.master_of_dirty(parent) {
                    master.follow_ups = master.follow_ups.max(1);
                    master.follow_up_ns = Some(now + FOLLOW_UP_NS);
                } else if let Some(checks) = self.candidates.get_mut(&parent) {
                    // A master forks its first worker, or a daemon its master.
                    checks.at_ns = checks.at_ns.min(now + checks.after_fork_ns);
                    self.consider(child, now);
                } else if self.role(child) == Some(Role::Candidate) {
                    // Its parent is a bystander, or exited or was given up before this event.
                    self.consider(child, now);
                    if self.role(parent) == Some(Role::Bystander) {
                        // It may also have become a master itself.
                        self.consider(parent, now);
                    }
                }
            }
            Seen::Exec { pid } => {
                self.forget(pid);
                if self.options.only.is_empty() && self.tree.may_be_master(pid) {
                    self.follow(pid, now);
                } else {
                    // It may have become a target after the exec removed it.
                    self.programs.maps.remove_target(pid);
                }
            }
            Seen::Exit { pid } => {
                self.forget(pid);
                self.sweep_ns = self.sweep_ns.min(now + SWEEP_NS);
            }
            Seen::Aborted { pid } => self.aborted(pid),
            Seen::Unexplained { master, request } => self.request_deep_capture(master, request),
            Seen::DeepCaptureExhausted => self.deep_captures_exhausted(),
            Seen::PodsChanged => self.name_pods(),
        }
    }

    /// The master of a dirty arbiter.
    fn master_of_dirty(&mut self, arbiter: Pid) -> Option<&mut Master> {
        let is_it = |it: &Dirty| it.pid == arbiter && it.role == DirtyRole::Arbiter;
        let mut masters = self.masters.values_mut();
        masters.find(|master| master.dirty.iter().any(is_it))
    }

    /// Whether a master has exited; another process may have its pid by now.
    fn has_gone(&self, pid: Pid) -> bool {
        let started_ns = self
            .masters
            .get(&pid)
            .map(|master| master.found.master.started_ns);
        let process = self.tree.procfs().process(pid).ok();
        process.map(|process| process.started_ns) != started_ns
    }

    /// Processes that a scan can skip.
    fn known(&self) -> HashSet<Pid> {
        let workers = self
            .masters
            .values()
            .flat_map(|master| &master.found.workers);
        let pids = workers.map(|worker| worker.pid);
        let dirty = self.masters.values().flat_map(|master| &master.dirty);
        pids.chain(dirty.map(|it| it.pid))
            .chain(self.masters.keys().copied())
            .chain(self.candidates.keys().copied())
            .collect()
    }

    /// Role of a process for the programs.
    fn role(&self, pid: Pid) -> Option<Role> {
        Role::from_raw(self.programs.maps.target(pid)?.role)
    }

    /// Makes a process a candidate.
    fn follow(&mut self, pid: Pid, now: u64) {
        let target = Target::unread(now);
        if let Err(error) = self.programs.maps.set_target(pid, Role::Candidate, target) {
            tracing::warn!("{error:#}");
        }
        self.consider(pid, now);
    }

    /// Makes a Python program a bystander.
    fn stand_by(&mut self, pid: Pid) {
        let target = Target::unread(monotonic_ns());
        if let Err(error) = self.programs.maps.set_target(pid, Role::Bystander, target) {
            tracing::warn!("{error:#}");
        }
    }

    fn consider(&mut self, pid: Pid, now: u64) {
        self.candidates.insert(pid, CandidateChecks::first(now));
    }

    /// Removes a process from candidates and masters.
    fn forget(&mut self, pid: Pid) {
        if self.candidates.remove(&pid).is_some() {
            self.send(Fact::NotGunicorn { pid });
        }
        for master in self.masters.values_mut() {
            master.expected.remove(&pid);
        }
        self.refused.remove(&pid);
        self.forget_deep_capture(pid);
        match self.masters.remove(&pid) {
            Some(master) => {
                let workers = master
                    .found
                    .workers
                    .iter()
                    .map(|worker| worker.pid)
                    .collect();
                self.orphans.insert(pid, workers);
            }
            None => self.programs.release(pid),
        }
    }

    /// Does what is due.
    fn work(&mut self, is_active: bool) {
        let now = monotonic_ns();
        let due: Vec<Pid> = self
            .candidates
            .iter()
            .filter(|(_, checks)| checks.at_ns <= now)
            .map(|(&pid, _)| pid)
            .collect();
        for pid in due {
            self.check(pid, now);
        }
        let due: Vec<Pid> = self
            .masters
            .iter()
            .filter(|(_, master)| master.follow_up_ns.is_some_and(|at| at <= now))
            .map(|(&pid, _)| pid)
            .collect();
        for pid in due {
            self.follow_up(pid, now);
        }
        self.step_deep_captures();
        if self.sweep_ns <= now {
            self.sweep();
            self.send_map_entries();
            self.sweep_ns = now + SWEEP_EVERY_NS;
        }
        if self.rescan_ns <= now {
            self.scan();
        }
        self.send_gauges(is_active, monotonic_ns());
    }

    /// Removes what dead processes left in the maps, and detaches from interpreters that no process
    /// runs any more.
    fn sweep(&mut self) {
        self.programs.maps.sweep(is_alive);
        let maps = &self.programs.maps;
        let have_exited =
            |workers: &Vec<Pid>| workers.iter().all(|&pid| maps.target(pid).is_none());
        let ended: Vec<Pid> = self
            .orphans
            .iter()
            .filter(|(_, workers)| have_exited(workers))
            .map(|(&pid, _)| pid)
            .collect();
        for pid in ended {
            self.orphans.remove(&pid);
            // The process may be a master again after an exec.
            if !self.masters.contains_key(&pid) && !self.candidates.contains_key(&pid) {
                self.programs.release(pid);
            }
        }
    }

    fn send_map_entries(&self) {
        let entries = self.programs.maps.entries();
        self.send(Fact::Maps { entries });
    }

    fn send(&self, fact: Fact) {
        // Waits while the engine is busy. The engine is gone only during shutdown.
        let _ = self.facts.blocking_send(fact);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a candidate until the outcome is known; `is_read` says for each check whether the stack
    /// was understood.
    fn outcome(is_read: impl Fn(usize) -> bool) -> (Next, u64) {
        let mut checks = CandidateChecks::first(0);
        for number in 0..10_000 {
            let now = checks.at_ns;
            match checks.schedule(now, is_read(number)) {
                Next::CheckAgain => {}
                next => return (next, now),
            }
        }
        panic!("checked for ever");
    }

    #[test]
    fn only_a_candidate_whose_stack_was_never_understood_is_taken_unread() {
        let (next, at_ns) = outcome(|_| false);
        assert_eq!(next, Next::TakeUnread);
        assert!((CANDIDATE_NS - LONGEST_PAUSE_NS..=CANDIDATE_NS).contains(&at_ns));
        assert_eq!(outcome(|_| true).0, Next::GiveUp);
        assert_eq!(outcome(|number| number == 0).0, Next::GiveUp);
        assert_eq!(outcome(|number| number > 50).0, Next::GiveUp);
    }
}
