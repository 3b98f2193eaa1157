//! Applies facts to the state.

use crate::event::{CodeLocation, Frame, Pid, Stack};
use crate::fact;
use crate::fact::{Fact, Level, TargetLevel};
use crate::lifecycle::worker_state::READ_OUTSIDE;
use crate::state::State;
use crate::state::app::App;
use crate::state::worker::{End, Provisional, is_same_start};
use std::collections::{BTreeMap, BTreeSet, HashMap};

impl State {
    pub(crate) fn fact(&mut self, time_ns: u64, fact: &Fact) {
        match fact {
            Fact::Started(started) => self.observer.started = Some(started.clone()),
            Fact::Master(master) => self.master(master),
            Fact::Worker(worker) => self.worker(time_ns, worker),
            Fact::Dirty(dirty) => self.dirty(dirty),
            Fact::NotGunicorn { pid } => self.not_gunicorn(time_ns, *pid),
            // A state has its settings from the start; a replay reads this fact before it makes one.
            Fact::Settings(_) => {}
            Fact::Level(level) => self.level(level),
            Fact::DeepCapture(capture) => self.deep_captures.changed(capture),
            Fact::InFlight(found) => self.in_flight(found),
            Fact::Stacks { pid, stacks } => self.read_stacks(time_ns, *pid, stacks),
            Fact::Gauges { workers } => {
                for gauges in workers {
                    let owner = self.owners.get(&gauges.pid);
                    if let Some(app) = owner.and_then(|owner| self.apps.get_mut(owner)) {
                        app.gauges(time_ns, gauges);
                    }
                }
            }
            Fact::MasterGauges { masters } => {
                for gauges in masters {
                    if let Some(app) = self.apps.get_mut(&gauges.pid) {
                        app.master_gauges(time_ns, gauges);
                    }
                }
            }
            Fact::Listeners { pid, listeners } => {
                if let Some(app) = self.apps.get_mut(pid) {
                    app.listeners.clone_from(listeners);
                }
            }
            Fact::Gil { waits } => self.gil(waits),
            Fact::Kernel(totals) => self.observer.kernel = totals.clone(),
            Fact::Maps { entries } => {
                self.observer.map_entries.clone_from(entries);
                // This fact comes every few seconds, also while nobody asks for a view.
                self.grow_old(time_ns);
            }
            Fact::Usage(usage) => self.observer.usage = Some(usage.clone()),
            Fact::Kubernetes(kubernetes) => self.observer.kubernetes = Some(*kubernetes),
            Fact::AppMetrics { errors } => self.observer.app_metrics_errors.clone_from(errors),
        }
    }

    fn master(&mut self, master: &fact::Master) {
        let pid = master.pid;
        // The clock of start times stands still while the host sleeps, so the start of a live master
        // may change: its name is the safer sign.
        let is_same = |app: &&mut App| {
            let lives = app.ended_ns.is_none() && app.master.app == master.app;
            lives || is_same_start(Some(app.master.started_ns), master.started_ns)
        };
        if let Some(app) = self.apps.get_mut(&pid).filter(is_same) {
            let name = app.name().to_owned();
            app.master = master.clone();
            if app.name() != name {
                self.hand_over(pid, &name);
                self.share_routes_with(pid);
            }
        } else {
            let former = self.remove_app(pid);
            // A worker cannot be a master: the pid was reused, or the process executed another program.
            if let Some(owner) = self.owners.remove(&pid)
                && let Some(app) = self.apps.get_mut(&owner)
            {
                app.drop_worker(
                    &self.settings,
                    pid,
                    End {
                        time_ns: master.started_ns,
                        status: None,
                    },
                );
            }
            self.drop_provisional(pid);
            let mut app = App::new(master.clone());
            let level = self.observer.levels.get(&pid);
            app.observed = level.is_none_or(|level| level.level != Level::None);
            self.apps.insert(pid, app);
            self.share_routes_with(pid);
            let buried = self.tombstones.get(&pid).map(|tomb| tomb.end);
            if let Some(end) = buried.filter(|end| end.time_ns >= master.started_ns) {
                self.master_exited(end.time_ns, pid, end.status);
            }
            if let Some(mut former) = former {
                let name = former.name().to_owned();
                self.bequeath(&name, &mut former);
            }
        }
        self.claim(pid);
    }

