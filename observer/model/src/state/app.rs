//! A master, its workers, and their counters.

use crate::counters::app_counters::{AppCounters, ClassId};
use crate::counters::worker_counters::{Counters, Outcome, busy_time};
use crate::duration::seconds;
use crate::errors::cause::ErrorAnalysis;
use crate::event::{ExitStatus, Pid, Request};
use crate::fact;
use crate::fact::{Gauges, Listener, WorkerInFlight};
use crate::findings::past::AppPast;
use crate::lifecycle::exit_reason;
use crate::lifecycle::exit_reason::{Evidence, ExitReason};
use crate::lifecycle::signal;
use crate::lifecycle::worker_event::stuck_in;
use crate::lifecycle::worker_state::Sent;
use crate::recent::history::{AppSample, History};
use crate::recent::rate::Counts;
use crate::recent::top_requests::TopRequests;
use crate::settings::Settings;
use crate::state::slots::Slots;
use crate::state::worker::{End, Worker};
use crate::untrusted::Untrusted;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Stands for an unknown name.
pub const UNKNOWN: &str = "unknown";

/// A Gunicorn master, its workers, and their counters.
#[derive(Debug)]
pub struct App {
    pub master: fact::Master,
    pub ended_ns: Option<u64>,
    /// False while its requests cannot be seen: a zero then means "not counted".
    pub observed: bool,
    pub live: BTreeMap<Pid, Worker>,
    /// Workers that exited lately, in order; the last `MAX_ENDED`.
    pub ended: VecDeque<Worker>,
    free: Slots,
    pub counters: AppCounters,
    /// Counters by slot: of all workers that held it.
    pub slots: BTreeMap<(u32, ClassId), Counters>,
    /// The last signals that asked the master for something, in order.
    pub asked: Vec<Sent>,
    /// Signals that the master got, by number.
    pub signals: BTreeMap<u8, u64>,
    /// The master stops by itself, because a worker could not boot.
    pub is_halting: bool,
    /// Exits of its workers, by reason.
    pub ends: BTreeMap<ExitReason, u64>,
    /// Workers that timed out, by class and by the function they were stuck in.
    pub timeouts: BTreeMap<(ClassId, String), u64>,
    pub listeners: Vec<Listener>,
    pub past: AppPast,
    pub history: History,
    pub recent: TopRequests,
}

/// Most exited workers that are kept: a crash loop may produce any number.
const MAX_ENDED: usize = 1000;
/// Most signals of a master that are kept.
const MAX_ASKED: usize = 64;

impl App {
    #[must_use]
    pub fn new(master: fact::Master) -> Self {
        Self {
            master,
            ended_ns: None,
            observed: true,
            live: BTreeMap::new(),
            ended: VecDeque::new(),
            free: Slots::default(),
            counters: AppCounters::default(),
            slots: BTreeMap::new(),
            asked: Vec::new(),
            signals: BTreeMap::new(),
            is_halting: false,
            ends: BTreeMap::new(),
            timeouts: BTreeMap::new(),
            listeners: Vec::new(),
            past: AppPast::default(),
            history: History::default(),
            recent: TopRequests::default(),
        }
    }

