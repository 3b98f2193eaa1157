//! Follows processes: which are Gunicorn masters, which are their workers, and
//! at which interpreters the programs have to be attached.
//!
//! ```text
//!            exec, scan           Arbiter.run found
//!  unknown ─────────────> candidate ─────────────> master ── fork ──> worker
//!                             ├── no Python ──> unknown
//!                             └── too long ──> bystander ── fork ──> candidate
//! ```
//!
//! A candidate is followed by the kernel from its first instruction on, before
//! it is known to be a master, so that the first request of its first worker is
//! counted. A Python program that is no master is a bystander: the kernel tells
//! only of its forks, for it may start Gunicorn in a child without an exec, as
//! `multiprocessing` does.

mod deep_capture;
mod gauges;
mod observe;

use crate::clock::monotonic_ns;
use crate::gunicorn::tree::{FoundMaster, Tree};
use crate::probe::bpf_maps::Tables;
use crate::probe::generic_io::PlainCalls;
use crate::probe::interpreters::Interpreters;
use observer_model::event::Pid;
use observer_model::fact::Fact;
use probe_ebpf::abi::{NO_LAYOUT, Role, Target};
use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

pub use deep_capture::DeepCaptures;

/// What the watcher has to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An observed process forked.
    Fork { parent: Pid, child: Pid },
    /// A process began another program.
    Exec { pid: Pid },
    /// An observed process ended.
    Exit { pid: Pid },
    /// A request of a master's failed, and it is not known why.
    Unexplained { master: Pid, request: String },
    /// The closer look that is taken has seen as much as it may.
    DeepCaptureExhausted,
    /// Pods have other names than before.
    PodsChanged,
}

const MS: u64 = 1_000_000;
/// A candidate is looked at this soon, and then ever more rarely.
const FIRST_LOOK_NS: u64 = 10 * MS;
const RAREST_LOOK_NS: u64 = 500 * MS;
/// A Python process that has not become a master by then is left to the rescan.
const CANDIDATE_NS: u64 = 60_000 * MS;
/// A fork is followed up this soon: the master then knows its new worker.
const FOLLOW_UP_NS: u64 = 20 * MS;
/// … and again, this often, until it does.
const FOLLOW_UPS: u32 = 8;
/// What dead processes left is removed this long after an end.
const SWEEP_NS: u64 = 2_000 * MS;
/// … and this often in any case.
const SWEEP_EVERY_NS: u64 = 5_000 * MS;
/// The net under exec and fork events.
const RESCAN_NS: u64 = 30_000 * MS;

struct Look {
    at_ns: u64,
    pause_ns: u64,
    until_ns: u64,
    /// Whether its stack was once understood.
    was_read: bool,
    /// How soon it is looked at after a fork: ever later while it turns out to be no Gunicorn.
    after_fork_ns: u64,
}

/// What is to be done about a candidate that is none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    LookAgain,
    /// It never was what its interpreter's layout says.
    TakeUnread,
    GiveUp,
}

impl Look {
    /// A first one soon.
    fn first(now: u64) -> Self {
        Self {
            at_ns: now + FIRST_LOOK_NS,
            pause_ns: FIRST_LOOK_NS,
            until_ns: now + CANDIDATE_NS,
            was_read: false,
            after_fork_ns: FIRST_LOOK_NS,
        }
    }

    /// It was looked at, and its stack was understood or not.
    fn was_not_ready(&mut self, now: u64, is_read: bool) -> Next {
        self.was_read |= is_read;
        self.pause_ns = (self.pause_ns * 3 / 2).min(RAREST_LOOK_NS);
        self.at_ns = now + self.pause_ns;
        match (self.at_ns > self.until_ns, self.was_read) {
            (false, _) => Next::LookAgain,
            (true, false) => Next::TakeUnread,
            (true, true) => Next::GiveUp,
        }
    }
}

struct Master {
    found: FoundMaster,
    /// Forked, but not yet read from the master's memory.
    expected: HashSet<Pid>,
    follow_ups: u32,
    follow_up_ns: Option<u64>,
}

/// The watcher's state; owns the loaded programs.
pub struct Watcher {
    tables: Tables,
    interpreters: Interpreters,
    plain_calls: PlainCalls,
    looks: DeepCaptures,
    /// Whether waits for the GIL are counted.
    gil: bool,
    facts: UnboundedSender<Fact>,
    tree: Tree,
    /// Masters named by the user; all of the host if empty.
    only: Vec<Pid>,
    masters: HashMap<Pid, Master>,
    candidates: HashMap<Pid, Look>,
    /// Masters that cannot be observed: told once.
    refused: HashSet<Pid>,
    /// Workers of masters that ended: they may serve on for a moment.
    orphans: HashMap<Pid, Vec<Pid>>,
    gauges: gauges::Due,
    sweep_ns: u64,
    rescan_ns: u64,
}