    /// Stacks that were read from outside, where none came with the signal.
    fn read_stacks(&mut self, time_ns: u64, pid: Pid, stacks: &[fact::ThreadStack]) {
        self.with_worker_state(pid, |state| {
            if !state.stacks.is_empty() {
                return;
            }
            for stack in stacks {
                let of_thread = |pending: &&fact::Pending| {
                    pending.tid == stack.tid || state.in_flight.count == 1
                };
                let pending = state.in_flight.oldest.iter().find(of_thread);
                let entered_ns = pending.map_or(time_ns, |pending| pending.begun_ns);
                let stack = Stack {
                    time_ns,
                    pid,
                    thread_state: READ_OUTSIDE,
                    is_current: stack.is_main,
                    entered_ns: stack.is_serving.then_some(entered_ns),
                    method: stack.method.clone(),
                    path: stack.path.clone(),
                    path_cut: false,
                    frames: stack.frames.iter().map(location).collect(),
                    is_cut: stack.is_cut,
                };
                state.stack(&stack);
            }
        });
    }

    /// Workers that are not listed have no request in flight. A sample of all workers also updates the
    /// findings.
    fn in_flight(&mut self, found: &fact::InFlight) {
        let by_pid: HashMap<Pid, &fact::WorkerInFlight> =
            found.workers.iter().map(|of| (of.pid, of)).collect();
        let idle = fact::WorkerInFlight {
            connections: found.sees_connections.then(Default::default),
            ..Default::default()
        };
        let sampled: Vec<(Pid, Pid)> = match found.only {
            Some(pid) => self
                .owners
                .get(&pid)
                .map(|&owner| (pid, owner))
                .into_iter()
                .collect(),
            None => self
                .owners
                .iter()
                .map(|(&pid, &owner)| (pid, owner))
                .collect(),
        };
        for (pid, owner) in sampled {
            if let Some(app) = self.apps.get_mut(&owner) {
                let of = by_pid.get(&pid).copied();
                app.in_flight(pid, found.at_ns, of.unwrap_or(&idle));
            }
        }
        if let Some(pid) = found.only
            && let Some(provisional) = self.provisional.get_mut(&pid)
        {
            let of = by_pid.get(&pid).copied();
            provisional.state.in_flight = of.cloned().unwrap_or_default();
        }
        if found.only.is_none() {
            for app in self.apps.values_mut().filter(|app| app.ended_ns.is_none()) {
                app.sample(found.at_ns);
            }
            self.update_findings(found.at_ns);
        }
    }

    /// Adds what the running totals of processes grew by.
    fn gil(&mut self, waits: &BTreeMap<Pid, u64>) {
        for (pid, &waited_ns) in waits {
            let owner = self.owners.get(pid);
            let Some(app) = owner.and_then(|master| self.apps.get_mut(master)) else {
                continue;
            };
            let known = app.live.get(pid).and_then(|it| it.total().gil_wait_ns);
            let more_ns = waited_ns.saturating_sub(known.unwrap_or(0));
            app.count(*pid, |counters| {
                *counters.gil_wait_ns.get_or_insert(0) += more_ns;
            });
        }
    }

    fn level(&mut self, level: &TargetLevel) {
        self.observer.levels.insert(level.pid, level.clone());
        if let Some(app) = self.apps.get_mut(&level.pid) {
            app.observed = level.level != Level::None;
            if !app.observed {
                let name = app.name().to_owned();
                self.hand_over(level.pid, &name);
            }
        }
    }

    /// A master is new, or has a new name: it names routes as other masters of that name do.
    fn share_routes_with(&mut self, pid: Pid) {
        let Some(mut app) = self.apps.remove(&pid) else {
            return;
        };
        for other in self.apps.values() {
            if other.name() == app.name() {
                app.agree(&self.settings, &other.counters.routes);
            }
        }
        self.apps.insert(pid, app);
    }

