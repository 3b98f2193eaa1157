//! Busy time of a worker: the time with at least one request, however many there are at once.
//!
//! ```text
//!   seen_ns            at_ns of the next sample
//!   ──┼──[ a ]──[  b  ]──┼── time
//!     │    [ c ──────────┼─> still in flight: counts up to now
//! ```
//!
//! Requests that finish between two samples of the requests in flight are kept as intervals. Each
//! sample counts them, and the requests in flight, up to its own time. So no time is counted twice,
//! and no interval is kept longer than until the next sample.

/// Intervals kept between two samples; beyond that, a new one that overlaps none is lost.
const MAX_INTERVALS: usize = 4096;

/// The busy time of one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    /// Counted until then.
    seen_ns: u64,
    /// Since then, in order, without overlaps.
    intervals: Vec<(u64, u64)>,
}

impl Busy {
    /// A request was served in this time.
    pub fn served(&mut self, begin_ns: u64, end_ns: u64) {
        let begin_ns = begin_ns.max(self.seen_ns);
        if end_ns <= begin_ns {
            return;
        }
        // Requests finish roughly in order: an overlap is at the end, if there is one.
        let is_last = self.intervals.last().is_none_or(|&(_, end)| end < begin_ns);
        if is_last && self.intervals.len() < MAX_INTERVALS {
            self.intervals.push((begin_ns, end_ns));
            return;
        }
        let first = self.intervals.partition_point(|&(_, end)| end < begin_ns);
        let last = self
            .intervals
            .partition_point(|&(begin, _)| begin <= end_ns);
        if first == last && self.intervals.len() >= MAX_INTERVALS {
            return;
        }
        let overlapped = self.intervals.get(first..last).unwrap_or_default();
        let begin_ns = overlapped
            .first()
            .map_or(begin_ns, |&(b, _)| b.min(begin_ns));
        let end_ns = overlapped.last().map_or(end_ns, |&(_, e)| e.max(end_ns));
        self.intervals.splice(first..last, [(begin_ns, end_ns)]);
    }

    /// Counts up to `at_ns`, given the start of the oldest request in flight, if there is one. Returns
    /// the busy time since the last sample.
    pub fn count_until(&mut self, at_ns: u64, oldest_ns: Option<u64>) -> u64 {
        if at_ns <= self.seen_ns {
            return 0;
        }
        if let Some(oldest_ns) = oldest_ns {
            self.served(oldest_ns, at_ns);
        }
        let mut busy_ns = 0;
        let mut later = Vec::new();
        for &(begin, end) in &self.intervals {
            busy_ns += end.min(at_ns).saturating_sub(begin);
            if end > at_ns {
                later.push((begin.max(at_ns), end));
            }
        }
        self.intervals = later;
        self.seen_ns = at_ns;
        busy_ns
    }

    /// The worker exited: returns the busy time since the last sample.
    pub fn end(&mut self) -> u64 {
        self.count_until(u64::MAX, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn overlapping_requests_count_once() {
        let mut busy = Busy::default();
        busy.served(10, 20);
        busy.served(15, 30);
        busy.served(40, 50);
        busy.served(45, 46);
        assert_eq!(busy.count_until(100, None), 30);
        assert_eq!(busy.count_until(200, None), 0);
    }

    #[test]
    fn a_request_in_progress_counts_up_to_now_and_not_again_when_it_finishes() {
        let mut busy = Busy::default();
        busy.served(10, 20);
        assert_eq!(busy.count_until(100, Some(60)), 50);
        assert_eq!(busy.count_until(150, Some(60)), 50);
        busy.served(60, 170);
        assert_eq!(busy.count_until(200, None), 20);
    }

    #[test]
    fn a_request_that_finishes_after_a_look_is_split_by_it() {
        let mut busy = Busy::default();
        busy.served(10, 30);
        assert_eq!(busy.count_until(20, None), 10);
        assert_eq!(busy.count_until(40, None), 10);
        // A sample that comes late changes nothing.
        assert_eq!(busy.count_until(30, Some(0)), 0);
        busy.served(50, 60);
        assert_eq!(busy.end(), 10);
    }

    proptest! {
        #[test]
        fn busy_time_is_the_union_of_all_requests_however_many_looks_there_are(
            requests in prop::collection::vec((0u64..500, 1u64..100), 0..40),
            samples in prop::collection::vec(1u64..700, 0..10),
        ) {
            let mut samples = samples;
            samples.sort_unstable();
            samples.push(1000);
            let mut ends: Vec<_> = requests.iter().map(|&(b, len)| (b + len, b)).collect();
            ends.sort_unstable();
            let mut busy = Busy::default();
            let (mut total, mut next) = (0, 0);
            for at in samples {
                while let Some(&(end, begin)) = ends.get(next).filter(|&&(end, _)| end <= at) {
                    busy.served(begin, end);
                    next += 1;
                }
                let pending = ends[next..].iter().map(|&(_, begin)| begin).filter(|&b| b < at);
                total += busy.count_until(at, pending.min());
            }
            let union = (0..1000u64).filter(|t| requests.iter().any(|&(b, len)| (b..b + len).contains(t)));
            prop_assert_eq!(total, union.count() as u64);
        }
    }
}
