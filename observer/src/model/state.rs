//! The state: who is who, from one input to the next.

use super::app::App;
use super::observer::Observer;
use super::settings::Settings;
use super::worker::{End, Provisional, Worker, is_same_start};
use crate::event::{Event, ExitStatus, Pid, Request};
use crate::fact::{self, Fact};
use crate::input::Input;
use std::collections::{BTreeMap, HashMap};

/// A process that no master claimed in this time is forgotten.
const UNCLAIMED_NS: u64 = 600 * 1_000_000_000;
/// How long the end of a process is remembered: a fact about it may come late.
const TOMBSTONE_NS: u64 = 60 * 1_000_000_000;
/// Ends remembered at most.
const TOMBSTONES: usize = 8192;

/// A process that ended.
#[derive(Clone, Copy, Debug)]
struct Tombstone {
    end: End,
    /// Its master, if it was a worker.
    master: Option<Pid>,
}

/// All that is known.
#[derive(Debug)]
pub struct State {
    pub(super) settings: Settings,
    pub(super) apps: BTreeMap<Pid, App>,
    pub(super) observer: Observer,
    /// The master of every live worker.
    owners: HashMap<Pid, Pid>,
    provisional: BTreeMap<Pid, Provisional>,
    tombstones: BTreeMap<Pid, Tombstone>,
}

