//! The state of all masters and workers. It changes by inputs and hands out effects.

pub mod app;
mod apply_fact;
pub mod busy;
pub(crate) mod dirty;
mod findings;
pub(crate) mod master_exits;
pub(crate) mod recursion_misses;
pub mod self_metrics;
mod slots;
pub mod worker;
mod worker_events;

use self::dirty::DirtyProcesses;
use self::findings::Active;
use self::master_exits::MasterExits;
use crate::effect::{Effect, Effects};
use crate::errors::cause::{Cause, ErrorAnalysis};
use crate::errors::deep_capture::DeepCaptures;
use crate::errors::fatal_exit::FatalExit;
use crate::errors::held::Held;
use crate::errors::pending::Exceptions;
use crate::event::{Event, ExitStatus, LostFrom, Pid, Request, TimedBy};
use crate::input::Input;
use crate::lifecycle::worker_event::RecentWorkerEvents;
use crate::lifecycle::worker_state::{Sent, WorkerState};
use crate::recent::finished_request::FinishedRequest;
use crate::settings::Settings;
use crate::state::app::App;
use crate::state::self_metrics::SelfMetrics;
use crate::state::worker::{End, Provisional, Worker};
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, HashMap};

/// A process that no master claims within this time is forgotten.
const UNCLAIMED_NS: u64 = 600 * 1_000_000_000;
/// How long the exit of a process is remembered: a fact about the process may arrive late.
const TOMBSTONE_NS: u64 = 60 * 1_000_000_000;
/// Most processes without a master: as many as the kernel's map of observed processes has room for.
const MAX_PROVISIONAL: usize = 8192;
/// The pid of no process.
const NOBODY: Pid = 0;
/// Most exits that are remembered.
const TOMBSTONES: usize = 8192;

/// A process that exited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tombstone {
    pub end: End,
    /// Its master, if it was a worker.
    pub master: Option<Pid>,
}

/// Everything that the observer knows.
#[derive(Debug)]
pub struct State {
    pub(crate) settings: Settings,
    pub(crate) apps: BTreeMap<Pid, App>,
    pub(crate) observer: SelfMetrics,
    /// The master of every live worker.
    pub(crate) owners: HashMap<Pid, Pid, FixedState>,
    /// Processes of dirty pools.
    pub(crate) dirty: DirtyProcesses,
    pub(crate) provisional: BTreeMap<Pid, Provisional>,
    pub(crate) tombstones: BTreeMap<Pid, Tombstone>,
    /// Exceptions of requests in flight.
    pub(crate) exceptions: Exceptions,
    /// Failed requests that wait for the exception behind them.
    pub(crate) held: Held,
    /// Requests whose workers exited: they are counted when it is known why.
    pub(crate) unfinished: BTreeMap<Pid, Vec<Request>>,
    pub(crate) deep_captures: DeepCaptures,
    pub(crate) worker_events: RecentWorkerEvents,
    pub(crate) master_exits: MasterExits,
    pub(crate) findings: Active,
    pub(crate) effects: Effects,
}

