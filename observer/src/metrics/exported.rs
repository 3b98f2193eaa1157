//! For tests: the families of a view as data.

use super::family::{self, Family};
use super::series::Value;
use super::subjects::Subjects;
use observer_model::settings::WorkerLabel;
use observer_model::views::metrics_view::MetricsView;

/// A family with at least one series.
pub struct Exported {
    pub family: &'static Family,
    pub series: Vec<Sample>,
}

/// A series.
#[derive(Debug)]
pub struct Sample {
    /// Names and values, in order.
    pub labels: Vec<(String, String)>,
    /// One number; of a histogram its cumulative buckets and its count.
    pub numbers: Vec<f64>,
}

impl Sample {
    pub fn label(&self, wanted: &str) -> Option<&str> {
        let mut labels = self.labels.iter();
        labels.find_map(|(name, value)| (name == wanted).then_some(&**value))
    }
}

/// All families of a view.
pub fn exported(view: &MetricsView, label: WorkerLabel) -> Vec<Exported> {
    let subjects = Subjects::of(view, label);
    let read = |family| {
        let series = subjects.read(family);
        let samples = series.samples().map(|(labels, value)| Sample {
            labels: labels
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            numbers: numbers(value),
        });
        let series = samples.collect();
        Exported { family, series }
    };
    family::all()
        .map(read)
        .filter(|family| !family.series.is_empty())
        .collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    let histogram = match value {
        Value::Number(number) => return vec![*number],
        Value::Histogram(one) => one,
        Value::Sum(sum) => &**sum,
    };
    let counts = histogram.cumulative().map(|(_, count)| count);
    let all = counts.chain([histogram.count()]);
    all.map(|count| count as f64).collect()
}
