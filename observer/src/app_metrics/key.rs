//! Keys of values: `["family", "sample", {"label": "value"}, "help"]` as JSON (`prometheus_client`,
//! `mmap_dict.py`, `mmap_key`). Before version 0.15 there was no help.

use super::file_name::Kind;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Longer keys are refused: they hold a name, labels and a help text.
const MAX_BYTES: usize = 8 << 10;
/// A longer help text is cut off.
const MAX_HELP_CHARS: usize = 1024;
/// The help text of old versions (`multiprocess.py`).
const NO_HELP: &str = "Multiprocess metric";
/// The label that has the limit of a bucket.
const LIMIT: &str = "le";

/// Names and values of labels, by name.
pub type Labels = BTreeMap<String, String>;

/// A key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Without `_total`.
    pub family: String,
    pub part: Part,
    /// Without that of a bucket's limit.
    pub labels: Labels,
    pub help: String,
}

/// What a value is of its family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// The value of a gauge, or of a counter of old versions.
    Value,
    /// The value of a counter.
    Total,
    Sum,
    Count,
    /// Observations up to this limit and above the next lower one.
    Bucket(f64),
}

impl Key {
    /// Reads the key of a value in a file of this type; `None` if it is not one that
    /// `prometheus_client` writes, or has names that the text format cannot hold.
    #[must_use]
    pub fn parse(key: &[u8], kind: Kind) -> Option<Self> {
        if key.len() > MAX_BYTES {
            return None;
        }
        let (family, sample, mut labels, help) = fields(key)?;
        if !is_name(&family, true) || !labels.keys().all(|name| is_label_name(name)) {
            return None;
        }
        let part = match (kind, sample.strip_prefix(&*family)?) {
            (Kind::Counter, "_total") => Part::Total,
            (Kind::Counter | Kind::Gauge(_), "") => Part::Value,
            (Kind::Histogram | Kind::Summary, "_sum") => Part::Sum,
            (Kind::Histogram | Kind::Summary, "_count") => Part::Count,
            (Kind::Histogram, "_bucket") => Part::Bucket(limit(&labels.remove(LIMIT)?)?),
            _ => return None,
        };
        // A bucket's limit is the only use of this label.
        if kind == Kind::Histogram && labels.contains_key(LIMIT) {
            return None;
        }
        let help = match help.char_indices().nth(MAX_HELP_CHARS) {
            Some((end, _)) => help.get(..end).unwrap_or_default().to_owned(),
            None => help,
        };
        Some(Self {
            family,
            part,
            labels,
            help,
        })
    }
}

type Fields = (String, String, Labels, String);

fn fields(key: &[u8]) -> Option<Fields> {
    serde_json::from_slice::<Fields>(key).ok().or_else(|| {
        let (family, sample, labels) = serde_json::from_slice(key).ok()?;
        Some((family, sample, labels, NO_HELP.to_owned()))
    })
}

/// A limit as Python's `float` reads it.
fn limit(text: &str) -> Option<f64> {
    let limit: f64 = text.trim().parse().ok()?;
    // Python's dictionaries have one zero.
    (!limit.is_nan()).then_some(limit + 0.0)
}

fn is_name(name: &str, has_colons: bool) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let mut bytes = name.bytes();
    let mut is_first = true;
    !name.is_empty()
        && bytes.all(|byte| {
            let is_good = is_letter(byte)
                || (has_colons && byte == b':')
                || (!is_first && byte.is_ascii_digit());
            is_first = false;
            is_good
        })
}

/// Names that begin with two underscores are Prometheus' own.
fn is_label_name(name: &str) -> bool {
    is_name(name, false) && !name.starts_with("__")
}

/// The value of a label, as the text format writes it.
#[must_use]
pub fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return value.into();
    }
    let mut text = String::with_capacity(value.len() + 8);
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app_metrics::file_name::Mode;

    const GAUGE: Kind = Kind::Gauge(Mode::Sum);

    fn part(key: &str, kind: Kind) -> Option<Part> {
        Key::parse(key.as_bytes(), kind).map(|key| key.part)
    }

    #[test]
    fn a_key_has_family_labels_and_help() {
        let key = br#"["hits", "hits_total", {"b": "\u00e9\n", "a": "\""}, "Hits."]"#;
        let key = Key::parse(key, Kind::Counter).unwrap();
        let labels = [("a", "\""), ("b", "é\n")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(key.labels, BTreeMap::from(labels));
        assert_eq!((&*key.family, &*key.help), ("hits", "Hits."));
        let old = Key::parse(br#"["hits", "hits_total", {}]"#, Kind::Counter).unwrap();
        assert_eq!(old.help, NO_HELP);
    }

    #[test]
    fn a_sample_belongs_to_the_type_of_its_file() {
        for (sample, labels, kind, expected) in [
            ("a_total", "{}", Kind::Counter, Some(Part::Total)),
            ("a", "{}", Kind::Counter, Some(Part::Value)),
            ("a", "{}", GAUGE, Some(Part::Value)),
            ("a_sum", "{}", Kind::Summary, Some(Part::Sum)),
            ("a_count", "{}", Kind::Summary, Some(Part::Count)),
            ("a_sum", "{}", Kind::Histogram, Some(Part::Sum)),
            (
                "a_bucket",
                r#"{"le": "0.5"}"#,
                Kind::Histogram,
                Some(Part::Bucket(0.5)),
            ),
            (
                "a_bucket",
                r#"{"le": "+Inf"}"#,
                Kind::Histogram,
                Some(Part::Bucket(f64::INFINITY)),
            ),
            ("a_bucket", "{}", Kind::Histogram, None),
            ("a_bucket", r#"{"le": "x"}"#, Kind::Histogram, None),
            ("a_bucket", r#"{"le": "nan"}"#, Kind::Histogram, None),
            ("a_sum", r#"{"le": "1"}"#, Kind::Histogram, None),
            ("a_total", "{}", GAUGE, None),
            ("a_sum", "{}", Kind::Counter, None),
            ("b", "{}", GAUGE, None),
        ] {
            let key = format!(r#"["a", "{sample}", {labels}, ""]"#);
            assert_eq!(part(&key, kind), expected, "{key} {kind:?}");
        }
    }

    #[test]
    fn keys_that_the_text_format_cannot_hold_are_refused() {
        let long = "x".repeat(MAX_BYTES);
        for key in [
            "",
            "[]",
            "{}",
            r#"["a", "a", {}, "", ""]"#,
            r#"["a", "a", [], ""]"#,
            r#"["a", "a", {"x": 1}, ""]"#,
            r#"["", "", {}, ""]"#,
            r#"["1a", "1a", {}, ""]"#,
            r#"["a b", "a b", {}, ""]"#,
            r#"["a\n", "a\n", {}, ""]"#,
            r#"["a", "a", {"": "1"}, ""]"#,
            r#"["a", "a", {"a:b": "1"}, ""]"#,
            r#"["a", "a", {"__name__": "b"}, ""]"#,
            r#"["a", "a", {"x\"} 1\nb": "1"}, ""]"#,
            &format!(r#"["a", "a", {{"x": "{long}"}}, ""]"#),
        ] {
            assert_eq!(part(key, GAUGE), None, "{key}");
        }
        let help = format!(r#"["a:b", "a:b", {{}}, "{}"]"#, "é".repeat(3000));
        let key = Key::parse(help.as_bytes(), GAUGE).unwrap();
        assert_eq!(key.help.chars().count(), MAX_HELP_CHARS);
    }
}
