//! A master, its workers, and their counters.

use crate::counters::app_counters::{AppCounters, ClassId};
use crate::counters::worker_counters::{Counters, Outcome, busy_time};
use crate::duration::seconds;
use crate::errors::cause::ErrorAnalysis;
use crate::event::{ExitStatus, LostFrom, Pid, Request};
use crate::fact;
use crate::fact::{DirtyRole, Gauges, Listener, MasterGauges, Pending, WorkerInFlight};
use crate::findings::past::AppPast;
use crate::lifecycle::exit_reason;
use crate::lifecycle::exit_reason::{Evidence, ExitReason};
use crate::lifecycle::master_exit;
use crate::lifecycle::signal;
use crate::lifecycle::worker_event::{PendingView, stuck_in};
use crate::lifecycle::worker_state::{Sent, WorkerState};
use crate::recent::history::{AppSample, History};
use crate::recent::rate::Counts;
use crate::recent::top_requests::TopRequests;
use crate::routes::registry::RouteRegistry;
use crate::settings::Settings;
use crate::state::slots::Slots;
use crate::state::worker::{End, Worker};
use crate::untrusted::Untrusted;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Stands for an unknown name.
pub const UNKNOWN: &str = "unknown";

/// Counters by slot and worker class.
pub type BySlot = BTreeMap<(u32, ClassId), Counters>;

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
    /// What the workers here do not hold themselves: see [`App::slots`].
    slots: BySlot,
    /// The last signals that asked the master for something, in order.
    pub asked: Vec<Sent>,
    /// Signals that the master got, by number.
    pub signals: BTreeMap<u8, u64>,
    /// Resource use of the master at the last sample.
    pub gauges: Option<MasterSample>,
    /// Signals to the master that may end it, and whether the OOM killer chose it.
    pub state: WorkerState,
    /// The master stops by itself, because a worker could not boot.
    pub is_halting: bool,
    /// Exits of its workers, by reason.
    pub ends: BTreeMap<ExitReason, u64>,
    /// Exits of its dirty pool; `None` while it has had none.
    pub dirty_ends: Option<BTreeMap<(DirtyRole, ExitReason), u64>>,
    /// Workers that timed out, by class and by the function they were stuck in.
    pub timeouts: BTreeMap<(ClassId, String), u64>,
    pub listeners: Vec<Listener>,
    pub past: AppPast,
    pub history: History,
    pub recent: TopRequests,
}