/// Whether there is a process with this pid, be it one that waits for its parent.
fn is_alive(pid: Pid) -> bool {
    let pid = Pid::cast_signed(pid);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}

impl Watcher {
    /// A watcher of the whole host, or of the masters `only`.
    #[must_use]
    pub fn new(
        tables: Tables,
        interpreters: Interpreters,
        plain_calls: PlainCalls,
        looks: DeepCaptures,
        facts: UnboundedSender<Fact>,
        tree: Tree,
        only: Vec<Pid>,
    ) -> Self {
        Self {
            tables,
            interpreters,
            plain_calls,
            looks,
            gil: false,
            facts,
            tree,
            only,
            masters: HashMap::new(),
            candidates: HashMap::new(),
            refused: HashSet::new(),
            orphans: HashMap::new(),
            gauges: gauges::Due::default(),
            sweep_ns: 0,
            rescan_ns: 0,
        }
    }

    /// Counts waits for the GIL, too.
    #[must_use]
    pub fn counting_gil(self, gil: bool) -> Self {
        Self { gil, ..self }
    }

    /// Finds and attaches to the masters that run already.
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
        // A lost fork or a changed setting is made up for here.
        for pid in self.masters.keys().copied().collect::<Vec<_>>() {
            self.observe_workers(pid);
            if self.has_gone(pid) {
                // So is a lost end.
                self.tables.remove_target(pid);
                self.forget(pid);
                self.tell(Fact::NotGunicorn { pid });
            }
        }
        for found in scan.masters {
            if self.is_wanted(found.master.pid) && !self.masters.contains_key(&found.master.pid) {
                self.candidates.remove(&found.master.pid);
                self.confirm(found);
            }
        }
        for (pid, _) in scan.not_ready {
            if self.only.is_empty() && self.role(pid).is_none_or(|role| role == Role::Bystander) {
                self.follow(pid, now);
            }
        }
        for pid in scan.bystanders {
            if self.only.is_empty() && self.role(pid).is_none() {
                self.stand_by(pid);
            }
        }
        let tree = &self.tree;
        let is_gone = |pid: &Pid| tree.procfs().process(*pid).is_err();
        // They are no targets: the kernel does not tell of their end.
        let gone: Vec<Pid> = self.refused.iter().copied().filter(is_gone).collect();
        for pid in gone {
            self.refused.remove(&pid);
            self.tell(Fact::NotGunicorn { pid });
        }
        for (pid, reason) in scan.refused {
            if self.is_wanted(pid) {
                self.refuse(pid, reason);
            }
        }
        self.tell_entries();
    }

    /// Follows what is seen until the sender is gone. The programs go with it.
    pub fn run(mut self, seen: &Receiver<Seen>) {
        loop {
            let now = monotonic_ns();
            let wait = Duration::from_nanos(self.next_ns().saturating_sub(now));
            match seen.recv_timeout(wait) {
                Ok(seen) => self.see(seen),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // Not all programs are detached at once: until the last has gone, what
                    // some of them still see is half of what happens.
                    self.tables.remove_targets();
                    return;
                }
            }
            while let Ok(seen) = seen.try_recv() {
                self.see(seen);
            }
            self.work();
        }
    }

    fn is_wanted(&self, pid: Pid) -> bool {
        self.only.is_empty() || self.only.contains(&pid)
    }

    /// When something is to be done next.
    fn next_ns(&self) -> u64 {
        let looks = self.candidates.values().map(|look| look.at_ns);
        let follow_ups = self
            .masters
            .values()
            .filter_map(|master| master.follow_up_ns);
        looks
            .chain(follow_ups)
            .chain(self.looks.next_ns())
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
                } else if let Some(look) = self.candidates.get_mut(&parent) {
                    // A master forks its first worker; or a daemon its master.
                    look.at_ns = look.at_ns.min(now + look.after_fork_ns);
                    self.consider(child, now);
                } else if self.role(child) == Some(Role::Candidate) {
                    // Its parent was given up or ended before we heard of the fork, or stood by.
                    self.consider(child, now);
                    if self.role(parent) == Some(Role::Bystander) {
                        // It may also have become a master itself.
                        self.consider(parent, now);
                    }
                }
            }
            Seen::Exec { pid } => {
                self.forget(pid);
                if self.only.is_empty() && self.tree.may_be_master(pid) {
                    self.follow(pid, now);
                } else {
                    // It may have been made a target just after it ceased to be one.
                    self.tables.remove_target(pid);
                }
            }
            Seen::Exit { pid } => {
                self.forget(pid);
                self.sweep_ns = self.sweep_ns.min(now + SWEEP_NS);
            }
            Seen::Unexplained { master, request } => self.want_closer_look(master, request),
            Seen::DeepCaptureExhausted => self.closer_look_exhausted(),
            Seen::PodsChanged => self.name_pods(),
        }
    }

    /// Whether a master has ended; its pid may be another process's by now.
    fn has_gone(&self, pid: Pid) -> bool {
        let started_ns = self
            .masters
            .get(&pid)
            .map(|master| master.found.master.started_ns);
        let process = self.tree.procfs().process(pid).ok();
        process.map(|process| process.started_ns) != started_ns
    }

    /// Processes that need no other look.
    fn known(&self) -> HashSet<Pid> {
        let workers = self
            .masters
            .values()
            .flat_map(|master| &master.found.workers);
        let pids = workers.map(|worker| worker.pid);
        pids.chain(self.masters.keys().copied())
            .chain(self.candidates.keys().copied())
            .collect()
    }

    /// What the kernel takes a process for.
    fn role(&self, pid: Pid) -> Option<Role> {
        Role::from_raw(self.tables.target(pid)?.role)
    }

    /// Lets the kernel follow a process from now on, whatever it becomes.
    fn follow(&mut self, pid: Pid, now: u64) {
        let target = Target {
            layout: NO_LAYOUT,
            generation: now,
            ..Target::default()
        };
        if let Err(error) = self.tables.set_target(pid, Role::Candidate, target) {
            tracing::warn!("{error:#}");
        }
        self.consider(pid, now);
    }

    /// Lets the kernel tell of what a Python program forks, and of nothing else.
    fn stand_by(&mut self, pid: Pid) {
        let target = Target {
            layout: NO_LAYOUT,
            generation: monotonic_ns(),
            ..Target::default()
        };
        if let Err(error) = self.tables.set_target(pid, Role::Bystander, target) {
            tracing::warn!("{error:#}");
        }
    }

    fn consider(&mut self, pid: Pid, now: u64) {
        self.candidates.insert(pid, Look::first(now));
    }

    /// The process is no candidate and no master any more.
    fn forget(&mut self, pid: Pid) {
        if self.candidates.remove(&pid).is_some() {
            self.tell(Fact::NotGunicorn { pid });
        }
        for master in self.masters.values_mut() {
            master.expected.remove(&pid);
        }
        self.refused.remove(&pid);
        self.forget_look(pid);
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
            None => self.release(pid),
        }
    }

    fn work(&mut self) {
        let now = monotonic_ns();
        let due: Vec<Pid> = self
            .candidates
            .iter()
            .filter(|(_, look)| look.at_ns <= now)
            .map(|(&pid, _)| pid)
            .collect();
        for pid in due {
            self.look(pid, now);
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
        self.look_closer();
        if self.sweep_ns <= now {
            self.sweep();
            self.tell_entries();
            self.sweep_ns = now + SWEEP_EVERY_NS;
        }
        if self.rescan_ns <= now {
            self.scan();
        }
        self.tell_gauges(monotonic_ns());
    }

    /// Removes what the dead left, and lets go of interpreters nobody runs any more.
    fn sweep(&mut self) {
        self.tables.sweep(is_alive);
        let tables = &self.tables;
        let lonely = |workers: &Vec<Pid>| workers.iter().all(|&pid| tables.target(pid).is_none());
        let ended: Vec<Pid> = self
            .orphans
            .iter()
            .filter(|(_, workers)| lonely(workers))
            .map(|(&pid, _)| pid)
            .collect();
        for pid in ended {
            self.orphans.remove(&pid);
            // The same process may be a master again: it began another program.
            if !self.masters.contains_key(&pid) && !self.candidates.contains_key(&pid) {
                self.release(pid);
            }
        }
    }

    /// Nothing that serves is left of a process: no program is attached for it.
    fn release(&mut self, pid: Pid) {
        self.interpreters.release(pid);
        self.plain_calls.release(self.interpreters.programs(), pid);
    }

    fn tell_entries(&self) {
        let entries = self.tables.entries();
        self.tell(Fact::Maps { entries });
    }

    fn tell(&self, fact: Fact) {
        // The engine is gone only while everything ends.
        let _ = self.facts.send(fact);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DeepCaptures at a candidate until the watcher has made up its mind; `is_read` says
    /// of each look whether its stack was understood.
    fn followed(is_read: impl Fn(usize) -> bool) -> (Next, u64) {
        let mut look = Look::first(0);
        for number in 0..10_000 {
            let now = look.at_ns;
            match look.was_not_ready(now, is_read(number)) {
                Next::LookAgain => {}
                next => return (next, now),
            }
        }
        panic!("looked at for ever");
    }

    #[test]
    fn only_what_was_never_understood_is_taken_unread() {
        let (next, at_ns) = followed(|_| false);
        assert_eq!(next, Next::TakeUnread);
        assert!((CANDIDATE_NS - RAREST_LOOK_NS..=CANDIDATE_NS).contains(&at_ns));
        assert_eq!(followed(|_| true).0, Next::GiveUp);
        assert_eq!(followed(|number| number == 0).0, Next::GiveUp);
        assert_eq!(followed(|number| number > 50).0, Next::GiveUp);
    }
}
