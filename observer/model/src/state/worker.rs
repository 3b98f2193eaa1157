//! Workers: of a known master, and processes whose master is not known yet.

use crate::counters::app_counters::{AppCounters, ClassId};
use crate::counters::worker_counters::{Counters, Outcome, busy_time};
use crate::errors::cause::ErrorAnalysis;
use crate::event::{ExitStatus, Pid, Request, TimedBy};
use crate::fact;
use crate::fact::Gauges;
use crate::findings::past::WorkerPast;
use crate::lifecycle::exit_reason::{ExitKind, ExitReason};
use crate::lifecycle::worker_state::WorkerState;
use crate::recent::rate::Rate;
use crate::settings::Settings;
use crate::state::app::{BySlot, UNKNOWN};
use crate::state::busy::Busy;
use crate::wall_clock::Clock;
use std::borrow::Cow;

/// Two start times of one process differ by less: `/proc` counts in clock ticks.
pub const START_TOLERANCE_NS: u64 = 1_000_000_000;

/// The exit of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub time_ns: u64,
    /// `None` when only the next process with its pid was seen, not its exit.
    pub status: Option<ExitStatus>,
}

/// A worker of a known master.
#[derive(Debug, Default)]
pub struct Worker {
    pub pid: Pid,
    /// Lowest number that was free under its master when it started.
    pub slot: u32,
    pub started_ns: Option<u64>,
    pub age: Option<u64>,
    /// Its own class; while it is `None`, the class of its master's new workers counts.
    pub class: Option<ClassId>,
    /// Its master lists it as a worker.
    pub confirmed: bool,
    pub end: Option<End>,
    /// Why it exited, and whether it finished its work.
    pub reason: Option<(ExitReason, ExitKind)>,
    /// Counts under the class [`Self::counted_as`].
    pub counters: Counters,
    pub counted_as: ClassId,
    /// Counts under other classes, before it was known; those are in the slots of its app.
    pub before: Option<Box<Counters>>,
    pub busy: Busy,
    pub rate: Rate,
    pub past: WorkerPast,
    pub state: WorkerState,
    /// Its resource use at the last sample, and the time of that.
    pub gauges: Option<Gauges>,
    pub gauged_ns: u64,
    /// CPU use between the last two samples, in percent of one processor.
    pub cpu_percent: Option<f64>,
    /// The observer saw its fork.
    pub is_watched: bool,
}

impl Worker {
    /// The label `worker_id`: `worker_<age>_<start in Unix seconds>`.
    #[must_use]
    pub fn id(&self, wall_offset_ns: i64) -> String {
        let age = self
            .age
            .map_or_else(|| UNKNOWN.to_owned(), |age| age.to_string());
        let start = self
            .started_ns
            .map(|ns| (i128::from(ns) + i128::from(wall_offset_ns)).div_euclid(1_000_000_000));
        let start = start.map_or_else(|| UNKNOWN.to_owned(), |start| start.to_string());
        format!("worker_{age}_{start}")
    }

    /// Seconds since it started; `None` once it exited.
    #[must_use]
    pub fn uptime_seconds(&self, clock: &Clock) -> Option<f64> {
        let started_ns = self.started_ns.filter(|_| self.end.is_none())?;
        Some(clock.seconds_since(started_ns))
    }

    /// Whether a fact is about this process, not a later one with its pid.
    #[must_use]
    pub fn is_same(&self, fact: &fact::Worker) -> bool {
        match (self.age, fact.age) {
            (Some(mine), Some(theirs)) => mine == theirs,
            // Its master has not listed it yet: this fact is the first about it.
            _ if !self.confirmed && self.end.is_none() => true,
            _ => is_same_start(self.started_ns, fact.started_ns),
        }
    }

