//! Building of metric families.
//!
//! Whatever names an observed process gives itself, no series appears twice: two
//! with the same labels become one. Series are in the order of their labels.

use observer_model::counters::histogram::Histogram;
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::BTreeMap;

/// Characters of a label value; what is longer is cut.
const MAX_VALUE_CHARS: usize = 256;

/// Name and value of a label.
pub type Label<'a> = (&'static str, &'a str);

/// Labels of a series.
pub type Labels<'a> = &'a [Label<'a>];

/// A family under construction.
pub struct Family {
    name: &'static str,
    help: &'static str,
    series: Series,
}

enum Series {
    Counter(BTreeMap<Vec<(&'static str, String)>, f64>),
    Gauge(BTreeMap<Vec<(&'static str, String)>, f64>),
    Histogram(BTreeMap<Vec<(&'static str, String)>, Histogram>),
}

impl Family {
    #[must_use]
    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            series: Series::Counter(BTreeMap::new()),
        }
    }

    #[must_use]
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            series: Series::Gauge(BTreeMap::new()),
        }
    }

    #[must_use]
    pub fn histogram(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            series: Series::Histogram(BTreeMap::new()),
        }
    }

    /// Adds a series of a counter or gauge. What is not finite is left out.
    pub fn add(&mut self, labels: Labels, value: f64) {
        if !value.is_finite() {
            return;
        }
        match &mut self.series {
            Series::Counter(series) => *series.entry(owned(labels)).or_default() += value,
            Series::Gauge(series) => {
                series.insert(owned(labels), value);
            }
            Series::Histogram(_) => debug_assert!(false, "{} is a histogram", self.name),
        }
    }

    /// Adds a series of a counter.
    #[expect(clippy::cast_precision_loss, reason = "an exported value is a float")]
    pub fn count(&mut self, labels: Labels, value: u64) {
        self.add(labels, value as f64);
    }

    /// Adds a series of a histogram.
    pub fn observe(&mut self, labels: Labels, histogram: &Histogram) {
        let Series::Histogram(series) = &mut self.series else {
            debug_assert!(false, "{} is no histogram", self.name);
            return;
        };
        let known = series.entry(owned(labels));
        known
            .and_modify(|known| known.merge(histogram))
            .or_insert_with(|| histogram.clone());
    }

    /// As the `prometheus` crate has it; `None` without a series.
    #[must_use]
    pub fn build(self) -> Option<MetricFamily> {
        let (kind, metrics): (_, Vec<Metric>) = match self.series {
            Series::Counter(series) => {
                let metric = |(labels, value)| {
                    let mut counter = proto::Counter::default();
                    counter.set_value(value);
                    let mut metric = Metric::from_label(pairs(labels));
                    metric.set_counter(counter);
                    metric
                };
                (
                    MetricType::COUNTER,
                    series.into_iter().map(metric).collect(),
                )
            }
            Series::Gauge(series) => {
                let metric = |(labels, value)| {
                    let mut gauge = proto::Gauge::default();
                    gauge.set_value(value);
                    let mut metric = Metric::from_label(pairs(labels));
                    metric.set_gauge(gauge);
                    metric
                };
                (MetricType::GAUGE, series.into_iter().map(metric).collect())
            }
            Series::Histogram(series) => {
                let metric = |(labels, value): (_, Histogram)| {
                    let mut metric = Metric::from_label(pairs(labels));
                    metric.set_histogram(histogram(&value));
                    metric
                };
                (
                    MetricType::HISTOGRAM,
                    series.into_iter().map(metric).collect(),
                )
            }
        };
        if metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        Some(family)
    }
}

fn histogram(value: &Histogram) -> proto::Histogram {
    let bucket = |(limit, count)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(limit);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_sample_count(value.count());
    histogram.set_sample_sum(value.sum());
    histogram.set_bucket(value.cumulative().map(bucket).collect());
    histogram
}

fn owned(labels: Labels) -> Vec<(&'static str, String)> {
    labels
        .iter()
        .map(|&(name, value)| (name, clean(value)))
        .collect()
}

/// Label values come from observed processes and their clients: no control
/// characters, no endless ones. The encoders escape the rest.
fn clean(value: &str) -> String {
    let visible = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    value.chars().take(MAX_VALUE_CHARS).map(visible).collect()
}

fn pairs(labels: Vec<(&'static str, String)>) -> Vec<LabelPair> {
    let pair = |(name, value): (&str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    };
    labels.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_labels_are_one_series() {
        let mut family = Family::counter("a_total", "A.");
        family.count(&[("x", "1")], 2);
        family.count(&[("x", "1")], 3);
        family.add(&[("x", "2")], f64::NAN);
        let family = family.build().unwrap();
        assert_eq!(family.get_metric().len(), 1);
        assert_eq!(
            family.get_metric()[0].get_counter().get_value().to_string(),
            "5"
        );
    }

    #[test]
    fn a_family_without_series_is_not_there() {
        assert!(Family::gauge("a", "A.").build().is_none());
    }

    #[test]
    fn hostile_values_are_made_harmless() {
        assert_eq!(clean("a\nb\0\u{85}"), "a\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(clean(&"é".repeat(1000)).chars().count(), MAX_VALUE_CHARS);
    }
}
