//! Histograms of integers: nanoseconds or bytes, exact to add and to merge.

/// The buckets of a histogram.
#[derive(Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Upper limits, ascending, inclusive.
    pub limits: &'static [u64],
    /// How many units of the limits make one unit as exported.
    pub per_unit: u32,
}

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const S: u64 = 1_000 * MS;
const SECOND: u32 = 1_000_000_000;

/// `gunicorn_worker_request_duration_seconds`: as gunicorn-prometheus-exporter 0.2.4 has them.
pub static WORKER_DURATION: Bounds = Bounds {
    limits: &[
        100 * MS,
        500 * MS,
        S,
        2_500 * MS,
        5 * S,
        10 * S,
        30 * S,
        60 * S,
    ],
    per_unit: SECOND,
};
/// Sizes of bodies: likewise.
pub static BODY_SIZE: Bounds = Bounds {
    limits: &[
        1 << 10,
        1 << 12,
        1 << 14,
        1 << 16,
        1 << 18,
        1 << 20,
        1 << 22,
    ],
    per_unit: 1,
};
/// `http.server.request.duration`: as OpenTelemetry's HTTP conventions advise.
pub static HTTP_DURATION: Bounds = Bounds {
    limits: &[
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        75 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        750 * MS,
        S,
        2_500 * MS,
        5 * S,
        7_500 * MS,
        10 * S,
    ],
    per_unit: SECOND,
};
/// Phases of a request: most are far shorter than it.
pub static PHASE: Bounds = Bounds {
    limits: &[
        100 * US,
        250 * US,
        500 * US,
        MS,
        2_500 * US,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
        2_500 * MS,
        5 * S,
        10 * S,
        30 * S,
    ],
    per_unit: SECOND,
};

/// Durations for charts and percentiles: finer, from a tenth of a millisecond to a minute.
pub static HISTORY: Bounds = Bounds {
    limits: &[
        100 * US,
        200 * US,
        300 * US,
        500 * US,
        MS,
        2 * MS,
        3 * MS,
        5 * MS,
        10 * MS,
        20 * MS,
        30 * MS,
        50 * MS,
        100 * MS,
        200 * MS,
        300 * MS,
        500 * MS,
        S,
        2 * S,
        3 * S,
        5 * S,
        10 * S,
        20 * S,
        30 * S,
        60 * S,
    ],
    per_unit: SECOND,
};

/// `gunicorn_worker_gc_pause_seconds`: from a young generation to millions of objects.
pub static GC_PAUSE: Bounds = Bounds {
    limits: &[
        10 * US,
        25 * US,
        50 * US,
        100 * US,
        250 * US,
        500 * US,
        MS,
        2_500 * US,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
    ],
    per_unit: SECOND,
};

/// How often values fell into each bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static Bounds,
    /// One for each limit; the values above all of them are only in `count`.
    counts: Box<[u64]>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Histogram {
    #[must_use]
    pub fn new(bounds: &'static Bounds) -> Self {
        let counts = vec![0; bounds.limits.len()].into_boxed_slice();
        Self {
            bounds,
            counts,
            count: 0,
            sum: 0,
            max: 0,
        }
    }

    /// Adds a value.
    pub fn observe(&mut self, value: u64) {
        let at = self.bounds.limits.partition_point(|&limit| limit < value);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.max = self.max.max(value);
    }

    /// Adds all values of another one with the same bounds.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds, "histograms of one family");
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// Values seen.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum, in exported units.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an exported sum is a float")]
    pub fn sum(&self) -> f64 {
        self.sum as f64 / f64::from(self.bounds.per_unit)
    }

    /// How many values are in each bucket: at most its limit, and above the one before; the last
    /// are above all limits.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        let above = self.count - self.counts.iter().sum::<u64>();
        self.counts.iter().copied().chain([above]).collect()
    }

    /// The value, in exported units, that a share `q` of all values is not above: by a line from
    /// the lower to the upper limit of the bucket that it is in, and never above the greatest of all.
    /// `None` without values.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a quantile is an estimate")]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q * self.count as f64;
        let max = self.max as f64 / f64::from(self.bounds.per_unit);
        let mut below = 0.0;
        let mut lower = 0.0;
        for ((upper, _), &count) in self.cumulative().zip(&self.counts) {
            let count = count as f64;
            if count > 0.0 && below + count >= rank {
                let part = ((rank - below) / count).clamp(0.0, 1.0);
                return Some((lower + (upper - lower) * part).min(max));
            }
            below += count;
            lower = upper;
        }
        (self.count > 0).then_some(max)
    }

    /// Upper limit in exported units, and how many values are at or below it.
    #[expect(clippy::cast_precision_loss, reason = "an exported limit is a float")]
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let limits = self
            .bounds
            .limits
            .iter()
            .map(|&limit| limit as f64 / f64::from(self.bounds.per_unit));
        limits.zip(self.counts.iter().scan(0, |below, count| {
            *below += count;
            Some(*below)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_a_limit_is_below_it() {
        let mut histogram = Histogram::new(&BODY_SIZE);
        for value in [0, 1024, 1025, u64::MAX] {
            histogram.observe(value);
        }
        let cumulative: Vec<_> = histogram.cumulative().take(2).collect();
        assert_eq!(cumulative, [(1024.0, 2), (4096.0, 3)]);
        assert_eq!(histogram.count(), 4);
    }

    #[test]
    fn merging_is_the_same_as_observing_all() {
        let values = [5 * MS, 20 * S, 1, 100 * MS];
        let mut all = Histogram::new(&HTTP_DURATION);
        let (mut a, mut b) = (all.clone(), all.clone());
        for (i, value) in values.into_iter().enumerate() {
            all.observe(value);
            let half = if i % 2 == 0 { &mut a } else { &mut b };
            half.observe(value);
        }
        a.merge(&b);
        assert_eq!(a, all);
    }

    #[test]
    fn quantiles_lie_within_the_bucket_of_their_value() {
        let mut histogram = Histogram::new(&HISTORY);
        assert_eq!(histogram.quantile(0.5), None);
        for ms in 1..=100 {
            histogram.observe(ms * MS);
        }
        for (q, at_least, at_most) in [(0.0, 0.0, 0.001), (0.5, 0.03, 0.05), (0.99, 0.05, 0.1)] {
            let quantile = histogram.quantile(q).unwrap();
            assert!((at_least..=at_most).contains(&quantile), "{q}: {quantile}");
        }
        // Evenly spread within the bucket of 50 to 100 ms.
        assert!((histogram.quantile(0.75).unwrap() - 0.075).abs() < 1e-9);
        histogram.observe(110 * MS);
        assert_eq!(histogram.quantile(1.0), Some(0.11));
        histogram.observe(100 * S);
        assert_eq!(histogram.quantile(1.0), Some(100.0));
        assert_eq!(histogram.counts().last(), Some(&1));
        assert_eq!(histogram.counts().iter().sum::<u64>(), histogram.count());
    }

    #[test]
    fn limits_are_exported_as_written() {
        let limits: Vec<_> = Histogram::new(&HTTP_DURATION)
            .cumulative()
            .map(|(le, _)| le)
            .collect();
        let expected = [
            0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
        ];
        assert_eq!(limits, expected);
    }
}
