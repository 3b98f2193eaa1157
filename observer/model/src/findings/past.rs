//! The last two minutes of an app, sampled for the rules.

use crate::fact::Listener;
use std::collections::{BTreeMap, VecDeque};

/// Time between two samples.
pub const SAMPLE_NS: u64 = 5_000_000_000;
/// Samples that are kept.
const SAMPLES: usize = 24;
/// Troubled exits that are kept: as many as any threshold may sensibly be.
const MAX_TROUBLES: usize = 1000;

/// The past of an app.
#[derive(Debug, Default)]
pub struct AppPast {
    /// Connections in the backlog, by listener; the oldest sample first.
    backlogs: VecDeque<BTreeMap<String, u32>>,
    sampled_ns: u64,
    /// When workers exited in trouble.
    troubles: VecDeque<u64>,
}

/// A worker at each sample taken while it lived, the oldest first.
#[derive(Debug, Default)]
pub struct WorkerPast(VecDeque<WorkerSample>);

/// A worker at one moment.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSample {
    /// Requests served since it started.
    pub requests: u64,
    pub resident_bytes: Option<u64>,
}

impl AppPast {
    /// A worker exited in trouble.
    pub fn trouble(&mut self, time_ns: u64) {
        push(&mut self.troubles, time_ns, MAX_TROUBLES);
    }

    /// Whether it is time for the next sample.
    #[must_use]
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.sampled_ns == 0 || now_ns >= self.sampled_ns + SAMPLE_NS
    }

    /// Takes a sample of the listeners.
    pub fn sample(&mut self, now_ns: u64, listeners: &[Listener]) {
        let backlogs = listeners.iter();
        let backlogs = backlogs.map(|of| (of.address.clone(), of.backlog));
        self.sampled_ns = now_ns;
        push(&mut self.backlogs, backlogs.collect(), SAMPLES);
    }

    /// Samples that are kept.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.backlogs.len()
    }

    /// The last `count` backlogs of a listener, the newest first; `None` if there are fewer.
    #[must_use]
    pub fn last_backlogs(&self, address: &str, count: usize) -> Option<Vec<u32>> {
        let of = |sample: &BTreeMap<String, u32>| sample.get(address).copied().unwrap_or(0);
        let last: Vec<u32> = self.backlogs.iter().rev().take(count).map(of).collect();
        (last.len() == count).then_some(last)
    }

    /// Troubled exits since a time.
    #[must_use]
    pub fn troubles_since(&self, since_ns: u64) -> usize {
        self.troubles.iter().filter(|&&at| at >= since_ns).count()
    }
}

impl WorkerPast {
    /// Adds a sample.
    pub fn sample(&mut self, sample: WorkerSample) {
        push(&mut self.0, sample, SAMPLES);
    }

    /// The samples, the oldest first.
    #[must_use]
    pub fn samples(&self) -> &VecDeque<WorkerSample> {
        &self.0
    }
}

fn push<T>(kept: &mut VecDeque<T>, new: T, limit: usize) {
    kept.push_back(new);
    if kept.len() > limit {
        kept.pop_front();
    }
}
