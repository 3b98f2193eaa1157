//! Medians, with how far what was measured lies apart.

use std::fmt;

/// The median of many measurements, and between which values the middle half of them lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
    count: usize,
}

impl Spread {
    /// Of none, nothing is known: all is NaN.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            let index = (values.len() * quarter / 4).min(values.len().saturating_sub(1));
            values.get(index).copied().unwrap_or(f64::NAN)
        };
        Self {
            low: at(1),
            median: at(2),
            high: at(3),
            count: values.len(),
        }
    }

    /// How far the median may be off: the notch of a box plot, which the medians of 95 of 100
    /// repetitions lie within (McGill, Tukey, Larsen: Variations of Box Plots, 1978).
    pub fn error(&self) -> f64 {
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        1.57 * (self.high - self.low) / f64::from(count).sqrt()
    }

    /// The median and how far it may be off.
    pub fn with_error(&self, decimals: usize) -> String {
        format!("{:.decimals$} ± {:.decimals$}", self.median, self.error())
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            low, median, high, ..
        } = self;
        let decimals = f.precision().unwrap_or(2);
        write!(
            f,
            "{median:.decimals$} ({low:.decimals$}–{high:.decimals$})"
        )
    }
}

/// Whether an aim is reached by so much, where that may be off by an error.
pub fn verdict(margin: f64, error: f64) -> &'static str {
    match () {
        () if margin >= error => "reached",
        () if margin >= -error => "within the error",
        () => "missed",
    }
}

/// The mean of the middle half: finer than a median where values are whole numbers.
pub fn midmean(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let quarter = values.len() / 4;
    let middle = &values[quarter..values.len() - quarter];
    middle.iter().sum::<f64>() / middle.len() as f64
}

/// Each value against the mean of the one before it and the one after it, of every other one from
/// `first` on: what changes slowly is the same on both sides.
pub fn between_neighbours(
    values: &[f64],
    first: usize,
    compared: impl Fn(f64, f64) -> f64,
) -> Vec<f64> {
    let triples = values.windows(3).skip(first.saturating_sub(1)).step_by(2);
    let compare = |triple: &[f64]| match *triple {
        [before, value, after] => Some(compared(value, f64::midpoint(before, after))),
        _ => None,
    };
    triples.filter_map(compare).collect()
}

#[cfg(test)]
mod tests {
    use super::{Spread, between_neighbours, midmean};

    #[test]
    fn half_of_the_values_lie_within_the_quartiles() {
        let spread = Spread::of([9.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(format!("{spread:.1}"), "3.0 (2.0–4.0)");
        assert_eq!(format!("{:.3}", spread.error()), "1.404");
        assert!(Spread::of([]).median.is_nan());
    }

    #[test]
    fn outliers_do_not_move_the_mean_of_the_middle_half() {
        assert_eq!(midmean([900.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(midmean([]).is_nan());
    }

    #[test]
    fn a_slow_drift_is_no_difference() {
        // Each is one more than the one before; every other one costs ten besides.
        let values = [0.0, 11.0, 2.0, 13.0, 4.0];
        let added = between_neighbours(&values, 1, |value, others| value - others);
        assert_eq!(added, [10.0, 10.0]);
    }
}
