//! OpenMetrics 1.0 text of metric families.
//!
//! It differs from the older text where it must: a counter's family has no
//! `_total`, numbers are canonical floats, and the end is marked.

use prometheus::proto::{Metric, MetricFamily, MetricType};
use std::borrow::Cow;
use std::fmt::Write;

/// Encodes counters, gauges and histograms; families of other types are left out.
#[must_use]
pub fn encode(families: &[MetricFamily]) -> String {
    let mut out = String::new();
    for family in families {
        let name = family.name();
        match family.get_field_type() {
            MetricType::COUNTER => {
                let base = name.strip_suffix("_total").unwrap_or(name);
                head(&mut out, base, "counter", family.help());
                let name = format!("{base}_total");
                for metric in family.get_metric() {
                    sample(&mut out, &name, metric, metric.get_counter().get_value());
                }
            }
            MetricType::GAUGE => {
                head(&mut out, name, "gauge", family.help());
                for metric in family.get_metric() {
                    sample(&mut out, name, metric, metric.get_gauge().get_value());
                }
            }
            MetricType::HISTOGRAM => {
                head(&mut out, name, "histogram", family.help());
                for metric in family.get_metric() {
                    histogram(&mut out, name, metric);
                }
            }
            MetricType::SUMMARY | MetricType::UNTYPED => {}
        }
    }
    out.push_str("# EOF\n");
    out
}

/// A histogram has many samples with the same labels: those are written once.
#[expect(clippy::cast_precision_loss, reason = "an exported value is a float")]
fn histogram(out: &mut String, name: &str, metric: &Metric) {
    let value = metric.get_histogram();
    let labels = labels(metric);
    let begin = if labels.is_empty() { "{" } else { "," };
    let mut bucket = |limit: &str, count: u64| {
        let (labels, count) = (labels.strip_suffix('}').unwrap_or_default(), count as f64);
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            out,
            "{name}_bucket{labels}{begin}le=\"{limit}\"}} {count:?}"
        );
    };
    for of in value.get_bucket() {
        bucket(&format!("{:?}", of.upper_bound()), of.cumulative_count());
    }
    bucket("+Inf", value.get_sample_count());
    let count = value.get_sample_count() as f64;
    let _ = writeln!(out, "{name}_count{labels} {count:?}");
    let _ = writeln!(out, "{name}_sum{labels} {:?}", value.get_sample_sum());
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# TYPE {name} {kind}");
    let _ = writeln!(out, "# HELP {name} {}", escape(help));
}

/// A float is `1.0` there, not `1`.
fn sample(out: &mut String, name: &str, metric: &Metric, value: f64) {
    let _ = writeln!(out, "{name}{} {value:?}", labels(metric));
}

/// With their braces; empty if there are none.
fn labels(metric: &Metric) -> String {
    let mut out = String::new();
    let mut separator = '{';
    for label in metric.get_label() {
        out.push(separator);
        separator = ',';
        let _ = write!(out, "{}=\"{}\"", label.name(), escape(label.value()));
    }
    if separator == ',' {
        out.push('}');
    }
    out
}

fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '\n', '"']) {
        return text.into();
    }
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    text.replace('"', "\\\"").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::family::Family;
    use observer_model::counters::histogram::{BODY_SIZE, Histogram};

    #[test]
    fn families_are_written_as_openmetrics_has_them() {
        let mut counter = Family::counter("hits_total", "Hits.");
        counter.count(&[("path", "a\"b\\c")], 3);
        let mut gauge = Family::gauge("depth", "How deep.");
        gauge.add(&[], 0.5);
        let mut size = Family::histogram("size", "How big.");
        let mut values = Histogram::new(&BODY_SIZE);
        values.observe(5000);
        size.observe(&[], &values);
        size.observe(&[("a", "}")], &Histogram::new(&BODY_SIZE));
        let families: Vec<_> = [counter, gauge, size]
            .into_iter()
            .filter_map(Family::build)
            .collect();
        let expected = "\
# TYPE hits counter
# HELP hits Hits.
hits_total{path=\"a\\\"b\\\\c\"} 3.0
# TYPE depth gauge
# HELP depth How deep.
depth 0.5
# TYPE size histogram
# HELP size How big.
size_bucket{le=\"1024.0\"} 0.0
size_bucket{le=\"4096.0\"} 0.0
size_bucket{le=\"16384.0\"} 1.0
size_bucket{le=\"65536.0\"} 1.0
size_bucket{le=\"262144.0\"} 1.0
size_bucket{le=\"1048576.0\"} 1.0
size_bucket{le=\"4194304.0\"} 1.0
size_bucket{le=\"+Inf\"} 1.0
size_count 1.0
size_sum 5000.0
size_bucket{a=\"}\",le=\"1024.0\"} 0.0
size_bucket{a=\"}\",le=\"4096.0\"} 0.0
size_bucket{a=\"}\",le=\"16384.0\"} 0.0
size_bucket{a=\"}\",le=\"65536.0\"} 0.0
size_bucket{a=\"}\",le=\"262144.0\"} 0.0
size_bucket{a=\"}\",le=\"1048576.0\"} 0.0
size_bucket{a=\"}\",le=\"4194304.0\"} 0.0
size_bucket{a=\"}\",le=\"+Inf\"} 0.0
size_count{a=\"}\"} 0.0
size_sum{a=\"}\"} 0.0
# EOF
";
        assert_eq!(encode(&families), expected);
    }
}
