//! OpenMetrics 1.0 text of metric families.
//!
//! It differs from the older text where it must: a counter's family has no
//! `_total`, numbers are canonical floats, and the end is marked.

use prometheus::proto::{Metric, MetricFamily, MetricType};
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
                for metric in family.get_metric() {
                    let value = metric.get_counter().get_value();
                    sample(&mut out, base, "_total", metric, None, value);
                }
            }
            MetricType::GAUGE => {
                head(&mut out, name, "gauge", family.help());
                for metric in family.get_metric() {
                    sample(
                        &mut out,
                        name,
                        "",
                        metric,
                        None,
                        metric.get_gauge().get_value(),
                    );
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

#[expect(clippy::cast_precision_loss, reason = "an exported value is a float")]
fn histogram(out: &mut String, name: &str, metric: &Metric) {
    let value = metric.get_histogram();
    for bucket in value.get_bucket() {
        let limit = number(bucket.upper_bound());
        let count = bucket.cumulative_count() as f64;
        sample(out, name, "_bucket", metric, Some(&limit), count);
    }
    let count = value.get_sample_count() as f64;
    sample(out, name, "_bucket", metric, Some("+Inf"), count);
    sample(out, name, "_count", metric, None, count);
    sample(out, name, "_sum", metric, None, value.get_sample_sum());
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# TYPE {name} {kind}");
    let _ = writeln!(out, "# HELP {name} {}", escape(help));
}

fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    metric: &Metric,
    le: Option<&str>,
    value: f64,
) {
    out.push_str(name);
    out.push_str(suffix);
    let labels = metric
        .get_label()
        .iter()
        .map(|label| (label.name(), label.value()));
    let mut separator = '{';
    for (name, value) in labels.chain(le.map(|le| ("le", le))) {
        out.push(separator);
        separator = ',';
        let _ = write!(out, "{name}=\"{}\"", escape(value));
    }
    if separator == ',' {
        out.push('}');
    }
    let _ = writeln!(out, " {}", number(value));
}

/// A float as OpenMetrics wants it: `1.0`, not `1`.
fn number(value: f64) -> String {
    format!("{value:?}")
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::{BODY_SIZE, Histogram};
    use crate::sink::family::Family;

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
# EOF
";
        assert_eq!(encode(&families), expected);
    }
}
