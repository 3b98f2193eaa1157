//! The state: who is who, from one input to the next. What userspace found out
//! is taken in by `facts`; what is told of workers comes from `news`.

use super::app::App;
use super::cause::{Cause, Verdict};
use super::exceptions::Exceptions;
use super::finding::{Finding, Kind};
use super::finished::Finished;
use super::happened::Events;
use super::life::{Life, Sent};
use super::look::Looks;
use super::observer::Observer;
use super::settings::Settings;
use super::worker::{End, Provisional, Worker};
use crate::event::{Event, ExitStatus, Pid, Request, TimedBy};
use crate::input::Input;
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, HashMap};

/// A process that no master claimed in this time is forgotten.
const UNCLAIMED_NS: u64 = 600 * 1_000_000_000;
/// How long the end of a process is remembered: a fact about it may come late.
const TOMBSTONE_NS: u64 = 60 * 1_000_000_000;
/// Such processes at most: as many as the kernel's table of observed ones has room for.
const MAX_PROVISIONAL: usize = 8192;
/// Ends remembered at most.
const TOMBSTONES: usize = 8192;

/// A process that ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tombstone {
    pub end: End,
    /// Its master, if it was a worker.
    pub master: Option<Pid>,
}

/// All that is known.
#[derive(Debug)]
pub struct State {
    pub(super) settings: Settings,
    pub(super) apps: BTreeMap<Pid, App>,
    pub(super) observer: Observer,
    /// The master of every live worker.
    pub(super) owners: HashMap<Pid, Pid, FixedState>,
    pub(super) provisional: BTreeMap<Pid, Provisional>,
    pub(super) tombstones: BTreeMap<Pid, Tombstone>,
    /// Of requests that are not finished.
    pub(super) exceptions: Exceptions,
    pub(super) looks: Looks,
    /// Requests finished since they were last taken, if anyone takes them.
    finished: Option<Vec<Finished>>,
    pub(super) events: Events,
    /// What is found, since when, and by what; of a master, and of a worker or all.
    pub(super) findings: BTreeMap<(Pid, Kind, Option<Pid>), (u64, String)>,
    /// Of them those that nobody took yet, if anyone does.
    pub(super) new_findings: Option<Vec<Finding>>,
}