    /// A master closed a level of routes: other masters of its name do the same.
    pub(crate) fn share_routes_of(&mut self, pid: Pid) {
        let Some(app) = self.apps.remove(&pid) else {
            return;
        };
        for other in self.apps.values_mut() {
            if other.name() == app.name() {
                other.agree(&self.settings, &app.counters.routes);
            }
        }
        self.apps.insert(pid, app);
    }

    /// A master has a new name, or is no longer shown.
    fn hand_over(&mut self, pid: Pid, name: &str) {
        if let Some(mut app) = self.apps.remove(&pid) {
            self.bequeath(name, &mut app);
            self.apps.insert(pid, app);
        }
    }

    /// Gives a master the children that it forked before it was known.
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
        let class = |name: &str| app.counters.class(name);
        let (worker, counters) = provisional.into_worker(pid, class);
        if worker.end.is_none() {
            self.owners.insert(pid, master);
        } else if let Some(tomb) = self.tombstones.get_mut(&pid) {
            tomb.master = Some(master);
        }
        let has_ended = worker.end.is_some();
        app.adopt(&self.settings, worker, &counters);
        if has_ended {
            self.worker_exited(master, pid);
        }
        self.provisional
            .retain(|_, p| p.parent != Some(pid) || p.requests > 0);
    }

    fn worker(&mut self, time_ns: u64, fact: &fact::Worker) {
        let pid = fact.pid;
        if let Some(&owner) = self.owners.get(&pid) {
            if let Some(app) = self.apps.get_mut(&owner)
                && let Some(worker) = app.live.get_mut(&pid)
                && owner == fact.master_pid
                && worker.is_same(fact)
            {
                let is_new = worker.is_watched && !worker.confirmed;
                worker.confirm(fact, |name| app.counters.class(name));
                if is_new {
                    self.worker_started(time_ns, owner, pid);
                }
                return;
            }
            // The pid was reused, and the exit of the process was not seen.
            let born_ns = if fact.started_ns == 0 {
                time_ns
            } else {
                fact.started_ns
            };
            self.exit(born_ns, pid, None);
            self.tombstones.remove(&pid);
        }
        // The fact may be older than the exit of the worker.
        let tomb = self.tombstones.get(&pid).copied();
        let tomb = tomb.filter(|tomb| fact.started_ns <= tomb.end.time_ns);
        if let Some(app) = self.apps.get_mut(&fact.master_pid)
            && tomb.is_some()
            && let Some(worker) = app.ended.iter_mut().rev().find(|w| w.pid == pid)
            && worker.is_same(fact)
        {
            worker.confirm(fact, |name| app.counters.class(name));
            return;
        }
        self.make_room();
        let provisional = self.provisional.entry(pid).or_default();
        provisional.parent = Some(fact.master_pid);
        provisional.fact = Some(fact.clone());
        if provisional.requests == 0 {
            provisional.since_ns = provisional.since_ns.max(time_ns);
        }
        if provisional.end.is_none() {
            provisional.end = tomb.map(|tomb| tomb.end);
        }
        self.adopt(fact.master_pid, pid);
    }

    /// A candidate is no master, or a master exited unseen: its children have no master. The candidate
    /// may still be a worker, if it was forked; and a child with children of its own may be a master
    /// that a launcher left behind.
    fn not_gunicorn(&mut self, time_ns: u64, pid: Pid) {
        self.master_exited(time_ns, pid, None);
        self.observer.levels.remove(&pid);
        self.deep_captures.forget(pid);
        self.effects.forget(pid);
        let parents: BTreeSet<Pid> = self.provisional.values().filter_map(|p| p.parent).collect();
        let nobodys = |(child, p): &(&Pid, &Provisional)| match p.parent {
            None => **child == pid,
            Some(parent) => parent == pid && !parents.contains(child),
        };
        let nobodys = self.provisional.iter().filter(nobodys);
        for child in nobodys.map(|(&child, _)| child).collect::<Vec<_>>() {
            self.drop_provisional(child);
        }
    }
}

fn location(frame: &fact::ThreadFrame) -> CodeLocation {
    CodeLocation {
        frame: Frame {
            file: frame.file.clone(),
            function: frame.function.clone(),
            is_own: frame.is_own,
            ..Frame::default()
        },
        line: frame.line,
    }
}
