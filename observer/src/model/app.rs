//! A master and its workers.

use super::cause::Verdict;
use super::ledger::{ClassId, Ledger};
use super::settings::Settings;
use super::tally::{Outcome, Tally};
use super::worker::{End, Worker};
use crate::event::{Pid, Request};
use crate::fact;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Shown for a name that is not known.
pub const UNKNOWN: &str = "unknown";

/// A Gunicorn master, its workers, and what they did.
#[derive(Debug)]
pub struct App {
    pub master: fact::Master,
    pub ended_ns: Option<u64>,
    /// False while its requests cannot be seen: what is zero then was not counted.
    pub observed: bool,
    pub live: BTreeMap<Pid, Worker>,
    /// Workers that ended, in that order; shown for a while.
    pub ended: Vec<Worker>,
    pub ledger: Ledger,
    /// The worker families by slot: what all workers that held it did.
    pub slots: BTreeMap<(u32, ClassId), Tally>,
}

impl App {
    #[must_use]
    pub fn new(master: fact::Master) -> Self {
        Self {
            master,
            ended_ns: None,
            observed: true,
            live: BTreeMap::new(),
            ended: Vec::new(),
            ledger: Ledger::default(),
            slots: BTreeMap::new(),
        }
    }

    /// Its name as it is shown.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.master.app.is_empty() {
            UNKNOWN
        } else {
            &self.master.app
        }
    }

    /// Class of workers that did not tell theirs.
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

    /// Counts a request of a worker, also of one that ended meanwhile.
    /// `None` when it has no such worker.
    pub fn request(
        &mut self,
        settings: &Settings,
        request: &Request,
        verdict: &Verdict,
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
        let (class, outcome) = self.ledger.request(settings, &class, request, verdict);
        worker.tally.request(request, &outcome);
        let slot = self.slots.entry((slot, class)).or_default();
        slot.request(request, &outcome);
        Some(outcome)
    }

    /// Counts what is no request, of a worker, also of one that ended meanwhile.
    pub fn count(&mut self, pid: Pid, add: impl Fn(&mut Tally)) {
        let ended = self.ended.iter_mut().rev();
        let mut workers = self.live.get_mut(&pid).into_iter().chain(ended);
        let Some(worker) = workers.find(|worker| worker.pid == pid) else {
            return;
        };
        add(&mut worker.tally);
        let slot = worker.slot;
        let class = worker.class.clone();
        let class = class.unwrap_or_else(|| self.default_class().into());
        let class = self.ledger.class(&class);
        add(self.slots.entry((slot, class)).or_default());
        add(self.ledger.totals.entry(class).or_default());
    }

    /// Takes a worker in, with what it did so far.
    pub fn adopt(&mut self, settings: &Settings, mut worker: Worker, ledger: &Ledger) {
        worker.slot = self.free_slot();
        let class = match &worker.class {
            Some(class) => Arc::clone(class),
            None => self.default_class().into(),
        };
        worker.tally = self.ledger.translate(settings, ledger, &worker.tally);
        self.ledger.absorb(settings, ledger, &class);
        let class = self.ledger.class(&class);
        self.slots
            .entry((worker.slot, class))
            .or_default()
            .merge(&worker.tally);
        if worker.end.is_some() {
            self.ended.push(worker);
        } else {
            self.live.insert(worker.pid, worker);
        }
    }

    /// A worker ended.
    pub fn end_worker(&mut self, pid: Pid, end: End) {
        if let Some(mut worker) = self.live.remove(&pid) {
            worker.end = Some(end);
            self.ended.push(worker);
        }
    }

    /// A child of the master turned out to be no worker. What it did stays counted.
    pub fn drop_worker(&mut self, pid: Pid, end: End) {
        let served = self
            .live
            .get(&pid)
            .is_some_and(|w| w.confirmed || w.tally.requests > 0);
        if served {
            self.end_worker(pid, end);
        } else {
            self.live.remove(&pid);
        }
    }

    /// Forgets workers that ended before `before_ns`.
    pub fn forget(&mut self, before_ns: u64) {
        self.ended
            .retain(|worker| worker.end.is_none_or(|end| end.time_ns >= before_ns));
    }

    fn free_slot(&self) -> u32 {
        let taken: BTreeSet<u32> = self.live.values().map(|worker| worker.slot).collect();
        (0..).find(|slot| !taken.contains(slot)).unwrap_or(u32::MAX)
    }
}
