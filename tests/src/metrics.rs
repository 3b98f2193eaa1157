//! The text exposition format, as far as the tests read it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

/// One line of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    /// A label's value, empty if it has none.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.label(name) == *value)
    }
}

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// Whether every program is loaded that the observer loads after it is ready.
    #[must_use]
    pub fn has_all_features(&self) -> bool {
        let mut features = self.all("gunicorn_observer_feature", &[]);
        features.all(|feature| feature.label("reason") != "still loading")
    }

    /// Reads an exposition.
    pub fn parse(text: &str) -> Result<Self> {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| sample(line).with_context(|| format!("unreadable sample: {line}")))
            .collect::<Result<_>>()?;
        Ok(Self { samples })
    }

    /// Names of the series.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().map(|sample| sample.name.as_str())
    }

    /// The samples of a name that have these labels.
    pub fn all<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name && sample.has(labels))
    }

    /// Their sum; 0 if there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name, labels).map(|sample| sample.value).sum()
    }

    /// Sums by the values of some labels. Series of value 0 are left out.
    #[must_use]
    pub fn sum_by(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        by: &[&str],
    ) -> BTreeMap<Vec<String>, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.all(name, labels).filter(|sample| sample.value != 0.0) {
            let key = by
                .iter()
                .map(|label| sample.label(label).to_owned())
                .collect();
            *sums.entry(key).or_default() += sample.value;
        }
        sums
    }

    /// Whether any series has this master.
    #[must_use]
    pub fn knows_master(&self, pid: u32) -> bool {
        let pid = pid.to_string();
        self.samples
            .iter()
            .any(|sample| sample.label("master_pid") == pid)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// Reads labels up to the closing brace; returns what comes after it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.insert(name.to_owned(), value);
        rest = after;
    }
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    const TEXT: &str = r#"
# HELP a_total What it counts.
# TYPE a_total counter
a_total{path="/a}b",method="GET"} 2
a_total{path="say \"hi\"\\\n",method="GET"} 3
up 1
h_bucket{le="+Inf"} 4 1700000000
"#;

    #[test]
    fn samples_are_read_with_their_escapes() {
        let metrics = Metrics::parse(TEXT).expect("a good exposition");
        assert_eq!(metrics.samples.len(), 4);
        assert_eq!(metrics.samples[1].label("path"), "say \"hi\"\\\n");
        assert_eq!(metrics.sum("up", &[]), 1.0);
        assert_eq!(metrics.sum("h_bucket", &[("le", "+Inf")]), 4.0);
    }

    #[test]
    fn sums_are_made_by_label() {
        let metrics = Metrics::parse(TEXT).expect("a good exposition");
        let sums = metrics.sum_by("a_total", &[], &["method"]);
        assert_eq!(
            sums.into_iter().collect::<Vec<_>>(),
            [(vec!["GET".to_owned()], 5.0)]
        );
        assert_eq!(metrics.sum("a_total", &[("path", "/a}b")]), 2.0);
        assert_eq!(metrics.sum("a_total", &[("path", "/none")]), 0.0);
    }

    #[test]
    fn garbage_is_refused() {
        for text in ["a{b=\"c} 1", "a{b} 1", "a", "a one"] {
            assert!(Metrics::parse(text).is_err(), "{text}");
        }
    }
}