    /// Its name, for outputs.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.master.app.is_empty() {
            UNKNOWN
        } else {
            &self.master.app
        }
    }

    /// Class of workers whose own class is unknown.
    #[must_use]
    pub fn default_class(&self) -> &str {
        if self.master.worker_class.is_empty() {
            UNKNOWN
        } else {
            &self.master.worker_class
        }
    }

    /// The class of one of its workers.
    #[must_use]
    pub fn class_of(&self, pid: Pid) -> String {
        let ended = || self.ended.iter().rev().find(|worker| worker.pid == pid);
        let worker = self.live.get(&pid).or_else(ended);
        let class = worker.and_then(|worker| worker.class.as_deref());
        class.unwrap_or(self.default_class()).to_owned()
    }

    /// Counts a request of a worker, also of one that exited meanwhile. `None` when the app has no such
    /// worker.
    pub fn request(
        &mut self,
        settings: &Settings,
        request: &Request,
        analysis: &ErrorAnalysis,
    ) -> Option<Outcome> {
        let of = |worker: &&mut Worker| worker.pid == request.pid;
        let worker = match self.live.get_mut(&request.pid) {
            Some(worker) => worker,
            None => self.ended.iter_mut().rev().find(of)?,
        };
        let slot = worker.slot;
        let class = match (&worker.class, self.master.worker_class.as_str()) {
            (Some(class), _) => Arc::clone(class),
            (None, "") => UNKNOWN.into(),
            (None, class) => class.into(),
        };
        let (class, outcome) = self.counters.request(settings, &class, request, analysis);
        worker.counters.request(request, &outcome);
        worker.state.served = true;
        if let Some((begin_ns, end_ns)) = busy_time(request) {
            worker.busy.served(begin_ns, end_ns);
        }
        let slot = self.slots.entry((slot, class)).or_default();
        slot.request(request, &outcome);
        // A request that Gunicorn refused is not counted: see [`Counters::request`].
        if !request.bad_request {
            let Outcome {
                method,
                route,
                is_error,
                ..
            } = outcome;
            self.history.request(request, is_error);
            self.recent.request(request, method, route, is_error);
        }
        Some(outcome)
    }

    /// Adds to the counters of a worker, also of one that exited meanwhile.
    pub fn count(&mut self, pid: Pid, add: impl Fn(&mut Counters)) {
        let ended = self.ended.iter_mut().rev();
        let mut workers = self.live.get_mut(&pid).into_iter().chain(ended);
        let Some(worker) = workers.find(|worker| worker.pid == pid) else {
            return;
        };
        add(&mut worker.counters);
        let slot = worker.slot;
        let class = worker.class.clone();
        let class = self.class_id(class);
        add(self.slots.entry((slot, class)).or_default());
        add(self.counters.totals.entry(class).or_default());
    }

    /// Takes in a worker, with its counters so far.
    pub fn adopt(&mut self, settings: &Settings, mut worker: Worker, counters: &AppCounters) {
        worker.slot = self.free.take();
        let class = match &worker.class {
            Some(class) => Arc::clone(class),
            None => self.default_class().into(),
        };
        worker.counters = self
            .counters
            .translate(settings, counters, &worker.counters);
        self.counters.absorb(settings, counters, &class);
        let class = self.counters.class(&class);
        self.slots
            .entry((worker.slot, class))
            .or_default()
            .merge(&worker.counters);
        match worker.end {
            Some(end) => self.bury(settings, worker, end),
            None => _ = self.live.insert(worker.pid, worker),
        }
    }

    /// A worker exited.
    pub fn end_worker(&mut self, settings: &Settings, pid: Pid, end: End) {
        if let Some(worker) = self.live.remove(&pid) {
            self.bury(settings, worker, end);
        }
    }

    fn bury(&mut self, settings: &Settings, mut worker: Worker, end: End) {
        worker.end = Some(end);
        self.free.give_back(worker.slot);
        let (reason, exit_kind) = exit_reason::of(&Evidence {
            state: &worker.state,
            status: end.status,
            ended_ns: end.time_ns,
            master: self.master.pid,
            asked: &self.asked,
            is_halting: self.is_halting,
            master_ended: self.ended_ns.is_some(),
            max_requests: self.master.max_requests,
            served: worker.counters.requests,
            is_all: worker.is_watched,
        });
        worker.reason = Some((reason, exit_kind));
        let exits_of_halt = [Some(ExitStatus::Code(3)), Some(ExitStatus::Code(4))];
        self.is_halting |= exits_of_halt.contains(&end.status);
        if reason.is_trouble() {
            self.past.trouble(end.time_ns);
        }
        *self.ends.entry(reason).or_default() += 1;
        let class = self.class_id(worker.class.clone());
        let busy_ns = worker.busy.end();
        if reason == ExitReason::Timeout {
            let stuck_in = stuck_in(&worker.state.stacks);
            let stuck_in = stuck_in.as_ref().map_or(UNKNOWN, Untrusted::raw);
            let stuck_in = self.counters.names.place(stuck_in, settings.route_limit);
            *self.timeouts.entry((class, stuck_in)).or_default() += 1;
        }
        let pid = worker.pid;
        self.ended.push_back(worker);
        if self.ended.len() > MAX_ENDED {
            self.ended.pop_front();
        }
        self.count(pid, |counters| {
            counters.busy_ns += busy_ns;
            *counters.ends.entry((exit_kind, reason)).or_default() += 1;
        });
    }

    /// The id of a worker's class, or of the default class while its own is unknown.
    fn class_id(&mut self, class: Option<Arc<str>>) -> ClassId {
        let class = class.unwrap_or_else(|| self.default_class().into());
        self.counters.class(&class)
    }

    /// The master got a signal.
    pub fn signal(&mut self, sent: Sent) {
        *self.signals.entry(sent.signal).or_default() += 1;
        // Other signals ask for nothing and need no room.
        let asks = [
            signal::HUP,
            signal::TTOU,
            signal::TERM,
            signal::INT,
            signal::QUIT,
            signal::WINCH,
        ];
        if asks.contains(&sent.signal) {
            self.asked.push(sent);
            if self.asked.len() > MAX_ASKED {
                self.asked.remove(0);
            }
        }
    }

    /// The requests of a worker in flight at `at_ns`.
    pub fn in_flight(&mut self, pid: Pid, at_ns: u64, found: Option<&WorkerInFlight>) {
        let Some(worker) = self.live.get_mut(&pid) else {
            return;
        };
        let oldest = found.and_then(|found| found.oldest.first());
        let busy_ns = worker
            .busy
            .count_until(at_ns, oldest.map(|oldest| oldest.begun_ns));
        worker.state.in_flight = found.cloned().unwrap_or_default();
        worker.rate.sample(Counts {
            time_ns: at_ns,
            requests: worker.counters.requests,
            busy_ns: worker.counters.busy_ns + busy_ns,
        });
        if busy_ns > 0 {
            self.count(pid, |counters| counters.busy_ns += busy_ns);
        }
    }

    /// The requests in flight of all of its workers are known as of `time_ns`.
    pub fn sample(&mut self, time_ns: u64) {
        self.recent.grow_old(time_ns);
        let in_flight = self.live.values().map(|of| of.state.in_flight.count).sum();
        self.history.sample(AppSample {
            time_ns,
            busy_ns: self.counters.totals.values().map(|of| of.busy_ns).sum(),
            workers: u32::try_from(self.live.len()).unwrap_or(u32::MAX),
            in_flight,
            backlog: self.listeners.iter().map(|of| of.backlog).sum(),
        });
    }

    /// Resource use and stage of a worker.
    pub fn gauges(&mut self, time_ns: u64, gauges: &Gauges) {
        let Some(worker) = self.live.get_mut(&gauges.pid) else {
            return;
        };
        let state = &mut worker.state;
        state.was_read = true;
        state.booted = gauges.booted.or(state.booted);
        state.alive = gauges.alive.or(state.alive);
        let before = worker
            .gauges
            .as_ref()
            .map_or(0.0, |known| known.cpu_seconds);
        let is_first = worker.gauges.is_none();
        let used = (gauges.cpu_seconds - before).max(0.0);
        let passed_ns = time_ns.saturating_sub(worker.gauged_ns);
        if !is_first && passed_ns > 0 {
            worker.cpu_percent = Some(100.0 * used / seconds(passed_ns));
        }
        worker.gauges = Some(gauges.clone());
        worker.gauged_ns = time_ns;
        let cpu_ns = Duration::try_from_secs_f64(used).map_or(0, |used| used.as_nanos());
        let cpu_ns = u64::try_from(cpu_ns).unwrap_or(0);
        // The first value counts even if it is zero: the kernel counts whole ticks, and a young
        // worker has used less.
        if cpu_ns > 0 || is_first {
            self.count(gauges.pid, |counters| {
                *counters.cpu_ns.get_or_insert(0) += cpu_ns;
            });
        }
    }

    /// A child of the master turned out to be no worker. Its counters stay.
    pub fn drop_worker(&mut self, settings: &Settings, pid: Pid, end: End) {
        let served = self
            .live
            .get(&pid)
            .is_some_and(|w| w.confirmed || w.counters.requests > 0);
        if served {
            self.end_worker(settings, pid, end);
        } else {
            let gone = self.live.remove(&pid);
            gone.inspect(|worker| self.free.give_back(worker.slot));
        }
    }

    /// Forgets workers that exited before `before_ns`.
    pub fn forget(&mut self, before_ns: u64) {
        self.ended
            .retain(|worker| worker.end.is_none_or(|end| end.time_ns >= before_ns));
    }
}
