//! Histograms of nanoseconds or bytes. They are integers, so sums and merges are exact.

/// The buckets of a histogram.
#[derive(Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Upper limits, ascending, inclusive.
    pub limits: &'static [u64],
    /// Units of the limits in one exported unit.
    pub per_unit: u32,
}

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const S: u64 = 1_000 * MS;
const SECOND: u32 = 1_000_000_000;

/// `gunicorn_worker_request_duration_seconds`, with the buckets of gunicorn-prometheus-exporter
/// 0.2.4.
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
/// Sizes of bodies, with the buckets of gunicorn-prometheus-exporter 0.2.4.
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
/// `http.server.request.duration`, with the buckets of OpenTelemetry's HTTP conventions.
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
/// Phases of a request, most of which are far shorter than the request.
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

/// Durations for charts and percentiles: finer buckets, from 0.1 ms to one minute.
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

/// Limits of a histogram, at most.
const MAX_LIMITS: usize = 24;

/// A number of values for each bucket. The counts lie within it, whatever their number: a histogram
/// behind a pointer costs a cache miss more for each value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static Bounds,
    count: u64,
    sum: u64,
    max: u64,
    /// Values of each bucket. Those above all limits are only in `count`.
    counts: [u64; MAX_LIMITS],
}

impl Histogram {
    #[must_use]
    pub fn new(bounds: &'static Bounds) -> Self {
        debug_assert!(bounds.limits.len() <= MAX_LIMITS, "room for all buckets");
        Self {
            bounds,
            count: 0,
            sum: 0,
            max: 0,
            counts: [0; MAX_LIMITS],
        }
    }

    /// Adds a value.
    pub fn observe(&mut self, value: u64) {
        let at = self.bounds.limits.partition_point(|&limit| limit < value);
        if at < self.bounds.limits.len() {
            self.counts[at] += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.max = self.max.max(value);
    }

    /// Adds all values of a histogram with the same bounds.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds, "histograms of one family");
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// The number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The number of its buckets, with the one above all limits.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.bounds.limits.len() + 1
    }

    /// The sum of the values, in exported units.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an exported sum is a float")]
    pub fn sum(&self) -> f64 {
        self.sum as f64 / f64::from(self.bounds.per_unit)
    }

    /// The number of values in each bucket, and above all limits. A value at a limit is below it.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        let counts = &self.counts[..self.bounds.limits.len()];
        let above = self.count - counts.iter().sum::<u64>();
        counts.iter().copied().chain([above]).collect()
    }

    /// The quantile `q`, in exported units: interpolated between the limits of its bucket, and at
    /// most the greatest value. `None` without values.
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

    /// Each limit, in exported units, and the number of values at or below it.
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
    fn limits_are_exported_as_decimal_seconds() {
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