impl State {
    /// An empty state.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            apps: BTreeMap::new(),
            observer: SelfMetrics::default(),
            owners: HashMap::default(),
            dirty: DirtyProcesses::new(),
            provisional: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            exceptions: Exceptions::default(),
            held: Held::default(),
            unfinished: BTreeMap::new(),
            deep_captures: DeepCaptures::default(),
            worker_events: RecentWorkerEvents::default(),
            master_exits: MasterExits::default(),
            findings: Active::default(),
            effects: Effects::default(),
        }
    }

    /// From now on, hands out an [`Effect::Request`] for each finished request.
    pub fn report_requests(&mut self) {
        self.effects.report_requests = true;
    }

    /// Hands out the next effect, the oldest first. After each input, or batch of inputs, the owner
    /// polls until there is none.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.poll()
    }

    /// Takes the next input.
    pub fn apply(&mut self, input: &Input) {
        for request in self.held.due(input.time_ns()) {
            self.analysed_request(&request);
        }
        match input {
            Input::Event(event) => {
                self.observer.event(event);
                match event {
                    Event::Request(request) => self.any_request(self.owner(request.pid), request),
                    Event::Exception(exception) if exception.request == 0 => {
                        self.with_worker_state(exception.pid, |state| {
                            state.failed_before_requests(exception);
                        });
                    }
                    Event::Exception(exception) => {
                        self.exceptions.handled(exception);
                        if let Some(request) = self.held.of(exception) {
                            self.analysed_request(&request);
                        }
                    }
                    Event::CapturedFrame(captured_frame) => {
                        self.exceptions.captured_frame(captured_frame);
                    }
                    Event::Gc { pid, pause_ns, .. } => self.gc(*pid, *pause_ns),
                    Event::Lost {
                        pid, from, count, ..
                    } => self.lost(*pid, *from, *count),
                    Event::DeepCaptureExhausted { .. } => self.deep_captures.exhausted(),
                    Event::Signal {
                        time_ns,
                        pid,
                        signal,
                        sender,
                        by_thread,
                    } => self.signal(
                        *pid,
                        Sent {
                            time_ns: *time_ns,
                            signal: *signal,
                            sender: *sender,
                            by_thread: *by_thread,
                        },
                    ),
                    Event::Oom { pid, .. } => {
                        if let Some(app) = self.apps.get_mut(pid) {
                            app.state.oom = true;
                        }
                        if let Some(dirty) = self.dirty.get_mut(pid) {
                            dirty.state.oom = true;
                        }
                        self.with_worker_state(*pid, |state| state.oom = true);
                    }
                    Event::Stack(stack) => {
                        self.with_worker_state(stack.pid, |state| state.stack(stack));
                    }
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

    /// Takes requests that came one after the other. It gives the same as [`Self::apply`] of each, and
    /// takes less time: those of one app are counted together, while its counters are in the
    /// processor's caches. Effects of different apps may change places, unless requests are reported.
    pub fn apply_requests(&mut self, requests: &[Request]) {
        self.observer.requests += u64::try_from(requests.len()).unwrap_or(0);
        // One number of each, the owner before the place: these sort fast.
        let key = |(at, request): (u64, &Request)| {
            u64::from(self.owner(request.pid).unwrap_or(NOBODY)) << 32 | at
        };
        let mut order: Vec<u64> = (0..).zip(requests).map(key).collect();
        if !self.effects.report_requests {
            order.sort_unstable();
        }
        for key in order {
            let owner = u32::try_from(key >> 32).ok().filter(|&pid| pid != NOBODY);
            let at = usize::try_from(key & u64::from(u32::MAX)).unwrap_or(usize::MAX);
            if let Some(request) = requests.get(at) {
                self.any_request(owner, request);
            }
        }
    }

    /// Whether an input may come before requests that it came after: it gives the same.
    #[must_use]
    pub fn may_overtake_requests(&self, input: &Input) -> bool {
        match input {
            // They belong to a later request.
            Input::Event(Event::Exception(_) | Event::CapturedFrame(_)) => true,
            Input::Event(Event::Gc { pid, .. }) => self.owners.contains_key(pid),
            _ => false,
        }
    }

    /// Whether a process that sends SIGABRT gives up a worker of its own, for the first time.
    #[must_use]
    pub fn gives_up(&self, sender: Pid, pid: Pid) -> bool {
        let app = self.apps.get(&sender);
        let worker = app.and_then(|app| app.live.get(&pid));
        worker.is_some_and(|worker| worker.state.aborted.is_none())
    }

    /// The master of a worker, also of one that exited.
    fn owner(&self, pid: Pid) -> Option<Pid> {
        let buried = || self.tombstones.get(&pid).and_then(|tomb| tomb.master);
        self.owners.get(&pid).copied().or_else(buried)
    }

    fn any_request(&mut self, owner: Option<Pid>, request: &Request) {
        if request.worker_exited {
            let unfinished = self.unfinished.entry(request.pid).or_default();
            unfinished.push(request.clone());
        } else if Held::is_meant(request) && !self.exceptions.has_left(request) {
            if let Some(oldest) = self.held.hold(request) {
                self.analysed_request(&oldest);
            }
        } else {
            let is_covered = owner.is_some_and(|master| self.deep_captures.covers(master, request));
            let analysis = self.exceptions.analysis(request, is_covered);
            if !self.was_aborted(owner, request, &analysis) {
                return self.request(owner, request, analysis);
            }
            // Its worker closes its connections while it goes down.
            let request = Request {
                worker_exited: true,
                ..request.clone()
            };
            let analysis = ErrorAnalysis {
                cause: Cause::WorkerExited(FatalExit::Timeout),
                ..analysis
            };
            self.request(owner, &request, analysis);
        }
    }

    /// Counts a request that waited for its exceptions.
    fn analysed_request(&mut self, request: &Request) {
        let analysis = self.exceptions.analysis(request, false);
        self.request(self.owner(request.pid), request, analysis);
    }

    /// Counts all requests that still wait for exceptions: no input follows.
    pub fn settle(&mut self) {
        for request in self.held.take() {
            self.analysed_request(&request);
        }
    }

    /// Whether a request got no answer because its master gave its worker up.
    fn was_aborted(&self, owner: Option<Pid>, request: &Request, analysis: &ErrorAnalysis) -> bool {
        let is_gone = request.client_gone || analysis.client_gone;
        let app = owner.and_then(|master| self.apps.get(&master));
        request.was_cut
            && request.status.is_none()
            && !is_gone
            && app
                .and_then(|app| app.worker(request.pid))
                .is_some_and(|worker| worker.state.aborted.is_some())
    }

    /// Counts the requests that a process left unfinished when it exited.
    fn unfinished_requests(&mut self, owner: Option<Pid>, pid: Pid) {
        for request in self.held.of_process(pid) {
            let analysis = self.exceptions.analysis(&request, false);
            self.request(owner, &request, analysis);
        }
        let Some(requests) = self.unfinished.remove(&pid) else {
            return;
        };
        let app = owner.and_then(|master| self.apps.get(&master));
        let reason = app.and_then(|app| app.worker(pid)?.reason);
        let exit = reason.map_or(FatalExit::Other, |(reason, _)| reason.into());
        for request in requests {
            let analysis = ErrorAnalysis {
                cause: Cause::WorkerExited(exit),
                ..self.exceptions.analysis(&request, false)
            };
            self.request(owner, &request, analysis);
        }
    }

    fn request(&mut self, owner: Option<Pid>, request: &Request, analysis: ErrorAnalysis) {
        if matches!(request.status, Some(500..)) {
            self.deep_captures.check(analysis.deep_capture_agrees);
        }
        let app = owner.and_then(|master| self.apps.get_mut(&master));
        let counted = app.and_then(|app| {
            let outcome = app.request(&self.settings, request, &analysis)?;
            Some((app, outcome))
        });
        if let Some((app, outcome)) = counted {
            let route = || app.counters.routes.name(outcome.route);
            let is_running = self.deep_captures.is_running(app.master.pid);
            if app.observed && !is_running && needs_deep_capture(request, &analysis) {
                let request = || match request.status {
                    Some(status) => format!("{status} on {}", route()),
                    None => format!("no answer on {}", route()),
                };
                self.effects.want_deep_capture(app.master.pid, request);
            }
            if self.effects.report_requests {
                let wall_offset_ns = self.observer.wall_offset_ns();
                let worker = app.worker(request.pid);
                let worker_class = worker.map(|worker| app.class_of(worker).to_string());
                let finished = FinishedRequest {
                    app: app.name().to_owned().into(),
                    master_pid: Some(app.master.pid),
                    worker_class: worker_class.unwrap_or_default().into(),
                    route: route().to_owned().into(),
                    ..FinishedRequest::new(request, analysis, &outcome, wall_offset_ns)
                };
                self.effects.push(Effect::Request(Box::new(finished)));
            }
            if app.counters.routes.take_closed() {
                let master = app.master.pid;
                self.share_routes_of(master);
            }
            return;
        }
        self.make_room();
        let provisional = self.provisional.entry(request.pid).or_default();
        let outcome = provisional.request(&self.settings, request, &analysis);
        if self.effects.report_requests {
            let wall_offset_ns = self.observer.wall_offset_ns();
            let route = provisional.app_counters.routes.name(outcome.route);
            let finished = FinishedRequest {
                route: route.to_owned().into(),
                ..FinishedRequest::new(request, analysis, &outcome, wall_offset_ns)
            };
            self.effects.push(Effect::Request(Box::new(finished)));
        }
    }

    fn signal(&mut self, pid: Pid, sent: Sent) {
        if let Some(app) = self.apps.get_mut(&pid) {
            app.signal(sent);
        }
        if let Some(dirty) = self.dirty.get_mut(&pid) {
            dirty.signal(sent);
        }
        self.with_worker_state(pid, |state| state.signal(sent));
    }

    /// Changes the state of a process that is a worker, or may be one.
    fn with_worker_state(&mut self, pid: Pid, change: impl FnOnce(&mut WorkerState)) {
        let app = self
            .owners
            .get(&pid)
            .and_then(|owner| self.apps.get_mut(owner));
        if let Some(worker) = app.and_then(|app| app.live.get_mut(&pid)) {
            change(&mut worker.state);
        } else if let Some(provisional) = self.provisional.get_mut(&pid) {
            change(&mut provisional.state);
        }
    }

    /// A process collected garbage. A process that is no worker of a master is ignored.
    fn gc(&mut self, pid: Pid, pause_ns: u64) {
        let owner = self.owner(pid);
        if let Some(app) = owner.and_then(|master| self.apps.get_mut(&master)) {
            app.count(pid, |counters| counters.gc_pause.observe(pause_ns));
        } else if let Some(provisional) = self.provisional.get_mut(&pid) {
            provisional.counters.gc_pause.observe(pause_ns);
        }
    }

    /// Connections were closed without an answer, by a worker or by a master.
    fn lost(&mut self, pid: Pid, from: LostFrom, count: u32) {
        let master = self.owner(pid).unwrap_or(pid);
        if let Some(app) = self.apps.get_mut(&master) {
            app.lost(pid, from, count);
        }
    }

    fn fork(&mut self, time_ns: u64, parent: Pid, child: Pid) {
        // The process that had this pid before has exited, seen or not.
        let is_known = self.owners.contains_key(&child) || self.apps.contains_key(&child);
        if is_known || self.dirty.contains_key(&child) {
            self.exit(time_ns, child, None);
        }
        self.tombstones.remove(&child);
        self.drop_provisional(child);
        if self.owners.contains_key(&parent) {
            return; // A worker's own children are not workers.
        }
        if self.dirty_forked(time_ns, parent, child) {
            return;
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

    /// An observed process executed another program: it is no worker or master any more.
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
        // It may be a master again in a moment, as after `os.execv`: that is no exit.
        if let Some(app) = self.apps.get_mut(&pid) {
            app.ended_ns.get_or_insert(time_ns);
        }
        self.dirty.remove(&pid);
        self.drop_provisional(pid);
        self.observer.levels.remove(&pid);
        self.deep_captures.forget(pid);
        self.effects.forget(pid);
        self.exceptions.forget(pid);
    }

    pub(crate) fn exit(&mut self, time_ns: u64, pid: Pid, status: Option<ExitStatus>) {
        let end = End { time_ns, status };
        let master = self.owners.remove(&pid);
        if let Some(app) = master.and_then(|master| self.apps.get_mut(&master)) {
            app.end_worker(&self.settings, pid, end);
        }
        self.unfinished_requests(master, pid);
        if let Some(master) = master {
            self.worker_exited(master, pid);
        }
        self.dirty_exited(pid, end);
        self.master_exited(time_ns, pid, status);
        if let Some(provisional) = self.provisional.get_mut(&pid) {
            provisional.end = Some(end);
        }
        self.observer.levels.remove(&pid);
        self.deep_captures.forget(pid);
        self.effects.forget(pid);
        self.exceptions.forget(pid);
        if self.tombstones.len() >= TOMBSTONES {
            self.tombstones.pop_first();
        }
        self.tombstones.insert(pid, Tombstone { end, master });
    }

    /// Forgets masters, workers and processes that exited long ago.
    pub(crate) fn grow_old(&mut self, now_ns: u64) {
        let before_ns = now_ns.saturating_sub(self.settings.keep_ended_ns);
        // Workers may outlive their master.
        let gone =
            |app: &App| app.live.is_empty() && app.ended_ns.is_some_and(|ended| ended < before_ns);
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

    /// Makes room for one more process without a master. If there are too many, an eighth of them is
    /// forgotten: processes without requests first, then exited ones, and the oldest first.
    pub(crate) fn make_room(&mut self) {
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

    /// Forgets a process without a master, but counts its requests.
    pub(crate) fn drop_provisional(&mut self, pid: Pid) {
        if let Some(provisional) = self.provisional.remove(&pid) {
            self.observer.unclaimed_requests += provisional.requests - provisional.by_socket;
        }
    }

    /// Removes an app; its workers have no master any more.
    pub(crate) fn remove_app(&mut self, pid: Pid) -> Option<App> {
        let gone = self.apps.remove(&pid)?;
        self.owners.retain(|_, owner| *owner != pid);
        self.dirty.retain(|_, it| it.fact.master_pid != pid);
        Some(gone)
    }

    /// Moves the counters of series without a `master_pid` label to another master named `name`, so
    /// that the counters do not fall: a live master, else the one that exited last. If there is none,
    /// the counters stay.
    pub(crate) fn bequeath(&mut self, name: &str, from: &mut App) {
        let heirs = self.apps.values_mut();
        let heir = heirs
            .filter(|app| app.observed && app.name() == name)
            .max_by_key(|app| app.ended_ns.unwrap_or(u64::MAX));
        if let Some(heir) = heir {
            let class = from.default_class().to_owned();
            heir.absorb_shared(&self.settings, &from.counters, &class);
            from.counters.clear_shared();
        }
    }
}

/// Whether a request failed and only a deep capture can find the cause.
fn needs_deep_capture(request: &Request, analysis: &ErrorAnalysis) -> bool {
    let is_read = request.timed_by == TimedBy::Python && request.entered_ns.is_some();
    let is_gone = request.client_gone || analysis.client_gone;
    let failed = matches!(request.status, Some(500..)) || request.was_cut;
    is_read && failed && !is_gone && analysis.cause == Cause::Unknown
}

#[cfg(test)]
mod app_tests;
#[cfg(test)]
mod dirty_tests;
#[cfg(test)]
mod endings_tests;
#[cfg(test)]
mod errors_tests;
#[cfg(test)]
mod findings_tests;
#[cfg(test)]
mod lifecycle_tests;
#[cfg(test)]
mod routes_tests;
#[cfg(test)]
#[path = "state/state_tests.rs"]
mod tests;