impl State {
    /// Nothing known yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            apps: BTreeMap::new(),
            observer: Observer::default(),
            owners: HashMap::default(),
            provisional: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            exceptions: Exceptions::default(),
            looks: Looks::default(),
            finished: None,
            events: Events::default(),
            findings: BTreeMap::new(),
            new_findings: None,
        }
    }

    /// Keeps each finished request from now on, until it is taken.
    pub fn keep_finished(&mut self) {
        self.finished.get_or_insert_default();
    }

    /// The requests that finished since this was last asked.
    pub fn take_finished(&mut self) -> Vec<Finished> {
        self.finished
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Masters with requests that failed for an unknown reason since this was last asked, and one
    /// of those requests: they need a closer look.
    pub fn take_unexplained(&mut self) -> BTreeMap<Pid, String> {
        self.looks.take_wanted()
    }

    /// Takes the next input.
    pub fn apply(&mut self, input: &Input) {
        match input {
            Input::Event(event) => {
                self.observer.event(event);
                match event {
                    Event::Request(request) => self.request(request),
                    Event::Exception(exception) => self.exceptions.handled(exception),
                    Event::Unwound(unwound) => self.exceptions.unwound(unwound),
                    Event::Gc { pid, pause_ns, .. } => self.collection(*pid, *pause_ns),
                    Event::LookExhausted { .. } => self.looks.exhausted(),
                    Event::Signal {
                        time_ns,
                        pid,
                        signal,
                        sender,
                    } => self.signal(
                        *pid,
                        Sent {
                            time_ns: *time_ns,
                            signal: *signal,
                            sender: *sender,
                        },
                    ),
                    Event::Oom { pid, .. } => self.with_life(*pid, |life| life.oom = true),
                    Event::Stack(stack) => self.with_life(stack.pid, |life| life.stack(stack)),
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
            Input::Tick { now_ns } => self.grow_old(*now_ns),
        }
    }

    fn request(&mut self, request: &Request) {
        let buried = || {
            self.tombstones
                .get(&request.pid)
                .and_then(|tomb| tomb.master)
        };
        let owner = self.owners.get(&request.pid).copied().or_else(buried);
        let was_watched = owner.is_some_and(|master| self.looks.covers(master, request));
        let verdict = self.exceptions.verdict(request, was_watched);
        if matches!(request.status, Some(500..)) {
            self.looks.check(verdict.closer_look_agrees);
        }
        let app = owner.and_then(|master| self.apps.get_mut(&master));
        let counted = app.and_then(|app| {
            let outcome = app.request(&self.settings, request, &verdict)?;
            Some((app, outcome))
        });
        if let Some((app, outcome)) = counted {
            let route = app.ledger.routes.name(outcome.route);
            if app.observed && needs_a_look(request, &verdict) {
                let status = request
                    .status
                    .map_or("no answer".to_owned(), |s| s.to_string());
                let why = || format!("{status} on {route}");
                self.looks.want(app.master.pid, why);
            }
            if let Some(finished) = &mut self.finished {
                let wall_offset_ns = self.observer.wall_offset_ns();
                let of = Finished {
                    app: app.name().to_owned(),
                    master_pid: Some(app.master.pid),
                    worker_class: app.class_of(request.pid),
                    route: route.to_owned(),
                    ..Finished::new(request, verdict, &outcome, wall_offset_ns)
                };
                finished.push(of);
            }
            return;
        }
        self.make_room();
        let provisional = self.provisional.entry(request.pid).or_default();
        let outcome = provisional.request(&self.settings, request, &verdict);
        if let Some(finished) = &mut self.finished {
            let wall_offset_ns = self.observer.wall_offset_ns();
            let route = provisional.ledger.routes.name(outcome.route);
            finished.push(Finished {
                route: route.to_owned(),
                ..Finished::new(request, verdict, &outcome, wall_offset_ns)
            });
        }
    }

    fn signal(&mut self, pid: Pid, sent: Sent) {
        if let Some(app) = self.apps.get_mut(&pid) {
            app.signal(sent);
        }
        self.with_life(pid, |life| life.signal(sent));
    }

    /// Something happened to what is a worker, or may be one.
    fn with_life(&mut self, pid: Pid, change: impl FnOnce(&mut Life)) {
        let app = self
            .owners
            .get(&pid)
            .and_then(|owner| self.apps.get_mut(owner));
        if let Some(worker) = app.and_then(|app| app.live.get_mut(&pid)) {
            change(&mut worker.life);
        } else if let Some(provisional) = self.provisional.get_mut(&pid) {
            change(&mut provisional.life);
        }
    }

    /// A process collected garbage. Of one that nobody forked, and that no master told of, nobody
    /// asks.
    fn collection(&mut self, pid: Pid, pause_ns: u64) {
        let buried = || self.tombstones.get(&pid).and_then(|tomb| tomb.master);
        let owner = self.owners.get(&pid).copied().or_else(buried);
        if let Some(app) = owner.and_then(|master| self.apps.get_mut(&master)) {
            app.count(pid, |tally| tally.gc_pause.observe(pause_ns));
        } else if let Some(provisional) = self.provisional.get_mut(&pid) {
            provisional.count(|tally| tally.gc_pause.observe(pause_ns));
        }
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
                is_watched: true,
                ..Worker::default()
            };
            app.adopt(&self.settings, worker, &Default::default());
            self.owners.insert(child, parent);
        } else {
            self.make_room();
            let new = Provisional {
                parent: Some(parent),
                started_ns: Some(time_ns),
                since_ns: time_ns,
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
            app.drop_worker(&self.settings, pid, end);
        }
        self.end_app(time_ns, pid);
        self.drop_provisional(pid);
        self.observer.levels.remove(&pid);
        self.looks.forget(pid);
        self.exceptions.forget(pid);
    }

    pub(super) fn exit(&mut self, time_ns: u64, pid: Pid, status: Option<ExitStatus>) {
        let end = End { time_ns, status };
        let master = self.owners.remove(&pid);
        if let Some(app) = master.and_then(|master| self.apps.get_mut(&master)) {
            app.end_worker(&self.settings, pid, end);
        }
        if let Some(master) = master {
            self.ended(master, pid);
        }
        self.end_app(time_ns, pid);
        if let Some(provisional) = self.provisional.get_mut(&pid) {
            provisional.end = Some(end);
        }
        self.observer.levels.remove(&pid);
        self.looks.forget(pid);
        self.exceptions.forget(pid);
        if self.tombstones.len() >= TOMBSTONES {
            self.tombstones.pop_first();
        }
        self.tombstones.insert(pid, Tombstone { end, master });
    }

    pub(super) fn end_app(&mut self, time_ns: u64, pid: Pid) {
        if let Some(app) = self.apps.get_mut(&pid) {
            app.ended_ns.get_or_insert(time_ns);
        }
    }

    /// Forgets what is over for long enough.
    pub(super) fn grow_old(&mut self, now_ns: u64) {
        let before_ns = now_ns.saturating_sub(self.settings.keep_ended_ns);
        let gone = |app: &App| app.ended_ns.is_some_and(|ended| ended < before_ns);
        let apps: Vec<Pid> = self
            .apps
            .iter()
            .filter(|(_, a)| gone(a))
            .map(|(&p, _)| p)
            .collect();
        for pid in apps {
            if let Some(mut gone) = self.remove_app(pid) {
                let name = gone.name().to_owned();
                self.bequeath(&name, &mut gone);
            }
        }
        for app in self.apps.values_mut() {
            app.forget(before_ns);
        }
        let unclaimed_ns = now_ns.saturating_sub(UNCLAIMED_NS);
        let stale = |p: &Provisional| {
            p.since_ns < unclaimed_ns || p.end.is_some_and(|end| end.time_ns < before_ns)
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

    /// Sees to it that there is room for one more process that no master claimed: of too many, an
    /// eighth is forgotten, the ended and the idle before others, and the oldest first.
    pub(super) fn make_room(&mut self) {
        if self.provisional.len() < MAX_PROVISIONAL {
            return;
        }
        let of =
            |(&pid, p): (&Pid, &Provisional)| ((p.requests > 0, p.end.is_none(), p.since_ns), pid);
        let mut all: Vec<_> = self.provisional.iter().map(of).collect();
        all.sort_unstable();
        for (_, pid) in all.into_iter().take(MAX_PROVISIONAL / 8) {
            self.drop_provisional(pid);
        }
    }

    /// Forgets what no master claimed, but not that it was there.
    pub(super) fn drop_provisional(&mut self, pid: Pid) {
        if let Some(provisional) = self.provisional.remove(&pid) {
            self.observer.unclaimed_requests += provisional.requests - provisional.by_socket;
        }
    }

    /// Takes an app out; its workers are nobody's.
    pub(super) fn remove_app(&mut self, pid: Pid) -> Option<App> {
        let gone = self.apps.remove(&pid)?;
        self.owners.retain(|_, owner| *owner != pid);
        Some(gone)
    }

    /// What was counted under `name` alone goes on under another master of that name
    /// that is shown, so that those counters do not fall: a live one, else the one
    /// that ended last. Without one it stays where it is.
    pub(super) fn bequeath(&mut self, name: &str, from: &mut App) {
        let heirs = self.apps.values_mut();
        let heir = heirs
            .filter(|app| app.observed && app.name() == name)
            .max_by_key(|app| app.ended_ns.unwrap_or(u64::MAX));
        if let Some(heir) = heir {
            let class = from.default_class().to_owned();
            heir.ledger
                .absorb_shared(&self.settings, &from.ledger, &class);
            from.ledger.http.clear();
            from.ledger.http_errors.clear();
            from.ledger.phases.clear();
        }
    }
}

/// Whether a request failed, and only a closer look could tell why.
fn needs_a_look(request: &Request, verdict: &Verdict) -> bool {
    let is_read = request.timed_by == TimedBy::Python && request.entered_ns.is_some();
    let is_gone = request.client_gone || verdict.client_gone;
    let failed = matches!(request.status, Some(500..)) || request.was_cut;
    is_read && failed && !is_gone && verdict.cause == Cause::Unknown
}