/// Resource use of a master at one moment.
#[derive(Debug)]
pub struct MasterSample {
    pub gauges: MasterGauges,
    time_ns: u64,
    /// CPU use since the sample before, in percent of one processor.
    pub cpu_percent: Option<f64>,
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
            slots: BySlot::new(),
            asked: Vec::new(),
            signals: BTreeMap::new(),
            gauges: None,
            state: WorkerState::default(),
            is_halting: false,
            ends: BTreeMap::new(),
            dirty_ends: None,
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
        default_class(&self.master)
    }

    /// The class of one of its workers.
    #[must_use]
    pub fn class_of(&self, worker: &Worker) -> Arc<str> {
        match worker.class {
            Some(class) => self.counters.class_name(class),
            None => self.default_class().into(),
        }
    }

    /// One of its workers, also one that exited.
    #[must_use]
    pub fn worker(&self, pid: Pid) -> Option<&Worker> {
        let ended = || self.ended.iter().rev().find(|worker| worker.pid == pid);
        self.live.get(&pid).or_else(ended)
    }

    /// A request in flight of one of its workers.
    #[must_use]
    pub fn pending(&self, settings: &Settings, pending: &Pending, now_ns: u64) -> PendingView {
        PendingView::new(&settings.routes, &self.counters.routes, pending, now_ns)
    }

    /// Counters by slot: of all workers that held it.
    #[must_use]
    pub fn slots(&self) -> BySlot {
        let mut slots = self.slots.clone();
        for worker in self.live.values().chain(&self.ended) {
            worker.add_to(&mut slots);
        }
        slots
    }

    /// Counters that make up those of the app.
    pub fn parts(&self) -> impl Iterator<Item = &Counters> {
        let workers = self.live.values().chain(&self.ended);
        let workers = workers.map(|worker| &worker.counters);
        self.slots.values().chain(workers)
    }

    /// Counts a request of a worker, also of one that exited meanwhile. `None` when the app has no such
    /// worker.
    pub fn request(
        &mut self,
        settings: &Settings,
        request: &Request,
        analysis: &ErrorAnalysis,
    ) -> Option<Outcome> {
        let worker = find(&mut self.live, &mut self.ended, request.pid)?;
        let class = class_id(&self.master, &mut self.counters, worker.class);
        let outcome = self.counters.request(settings, class, request, analysis);
        worker.count_as(class, &mut self.slots);
        worker.counters.request(request, &outcome);
        worker.state.served = true;
        if let Some((begin_ns, end_ns)) = busy_time(request) {
            worker.busy.served(begin_ns, end_ns);
        }
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
        self.follow_moved();
        Some(outcome)
    }

    /// Follows routes that became others, wherever their ids are.
    fn follow_moved(&mut self) {
        if !self.counters.has_moved() {
            return;
        }
        let moved = self.counters.take_moved();
        for worker in self.live.values_mut().chain(&mut self.ended) {
            worker.counters.follow(&moved);
            if let Some(before) = &mut worker.before {
                before.follow(&moved);
            }
        }
        for counters in self.slots.values_mut() {
            counters.follow(&moved);
        }
        self.recent.follow(&moved);
    }

    /// Closes the levels of routes that another master of the same app has closed.
    pub fn agree(&mut self, settings: &Settings, other: &RouteRegistry) {
        self.counters.agree(settings, other);
        self.follow_moved();
    }

    /// Adds the counts of another master that masters of one app share.
    pub fn absorb_shared(&mut self, settings: &Settings, other: &AppCounters, class: &str) {
        self.counters.absorb_shared(settings, other, class);
        self.follow_moved();
    }

    /// Connections of a process were closed without an answer.
    pub fn lost(&mut self, pid: Pid, from: LostFrom, count: u32) {
        let class = self.worker(pid).and_then(|worker| worker.class);
        let class = class_id(&self.master, &mut self.counters, class);
        self.counters.lost(class, from, count);
    }

    /// Adds to the counters of a worker, also of one that exited meanwhile.
    pub fn count(&mut self, pid: Pid, add: impl FnOnce(&mut Counters)) {
        if let Some(worker) = find(&mut self.live, &mut self.ended, pid) {
            let class = class_id(&self.master, &mut self.counters, worker.class);
            worker.count_as(class, &mut self.slots);
            add(&mut worker.counters);
        }
    }

    /// Takes in a worker, with its counters so far.
    pub fn adopt(&mut self, settings: &Settings, mut worker: Worker, counters: &AppCounters) {
        worker.slot = self.free.take();
        worker.counters = self
            .counters
            .translate(settings, counters, &worker.counters);
        let class = self.class_of(&worker);
        self.counters.absorb(settings, counters, &class);
        worker.counted_as = self.counters.class(&class);
        match worker.end {
            Some(end) => self.bury(settings, worker, end),
            None => _ = self.live.insert(worker.pid, worker),
        }
        self.follow_moved();
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
            takes_commands: takes_commands(&self.master),
            max_requests: self.master.max_requests,
            served: worker.total().requests,
            is_all: worker.is_watched,
        });
        worker.reason = Some((reason, exit_kind));
        let exits_of_halt = [Some(ExitStatus::Code(3)), Some(ExitStatus::Code(4))];
        self.is_halting |= exits_of_halt.contains(&end.status);
        if reason.is_trouble() {
            self.past.trouble(end.time_ns);
        }
        *self.ends.entry(reason).or_default() += 1;
        let class = class_id(&self.master, &mut self.counters, worker.class);
        let busy_ns = worker.busy.end();
        if reason == ExitReason::Timeout {
            let stuck_in = stuck_in(&worker.state.stacks);
            let stuck_in = stuck_in.as_ref().map_or(UNKNOWN, Untrusted::raw);
            let stuck_in = self.counters.names.place(stuck_in, settings.route_limit);
            *self.timeouts.entry((class, stuck_in)).or_default() += 1;
        }
        let pid = worker.pid;
        self.ended.push_back(worker);
        if self.ended.len() > MAX_ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            oldest.add_to(&mut self.slots);
        }
        self.count(pid, |counters| {
            counters.busy_ns += busy_ns;
            *counters.ends.entry((exit_kind, reason)).or_default() += 1;
        });
    }

    /// The master got a signal.
    pub fn signal(&mut self, sent: Sent) {
        *self.signals.entry(sent.signal).or_default() += 1;
        if master_exit::may_end(sent.signal) {
            self.state.signal(sent);
        }
        keep_asked(&mut self.asked, sent);
    }

    /// The requests of a worker in flight at `at_ns`.
    pub fn in_flight(&mut self, pid: Pid, at_ns: u64, found: &WorkerInFlight) {
        let Some(worker) = self.live.get_mut(&pid) else {
            return;
        };
        let oldest = found.oldest.first();
        let busy_ns = worker
            .busy
            .count_until(at_ns, oldest.map(|oldest| oldest.begun_ns));
        worker.state.in_flight = found.clone();
        let total = worker.total();
        let counts = Counts {
            time_ns: at_ns,
            requests: total.requests,
            busy_ns: total.busy_ns + busy_ns,
        };
        worker.rate.sample(counts);
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
            busy_ns: self.parts().map(|of| of.busy_ns).sum(),
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
        state.check_quitting(time_ns);
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

    /// Resource use of the master.
    pub fn master_gauges(&mut self, time_ns: u64, gauges: &MasterGauges) {
        let cpu_percent = self.gauges.as_ref().and_then(|before| {
            let used = (gauges.cpu_seconds - before.gauges.cpu_seconds).max(0.0);
            let passed_ns = time_ns.saturating_sub(before.time_ns);
            (passed_ns > 0).then(|| 100.0 * used / seconds(passed_ns))
        });
        self.gauges = Some(MasterSample {
            gauges: gauges.clone(),
            time_ns,
            cpu_percent,
        });
    }

    /// A child of the master turned out to be a process of its dirty pool. Its counters stay.
    pub fn release(&mut self, pid: Pid) -> Option<WorkerState> {
        let gone = self.live.remove(&pid)?;
        self.free.give_back(gone.slot);
        gone.add_to(&mut self.slots);
        Some(gone.state)
    }

    /// A child of the master turned out to be no worker. Its counters stay.
    pub fn drop_worker(&mut self, settings: &Settings, pid: Pid, end: End) {
        let served = self
            .live
            .get(&pid)
            .is_some_and(|w| w.confirmed || w.total().requests > 0);
        if served {
            self.end_worker(settings, pid, end);
        } else {
            self.release(pid);
        }
    }

    /// Whether the last request to the master was to stop its workers.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        let stops = [signal::TERM, signal::INT, signal::QUIT, signal::WINCH];
        // `SIGTTOU` changes only how many there are.
        let mut asked = self
            .asked
            .iter()
            .rev()
            .filter(|it| it.signal != signal::TTOU);
        self.is_halting || asked.next().is_some_and(|it| stops.contains(&it.signal))
    }

    /// Forgets workers that exited before `before_ns`.
    pub fn forget(&mut self, before_ns: u64) {
        self.ended.retain(|worker| {
            let is_kept = worker.end.is_none_or(|end| end.time_ns >= before_ns);
            if !is_kept {
                worker.add_to(&mut self.slots);
            }
            is_kept
        });
    }
}