    /// All its counts.
    #[must_use]
    pub fn total(&self) -> Cow<'_, Counters> {
        match &self.before {
            None => Cow::Borrowed(&self.counters),
            Some(before) => {
                let mut total = Counters::clone(before);
                total.merge(&self.counters);
                Cow::Owned(total)
            }
        }
    }

    /// From now on, counts under this class.
    pub fn count_as(&mut self, class: ClassId, slots: &mut BySlot) {
        if self.counted_as != class {
            self.add_to(slots);
            let counted = std::mem::take(&mut self.counters);
            self.before.get_or_insert_default().merge(&counted);
            self.counted_as = class;
        }
    }

    /// Adds the counts that only the worker holds to those of its slot.
    pub fn add_to(&self, slots: &mut BySlot) {
        let slot = slots.entry((self.slot, self.counted_as)).or_default();
        slot.merge(&self.counters);
    }

    /// Takes a fact that its master lists it. Its class is an id of the app's counters.
    pub fn confirm(&mut self, fact: &fact::Worker, class: impl FnOnce(&str) -> ClassId) {
        self.confirmed = true;
        self.age = fact.age.or(self.age);
        // The start from `/proc` wins over the time of the fork, so that another observer, or this
        // one after a restart, gives the worker the same id.
        if fact.started_ns != 0 {
            self.started_ns = Some(fact.started_ns);
        }
        if !fact.class.is_empty() {
            self.class = Some(class(&fact.class));
        }
    }
}

/// Whether two start times may be of one process; an unknown one may be.
#[must_use]
pub fn is_same_start(known_ns: Option<u64>, start_ns: u64) -> bool {
    start_ns == 0 || known_ns.is_none_or(|known| known.abs_diff(start_ns) < START_TOLERANCE_NS)
}

/// A process that may be a worker: its requests are kept until its master is known.
#[derive(Debug, Default)]
pub struct Provisional {
    pub parent: Option<Pid>,
    /// When it was forked.
    pub started_ns: Option<u64>,
    /// When its first request finished; before that, the time of the latest fact about it.
    pub since_ns: u64,
    /// All its requests, including refused ones.
    pub requests: u64,
    /// Requests among them that were seen by system calls only. If no master claims the process, they
    /// were not Gunicorn's, and are not lost.
    pub by_socket: u64,
    /// A fact about it from a master that is itself not known yet.
    pub fact: Option<fact::Worker>,
    pub end: Option<End>,
    pub counters: Counters,
    pub app_counters: AppCounters,
    pub state: WorkerState,
    pub busy: Busy,
}

impl Provisional {
    /// Counts a request; the class follows when a master claims the process.
    pub fn request(
        &mut self,
        settings: &Settings,
        request: &Request,
        analysis: &ErrorAnalysis,
    ) -> Outcome {
        if self.requests == 0 {
            self.since_ns = request.finished_ns;
        }
        self.requests += 1;
        self.by_socket += u64::from(request.timed_by == TimedBy::Socket);
        let class = self.app_counters.class("");
        let outcome = self
            .app_counters
            .request(settings, class, request, analysis);
        self.state.served = true;
        if let Some((begin_ns, end_ns)) = busy_time(request) {
            self.busy.served(begin_ns, end_ns);
        }
        self.counters.request(request, &outcome);
        if self.app_counters.has_moved() {
            self.counters.follow(&self.app_counters.take_moved());
        }
        outcome
    }

    /// Turns it into a worker. Its class is an id of the app's counters.
    #[must_use]
    pub fn into_worker(
        self,
        pid: Pid,
        class: impl FnOnce(&str) -> ClassId,
    ) -> (Worker, AppCounters) {
        let mut worker = Worker {
            pid,
            started_ns: self.started_ns,
            end: self.end,
            counters: self.counters,
            state: self.state,
            busy: self.busy,
            is_watched: self.started_ns.is_some(),
            ..Worker::default()
        };
        if let Some(fact) = &self.fact {
            worker.confirm(fact, class);
        }
        (worker, self.app_counters)
    }
}