impl State {
    /// Nothing known yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            apps: BTreeMap::new(),
            observer: Observer::default(),
            owners: HashMap::new(),
            provisional: BTreeMap::new(),
            tombstones: BTreeMap::new(),
        }
    }

    /// Takes the next input.
    pub fn apply(&mut self, input: &Input) {
        match input {
            Input::Event(event) => {
                self.observer.event(event);
                match event {
                    Event::Request(request) => self.request(request),
                    Event::Fork {
                        time_ns,
                        parent,
                        child,
                    } => self.fork(*time_ns, *parent, *child),
                    Event::Exec {
                        time_ns,
                        pid,
                        was_target: true,
                        ..
                    } => self.exec(*time_ns, *pid),
                    Event::Exec { .. } => {}
                    Event::Exit {
                        time_ns,
                        pid,
                        status,
                    } => self.exit(*time_ns, *pid, Some(*status)),
                }
            }
            Input::Malformed(why) => *self.observer.malformed.entry(why).or_default() += 1,
            Input::Fact { time_ns, fact } => self.fact(*time_ns, fact),
            Input::Tick { now_ns } => self.tick(*now_ns),
        }
    }

    fn fact(&mut self, time_ns: u64, fact: &Fact) {
        match fact {
            Fact::Started(started) => self.observer.started = Some(started.clone()),
            Fact::Master(master) => self.master(master),
            Fact::Worker(worker) => self.worker(time_ns, worker),
            Fact::NotGunicorn { pid } => self.not_gunicorn(time_ns, *pid),
            Fact::Level(level) => {
                self.observer.levels.insert(level.pid, level.clone());
            }
            Fact::Kernel(totals) => self.observer.kernel = totals.clone(),
            Fact::Maps { entries } => self.observer.map_entries.clone_from(entries),
            Fact::Usage(usage) => self.observer.usage = Some(usage.clone()),
        }
    }

    fn request(&mut self, request: &Request) {
        let buried = || {
            self.tombstones
                .get(&request.pid)
                .and_then(|tomb| tomb.master)
        };
        let owner = self.owners.get(&request.pid).copied().or_else(buried);
        let app = owner.and_then(|master| self.apps.get_mut(&master));
        if app.is_some_and(|app| app.request(&self.settings, request)) {
            return;
        }
        let provisional = self.provisional.entry(request.pid).or_default();
        provisional.request(&self.settings, request);
    }

    fn fork(&mut self, time_ns: u64, parent: Pid, child: Pid) {
        // Whoever had this pid has ended, seen or not.
        if self.owners.contains_key(&child) || self.apps.contains_key(&child) {
            self.exit(time_ns, child, None);
        }
        self.tombstones.remove(&child);
        self.drop_provisional(child);
        if self.owners.contains_key(&parent) {
            return; // A worker's own children are not workers.
        }
        if let Some(app) = self
            .apps
            .get_mut(&parent)
            .filter(|app| app.ended_ns.is_none())
        {
            let worker = Worker {
                pid: child,
                started_ns: Some(time_ns),
                ..Worker::default()
            };
            app.adopt(&self.settings, worker, &Default::default());
            self.owners.insert(child, parent);
        } else {
            let new = Provisional {
                parent: Some(parent),
                started_ns: Some(time_ns),
                touched_ns: time_ns,
                ..Provisional::default()
            };
            self.provisional.insert(child, new);
        }
    }

    /// A target began another program: it was a subprocess, or is gone as what it was.
    fn exec(&mut self, time_ns: u64, pid: Pid) {
        let end = End {
            time_ns,
            status: None,
        };
        if let Some(app) = self
            .owners
            .remove(&pid)
            .and_then(|owner| self.apps.get_mut(&owner))
        {
            app.drop_worker(pid, end);
        }
        self.end_app(time_ns, pid);
        self.provisional.remove(&pid);
        self.observer.levels.remove(&pid);
    }

    fn exit(&mut self, time_ns: u64, pid: Pid, status: Option<ExitStatus>) {
        let end = End { time_ns, status };
        let master = self.owners.remove(&pid);
        if let Some(app) = master.and_then(|master| self.apps.get_mut(&master)) {
            app.end_worker(pid, end);
        }
        self.end_app(time_ns, pid);
        if let Some(provisional) = self.provisional.get_mut(&pid) {
            provisional.end = Some(end);
        }
        self.observer.levels.remove(&pid);
        if self.tombstones.len() >= TOMBSTONES {
            self.tombstones.pop_first();
        }
        self.tombstones.insert(pid, Tombstone { end, master });
    }

    fn end_app(&mut self, time_ns: u64, pid: Pid) {
        if let Some(app) = self.apps.get_mut(&pid) {
            app.ended_ns.get_or_insert(time_ns);
        }
    }

    fn master(&mut self, master: &fact::Master) {
        let pid = master.pid;
        let known = self.apps.get_mut(&pid);
        if let Some(app) =
            known.filter(|a| is_same_start(Some(a.master.started_ns), master.started_ns))
        {
            app.master = master.clone();
        } else {
            self.remove_app(pid);
            // A worker cannot be a master: this pid was reused, or executed anew.
            if let Some(owner) = self.owners.remove(&pid)
                && let Some(app) = self.apps.get_mut(&owner)
            {
                app.drop_worker(
                    pid,
                    End {
                        time_ns: master.started_ns,
                        status: None,
                    },
                );
            }
            self.provisional.remove(&pid);
            let mut app = App::new(master.clone());
            let buried = self.tombstones.get(&pid).map(|tomb| tomb.end.time_ns);
            app.ended_ns = buried.filter(|&end_ns| end_ns >= master.started_ns);
            self.apps.insert(pid, app);
        }
        self.claim(pid);
    }

    /// Gives a master the processes that it forked before it was known.
    fn claim(&mut self, master: Pid) {
        let children = self
            .provisional
            .iter()
            .filter(|(_, p)| p.parent == Some(master));
        for child in children.map(|(&pid, _)| pid).collect::<Vec<_>>() {
            self.adopt(master, child);
        }
    }

    fn adopt(&mut self, master: Pid, pid: Pid) {
        let Some(app) = self.apps.get_mut(&master) else {
            return;
        };
        let Some(provisional) = self.provisional.remove(&pid) else {
            return;
        };
        let (worker, ledger) = provisional.into_worker(pid);
        if worker.end.is_none() {
            self.owners.insert(pid, master);
        } else if let Some(tomb) = self.tombstones.get_mut(&pid) {
            tomb.master = Some(master);
        }
        app.adopt(&self.settings, worker, &ledger);
        self.provisional
            .retain(|_, p| p.parent != Some(pid) || p.tally.requests > 0);
    }

    fn worker(&mut self, time_ns: u64, fact: &fact::Worker) {
        let pid = fact.pid;
        if let Some(&owner) = self.owners.get(&pid) {
            let app = self.apps.get_mut(&owner);
            let worker = app.and_then(|app| app.live.get_mut(&pid));
            if let Some(worker) = worker.filter(|w| owner == fact.master_pid && w.is_same(fact)) {
                worker.confirm(fact);
                return;
            }
            // Its pid was reused, and we did not see its end.
            let born_ns = if fact.started_ns == 0 {
                time_ns
            } else {
                fact.started_ns
            };
            self.exit(born_ns, pid, None);
            self.tombstones.remove(&pid);
        }
        // The fact may be older than the end of the worker that we know already.
        let tomb = self.tombstones.get(&pid).copied();
        let tomb = tomb.filter(|tomb| fact.started_ns <= tomb.end.time_ns);
        if let Some(app) = self.apps.get_mut(&fact.master_pid)
            && tomb.is_some()
            && let Some(worker) = app.ended.iter_mut().rev().find(|w| w.pid == pid)
            && worker.is_same(fact)
        {
            worker.confirm(fact);
            return;
        }
        let provisional = self.provisional.entry(pid).or_default();
        provisional.parent = Some(fact.master_pid);
        provisional.fact = Some(fact.clone());
        provisional.touched_ns = provisional.touched_ns.max(time_ns);
        if provisional.end.is_none() {
            provisional.end = tomb.map(|tomb| tomb.end);
        }
        self.adopt(fact.master_pid, pid);
    }

    /// A candidate is none of ours, or a master went without our seeing it. A child
    /// that has children itself is kept: it may be the master that a launcher left behind.
    fn not_gunicorn(&mut self, time_ns: u64, pid: Pid) {
        self.end_app(time_ns, pid);
        self.observer.levels.remove(&pid);
        self.provisional.remove(&pid);
        let children = self
            .provisional
            .iter()
            .filter(|(_, p)| p.parent == Some(pid));
        let is_leaf = |child: &Pid| !self.provisional.values().any(|p| p.parent == Some(*child));
        let leaves: Vec<Pid> = children.map(|(&child, _)| child).filter(is_leaf).collect();
        for leaf in leaves {
            self.provisional.remove(&leaf);
        }
    }

    fn tick(&mut self, now_ns: u64) {
        let before_ns = now_ns.saturating_sub(self.settings.keep_ended_ns);
        let gone = |app: &App| app.ended_ns.is_some_and(|ended| ended < before_ns);
        let apps: Vec<Pid> = self
            .apps
            .iter()
            .filter(|(_, a)| gone(a))
            .map(|(&p, _)| p)
            .collect();
        for pid in apps {
            self.remove_app(pid);
        }
        for app in self.apps.values_mut() {
            app.forget(before_ns);
        }
        let unclaimed_ns = now_ns.saturating_sub(UNCLAIMED_NS);
        let stale = |p: &Provisional| {
            p.touched_ns < unclaimed_ns || p.end.is_some_and(|end| end.time_ns < before_ns)
        };
        let stale: Vec<Pid> = self
            .provisional
            .iter()
            .filter(|(_, p)| stale(p))
            .map(|(&pid, _)| pid)
            .collect();
        for pid in stale {
            self.drop_provisional(pid);
        }
        let buried_ns = now_ns.saturating_sub(TOMBSTONE_NS);
        self.tombstones
            .retain(|_, tomb| tomb.end.time_ns >= buried_ns);
    }

    /// Forgets what no master claimed, but not that it was there.
    fn drop_provisional(&mut self, pid: Pid) {
        if let Some(provisional) = self.provisional.remove(&pid) {
            self.observer.unclaimed_requests += provisional.tally.requests;
        }
    }

    /// Forgets an app. What was counted under its name alone goes on under a live
    /// master of that name, so that those counters do not fall.
    fn remove_app(&mut self, pid: Pid) {
        let Some(mut gone) = self.apps.remove(&pid) else {
            return;
        };
        self.owners.retain(|_, owner| *owner != pid);
        let same_name =
            |app: &&mut App| app.ended_ns.is_none() && app.master.app == gone.master.app;
        if let Some(heir) = self.apps.values_mut().find(same_name) {
            gone.ledger.totals.clear();
            let class = gone.default_class().to_owned();
            heir.ledger.absorb(&self.settings, &gone.ledger, &class);
        }
    }
}
