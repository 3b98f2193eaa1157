//! The last fifteen minutes of an app, in bins of five seconds: for charts.

use crate::counters::histogram::{HISTORY, Histogram, PHASE};
use crate::counters::worker_counters::{Phase, duration_ns, phases};
use crate::event::Request;
use std::collections::VecDeque;

/// Time that a bin covers.
pub const BIN_NS: u64 = 5_000_000_000;
/// Bins that are kept.
pub const BINS: usize = 180;

/// The bins of an app, the oldest first. There is no bin for a time in which nothing was seen.
#[derive(Debug, Default)]
pub struct History {
    bins: VecDeque<Bin>,
    last_sample: Option<AppSample>,
}

/// Counts of [`BIN_NS`].
#[derive(Debug)]
pub struct Bin {
    pub begin_ns: u64,
    pub requests: u64,
    /// See [`crate::counters::worker_counters::Outcome::is_error`].
    pub errors: u64,
    pub durations: Histogram,
    /// Queue wait until a connection is accepted.
    pub queue: Histogram,
    /// Busy time and lifetime, summed over all workers.
    pub busy_ns: u64,
    pub lived_ns: u64,
    /// Most requests in flight, and most connections in the backlog, at one sample.
    pub in_flight: u32,
    pub backlog: u32,
}

/// An app at one moment.
#[derive(Clone, Copy, Debug)]
pub struct AppSample {
    pub time_ns: u64,
    /// Busy time of all its workers since the observer attached.
    pub busy_ns: u64,
    pub workers: u32,
    pub in_flight: u32,
    pub backlog: u32,
}

impl Bin {
    fn new(begin_ns: u64) -> Self {
        Self {
            begin_ns,
            requests: 0,
            errors: 0,
            durations: Histogram::new(&HISTORY),
            queue: Histogram::new(&PHASE),
            busy_ns: 0,
            lived_ns: 0,
            in_flight: 0,
            backlog: 0,
        }
    }

    /// Adds the counts of another bin.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.durations.merge(&other.durations);
        self.queue.merge(&other.queue);
        self.busy_ns += other.busy_ns;
        self.lived_ns += other.lived_ns;
        self.in_flight = self.in_flight.max(other.in_flight);
        self.backlog = self.backlog.max(other.backlog);
    }

    /// Busy share of the workers' lifetime, from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share is a float")]
    pub fn utilisation(&self) -> Option<f64> {
        let lived_ns = self.lived_ns;
        (lived_ns > 0).then(|| (self.busy_ns as f64 / lived_ns as f64).min(1.0))
    }
}

impl History {
    /// A request finished.
    pub fn request(&mut self, request: &Request, is_error: bool) {
        let bin = self.bin(request.finished_ns);
        bin.requests += 1;
        bin.errors += u64::from(is_error);
        if let Some(duration_ns) = duration_ns(request) {
            bin.durations.observe(duration_ns);
        }
        if let Some(wait_ns) = phases(request)[Phase::Queue as usize] {
            bin.queue.observe(wait_ns);
        }
    }

    /// Takes a sample of the app.
    pub fn sample(&mut self, sample: AppSample) {
        let before = self.last_sample.replace(sample);
        let bin = self.bin(sample.time_ns);
        bin.in_flight = bin.in_flight.max(sample.in_flight);
        bin.backlog = bin.backlog.max(sample.backlog);
        if let Some(before) = before {
            bin.busy_ns += sample.busy_ns.saturating_sub(before.busy_ns);
            let passed_ns = sample.time_ns.saturating_sub(before.time_ns);
            bin.lived_ns += passed_ns * u64::from(sample.workers);
        }
    }

