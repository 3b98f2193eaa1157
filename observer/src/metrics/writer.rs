//! Text of families: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! The two differ in four places: the order of the lines that describe a family, the name of a
//! counter's family (no `_total` in OpenMetrics), the form of numbers (canonical floats there) and
//! the order of a histogram's sum and count. OpenMetrics also marks the end.

use super::exposition::Format;
use super::family::{Family, Kind};
use super::series::{Series, Value};
use observer_model::counters::histogram::Histogram;
use std::fmt::Write as _;

/// Integers up to here are exact as floats, and both formats write them as digits.
const EXACT: u64 = 1 << 53;

/// An exposition in the making.
pub struct Writer {
    format: Format,
    out: String,
}

impl Writer {
    /// A writer of about so many bytes.
    #[must_use]
    pub fn new(format: Format, bytes: usize) -> Self {
        let out = String::with_capacity(bytes);
        Self { format, out }
    }

    /// Writes a family; nothing if it has no series.
    pub fn family(&mut self, series: &Series) {
        if series.is_empty() {
            return;
        }
        let family = series.family();
        self.describe(family);
        // Each with the label `le` that it writes: the same for all series of a family.
        let mut buckets = Vec::new();
        series.each(|labels, value| {
            let value = match value {
                Value::Number(value) => {
                    self.begin(family.name, "", labels);
                    return self.number(*value);
                }
                Value::Histogram(one) => one,
                Value::Sum(sum) => &**sum,
            };
            if buckets.is_empty() {
                buckets = self.buckets(value);
            }
            self.histogram(family.name, labels, value, &buckets);
        });
    }

    /// The finished text.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn describe(&mut self, family: &Family) {
        let Family { name, help, .. } = family;
        let kind = family.kind.as_str();
        // Writing to a string cannot fail.
        let _ = match (self.format, family.kind) {
            (Format::Text, _) => write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n"),
            (Format::OpenMetrics, of) => {
                let suffix = if of == Kind::Counter { "_total" } else { "" };
                let name = name.strip_suffix(suffix).unwrap_or(name);
                write!(self.out, "# TYPE {name} {kind}\n# HELP {name} {help}\n")
            }
        };
    }

    /// A line up to its value.
    fn begin(&mut self, name: &str, suffix: &str, labels: &str) {
        self.out.extend([name, suffix]);
        if !labels.is_empty() {
            self.out.extend(["{", labels, "}"]);
        }
        self.out.push(' ');
    }

    fn histogram(&mut self, name: &str, labels: &str, value: &Histogram, buckets: &[String]) {
        let separator = if labels.is_empty() { "" } else { "," };
        let line = [name, "_bucket{", labels, separator].concat();
        let counts = value.cumulative().map(|(_, count)| count);
        for (bucket, count) in buckets.iter().zip(counts.chain([value.count()])) {
            self.out.extend([&*line, bucket]);
            self.count(count);
        }
        let parts = match self.format {
            Format::Text => ["_sum", "_count"],
            Format::OpenMetrics => ["_count", "_sum"],
        };
        for part in parts {
            self.begin(name, part, labels);
            match part {
                "_sum" => self.number(value.sum()),
                _ => self.count(value.count()),
            }
        }
    }

    /// The limits of a histogram's buckets, as the last label of a line.
    fn buckets(&self, histogram: &Histogram) -> Vec<String> {
        let limits = histogram.cumulative().map(|(limit, _)| match self.format {
            Format::Text => format!("le=\"{limit}\"}} "),
            Format::OpenMetrics => format!("le=\"{limit:?}\"}} "),
        });
        limits.chain(["le=\"+Inf\"} ".to_owned()]).collect()
    }

    /// The end of a line: a count.
    #[expect(clippy::cast_precision_loss, reason = "an exported value is a float")]
    fn count(&mut self, count: u64) {
        if count > EXACT {
            return self.float(count as f64);
        }
        self.out.push_str(itoa::Buffer::new().format(count));
        self.out.push_str(match self.format {
            Format::Text => "\n",
            Format::OpenMetrics => ".0\n",
        });
    }

    /// The end of a line: any number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a number that is a count comes back as it was"
    )]
    fn number(&mut self, value: f64) {
        let count = value as u64;
        if (count as f64).to_bits() == value.to_bits() {
            self.count(count);
        } else {
            self.float(value);
        }
    }

    fn float(&mut self, value: f64) {
        let _ = match self.format {
            Format::Text => writeln!(self.out, "{value}"),
            Format::OpenMetrics => writeln!(self.out, "{value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::family::{Read, Unit};
    use observer_model::counters::histogram::BODY_SIZE;

    const fn family(name: &'static str, kind: Kind, labels: &'static [&'static str]) -> Family {
        Family {
            name,
            kind,
            unit: Unit::One,
            labels,
            help: "Help.",
            read: Read::Observer(|_, _| ()),
        }
    }

    const HITS: Family = family("hits_total", Kind::Counter, &["path"]);
    const DEPTH: Family = family("depth", Kind::Gauge, &[]);
    const SIZE: Family = family("size", Kind::Histogram, &["a"]);

    fn written(format: Format, series: Series) -> String {
        let mut writer = Writer::new(format, 0);
        writer.family(&series.sorted());
        writer.finish()
    }

    #[test]
    fn openmetrics_names_a_counter_without_its_suffix() {
        let mut hits = Series::new(&HITS);
        hits.put_for(["a\"b\\c"], 3_u64);
        let expected = "\
# TYPE hits counter
# HELP hits Help.
hits_total{path=\"a\\\"b\\\\c\"} 3.0
# EOF
";
        assert_eq!(written(Format::OpenMetrics, hits), expected);
    }

    #[test]
    fn a_histogram_has_cumulative_buckets() {
        let mut values = Histogram::new(&BODY_SIZE);
        values.observe(5000);
        let mut size = Series::new(&SIZE);
        size.put_for(["}"], &values);
        let expected = "\
# HELP size Help.
# TYPE size histogram
size_bucket{a=\"}\",le=\"1024\"} 0
size_bucket{a=\"}\",le=\"4096\"} 0
size_bucket{a=\"}\",le=\"16384\"} 1
size_bucket{a=\"}\",le=\"65536\"} 1
size_bucket{a=\"}\",le=\"262144\"} 1
size_bucket{a=\"}\",le=\"1048576\"} 1
size_bucket{a=\"}\",le=\"4194304\"} 1
size_bucket{a=\"}\",le=\"+Inf\"} 1
size_sum{a=\"}\"} 5000
size_count{a=\"}\"} 1
";
        assert_eq!(written(Format::Text, size), expected);
    }

    #[test]
    fn a_family_without_series_is_left_out() {
        let mut depth = Series::new(&DEPTH);
        depth.put(f64::NAN);
        depth.put(None::<u64>);
        assert_eq!(written(Format::Text, depth), "");
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_formats_floats() {
        for value in [
            0.0,
            -0.0,
            0.5,
            1.0,
            -1.0,
            1e-7,
            1e15,
            9e15,
            1e16,
            1.5e16,
            1e20,
            1e300,
            0.1 + 0.2,
        ] {
            for (format, expected) in [
                (Format::Text, format!("{value}\n")),
                (Format::OpenMetrics, format!("{value:?}\n")),
            ] {
                let mut writer = Writer::new(format, 0);
                writer.number(value);
                assert_eq!(writer.out, expected);
            }
        }
    }
}