/// Keeps a signal, if it asks a master or a dirty arbiter for something: other signals need no room.
pub(super) fn keep_asked(asked: &mut Vec<Sent>, sent: Sent) {
    let asks = [
        signal::HUP,
        signal::TTOU,
        signal::TERM,
        signal::INT,
        signal::QUIT,
        signal::WINCH,
    ];
    if asks.contains(&sent.signal) {
        asked.push(sent);
        if asked.len() > MAX_ASKED {
            asked.remove(0);
        }
    }
}

/// A worker, also one that exited.
fn find<'a>(
    live: &'a mut BTreeMap<Pid, Worker>,
    ended: &'a mut VecDeque<Worker>,
    pid: Pid,
) -> Option<&'a mut Worker> {
    let mut ended = ended.iter_mut().rev();
    match live.get_mut(&pid) {
        Some(worker) => Some(worker),
        None => ended.find(|worker| worker.pid == pid),
    }
}

/// Whether it takes commands of `gunicornc`: from Gunicorn 25 on.
fn takes_commands(master: &fact::Master) -> bool {
    const FIRST: u32 = 25;
    let major = master.gunicorn_version.split('.').next();
    let major = major.and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= FIRST)
}

/// Class of workers whose own class is unknown.
fn default_class(master: &fact::Master) -> &str {
    if master.worker_class.is_empty() {
        UNKNOWN
    } else {
        &master.worker_class
    }
}

/// The id of a worker's class, or of the default class while its own is unknown.
fn class_id(master: &fact::Master, counters: &mut AppCounters, class: Option<ClassId>) -> ClassId {
    class.unwrap_or_else(|| counters.class(default_class(master)))
}