    /// The bin of a time; the oldest bin for a time that is too old.
    fn bin(&mut self, time_ns: u64) -> &mut Bin {
        let begin_ns = time_ns - time_ns % BIN_NS;
        // The common case.
        if self.bins.back().is_some_and(|bin| bin.begin_ns == begin_ns) {
            let newest = self.bins.len() - 1;
            return &mut self.bins[newest];
        }
        let newest = self.bins.back().map_or(begin_ns, |bin| bin.begin_ns);
        let kept_ns = BIN_NS * (BINS as u64 - 1);
        let oldest = newest.max(begin_ns).saturating_sub(kept_ns);
        while self.bins.front().is_some_and(|bin| bin.begin_ns < oldest) {
            self.bins.pop_front();
        }
        let begin_ns = begin_ns.max(oldest);
        let at = self.bins.partition_point(|bin| bin.begin_ns < begin_ns);
        if self.bins.get(at).is_none_or(|bin| bin.begin_ns != begin_ns) {
            self.bins.insert(at, Bin::new(begin_ns));
        }
        &mut self.bins[at]
    }

    /// The bins that end after `since_ns`.
    pub fn since(&self, since_ns: u64) -> impl DoubleEndedIterator<Item = &Bin> {
        let from = self
            .bins
            .partition_point(|bin| bin.begin_ns + BIN_NS <= since_ns);
        self.bins.range(from..)
    }

    /// The sum of the bins that end after `since_ns`; it begins with the first of them.
    #[must_use]
    pub fn sum(&self, since_ns: u64) -> Option<Bin> {
        let mut bins = self.since(since_ns);
        let first = bins.next()?;
        let mut sum = Bin::new(first.begin_ns);
        sum.merge(first);
        for bin in bins {
            sum.merge(bin);
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(finished_ns: u64) -> Request {
        Request {
            finished_ns,
            entered_ns: Some(finished_ns - 7_000_000),
            exited_ns: Some(finished_ns),
            established_ns: Some(finished_ns - 9_000_000),
            accepted_ns: Some(finished_ns - 8_000_000),
            ..Request::default()
        }
    }

    fn sample(time_ns: u64, busy_ns: u64, in_flight: u32) -> AppSample {
        AppSample {
            time_ns,
            busy_ns,
            workers: 2,
            in_flight,
            backlog: 1,
        }
    }

    #[test]
    fn requests_are_in_the_bin_in_which_they_finished() {
        let mut history = History::default();
        for time_ns in [BIN_NS, 2 * BIN_NS - 1, 2 * BIN_NS, 3 * BIN_NS + 1] {
            history.request(&finished(time_ns), time_ns == BIN_NS);
        }
        let of = |bin: &Bin| (bin.begin_ns / BIN_NS, bin.requests, bin.errors);
        let bins: Vec<_> = history.since(0).map(of).collect();
        assert_eq!(bins, [(1, 2, 1), (2, 1, 0), (3, 1, 0)]);
        assert_eq!(history.since(3 * BIN_NS).count(), 1);
        let sum = history.sum(2 * BIN_NS).unwrap();
        assert_eq!(of(&sum), (2, 2, 0));
        assert_eq!((sum.durations.count(), sum.queue.count()), (2, 2));
    }

    #[test]
    fn bins_are_bounded() {
        let mut history = History::default();
        for second in 0..5000 {
            history.sample(sample(second * 1_000_000_000, 0, 0));
        }
        assert_eq!(history.bins.len(), BINS);
        // A request that is reported late is counted nevertheless.
        history.request(&finished(BIN_NS), false);
        assert_eq!(history.bins.len(), BINS);
        assert_eq!(history.bins[0].requests, 1);
        // And so is one whose clock is far ahead.
        history.request(&finished(u64::MAX - 1), false);
        assert_eq!(history.bins.len(), 1);
    }

    #[test]
    fn busy_time_counts_from_one_sample_to_the_next() {
        let mut history = History::default();
        history.sample(sample(BIN_NS, 900, 3));
        let second = 1_000_000_000;
        history.sample(sample(BIN_NS + second, 900 + second, 1));
        let bin = history.sum(0).unwrap();
        assert_eq!(bin.utilisation(), Some(0.5));
        assert_eq!((bin.in_flight, bin.backlog), (3, 1));
    }

    #[test]
    fn utilisation_needs_two_samples() {
        let mut history = History::default();
        history.sample(sample(BIN_NS, 900, 3));
        assert_eq!(history.sum(0).unwrap().utilisation(), None);
        assert!(history.sum(3 * BIN_NS).is_none());
    }
}
