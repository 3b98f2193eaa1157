//! Families of several apps as one text, in the Prometheus text format 0.0.4.
//!
//! Numbers are written as `prometheus_client` writes them: the limit of a bucket is a label, and a
//! series must stay the same wherever it is scraped.

use super::file_name::Kind;
use super::merge::{Families, Family, Series};
use crate::metrics::family;
use crate::metrics::labels::Labels;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

/// The families of an app, and the labels of all its series.
#[derive(Debug)]
pub struct App {
    pub name: String,
    pub labels: Labels,
    pub families: Families,
}

/// The exposition. A family has the type and help of the first app that has it; those of other types
/// are left out and handed to `conflict`. Families that the observer serves itself are left out, too.
#[must_use]
pub fn encode(apps: &[App], mut conflict: impl FnMut(&App, &str)) -> String {
    let names: BTreeSet<&str> = apps
        .iter()
        .flat_map(|app| app.families.keys().map(String::as_str))
        .collect();
    let own: HashSet<&str> = family::all().map(|family| family.name).collect();
    let mut text = String::new();
    for name in names {
        let of = apps
            .iter()
            .filter_map(|app| Some((app, app.families.get(name)?)));
        let mut first = None;
        for (app, family) in of {
            let described = described_name(name, family);
            if own.contains(&*described) {
                continue;
            }
            let is = (described, family.kind.as_str());
            let first = first.get_or_insert_with(|| {
                describe(&mut text, &is.0, family);
                is.clone()
            });
            if *first == is {
                write(&mut text, &is.0, family, app.labels.text());
            } else {
                conflict(app, name);
            }
        }
    }
    text
}

/// The name in the lines that describe a family, and of the samples of a counter.
fn described_name<'a>(name: &'a str, family: &Family) -> Cow<'a, str> {
    match family.is_total {
        true => format!("{name}_total").into(),
        false => name.into(),
    }
}

fn describe(text: &mut String, name: &str, family: &Family) {
    let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
    let kind = family.kind.as_str();
    text.extend(["# HELP ", name, " ", &help, "\n"]);
    text.extend(["# TYPE ", name, " ", kind, "\n"]);
}

fn write(text: &mut String, name: &str, family: &Family, app: &str) {
    for (own, series) in &family.series {
        let separator = if app.is_empty() || own.is_empty() {
            ""
        } else {
            ","
        };
        let labels = [app, separator, own].concat();
        match family.kind {
            Kind::Counter | Kind::Gauge(_) => {
                if let Some(value) = series.value {
                    line(text, name, "", &labels, value);
                }
            }
            Kind::Histogram | Kind::Summary => parts(text, name, &labels, series),
        }
    }
}

fn parts(text: &mut String, name: &str, labels: &str, series: &Series) {
    let separator = if labels.is_empty() { "" } else { "," };
    for (limit, count) in series.cumulative() {
        let labels = [labels, separator, "le=\"", &number(limit), "\""].concat();
        line(text, name, "_bucket", &labels, count);
    }
    for (suffix, value) in [("_count", series.count()), ("_sum", series.sum)] {
        if let Some(value) = value {
            line(text, name, suffix, labels, value);
        }
    }
}

fn line(text: &mut String, name: &str, suffix: &str, labels: &str, value: f64) {
    text.extend([name, suffix]);
    if !labels.is_empty() {
        text.extend(["{", labels, "}"]);
    }
    text.extend([" ", &number(value), "\n"]);
}

/// A number as `prometheus_client` writes it (`utils.py`, `floatToGoString`).
#[must_use]
pub fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = python(value);
    match text.split_once('.') {
        Some((whole, fraction)) if value > 0.0 && whole.len() > 6 => {
            let (first, rest) = whole.split_at(1);
            let mantissa = [first, ".", rest, fraction].concat();
            let mantissa = mantissa.trim_end_matches(['0', '.']);
            format!("{mantissa}e+{:02}", whole.len() - 1)
        }
        _ => text,
    }
}

/// A finite number as Python's `repr` writes it: the exponent has two digits at least.
fn python(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-4..1e16).contains(&size) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{mantissa}e-{exponent:0>2}"),
        None => format!("{mantissa}e+{exponent:0>2}"),
    }
}

#[cfg(test)]
#[path = "exposition_tests.rs"]
mod tests;
