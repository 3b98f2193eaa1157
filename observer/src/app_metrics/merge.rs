//! The values of all processes of an app, merged as `prometheus_client` does (`multiprocess.py`,
//! `_accumulate_metrics`).

use super::decode;
use super::decode::Entry;
use super::error::{Errors, Reason};
use super::file_name::{FileName, Kind, Mode};
use super::key::{Key, Labels, Part, escaped};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

/// Keys that are kept after they were understood once; others are read again each time.
const MAX_KEY_BYTES: usize = 8 << 20;
/// Bytes of the exposition of one app; a series beyond is left out.
const MAX_APP_BYTES: usize = 8 << 20;
/// Bytes of a line besides names and labels, and of what is kept for it.
const LINE_BYTES: usize = 64;
/// The label that has the process of a gauge.
const PID: &str = "pid";

/// The families of an app, by name.
pub type Families = BTreeMap<String, Family>;

/// A family.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub kind: Kind,
    pub help: String,
    /// The names of its samples end with `_total`.
    pub is_total: bool,
    /// By the text of their labels.
    pub series: BTreeMap<String, Series>,
}

/// A series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Of a counter or gauge.
    pub value: Option<f64>,
    /// When the value was set.
    time: f64,
    pub sum: Option<f64>,
    count: Option<f64>,
    /// Observations in each bucket.
    buckets: BTreeMap<Limit, f64>,
}

/// The upper limit of a bucket.
#[derive(Clone, Copy, Debug)]
struct Limit(f64);

impl Ord for Limit {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Limit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Limit {}

impl Series {
    /// Limits, ascending, with the observations up to each.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, f64)> {
        let mut all = 0.0;
        self.buckets.iter().map(move |(limit, count)| {
            all += count;
            (limit.0, all)
        })
    }

    /// Observations; of a histogram those of all buckets.
    #[must_use]
    pub fn count(&self) -> Option<f64> {
        self.cumulative().last().map(|(_, all)| all).or(self.count)
    }

    /// Adds the value of a counter or gauge; whether it is the first.
    fn merge(&mut self, kind: Kind, value: f64, time: f64) -> bool {
        let Some(merged) = &mut self.value else {
            (self.value, self.time) = (Some(value), time);
            return true;
        };
        match kind {
            Kind::Gauge(Mode::All) => *merged = value,
            Kind::Gauge(Mode::Max) if value > *merged => *merged = value,
            Kind::Gauge(Mode::Min) if value < *merged => *merged = value,
            Kind::Gauge(Mode::MostRecent) if time > self.time => {
                (*merged, self.time) = (value, time);
            }
            Kind::Gauge(Mode::Max | Mode::Min | Mode::MostRecent) => {}
            Kind::Counter | Kind::Gauge(Mode::Sum) | Kind::Histogram | Kind::Summary => {
                *merged += value;
            }
        }
        false
    }
}

/// An app in the making.
#[derive(Debug)]
pub struct Merge {
    /// Labels that the series get: the app's own ones of that name are renamed.
    reserved: Vec<&'static str>,
    /// Keys that were read: each process has the same ones.
    keys: HashMap<Kind, HashMap<Box<[u8]>, Named>>,
    /// Of the keys, about.
    key_bytes: usize,
    merged: Merged,
}

/// A value's place.
#[derive(Clone, Debug)]
struct Named {
    family: String,
    part: Part,
    /// The text of its labels.
    labels: String,
    help: String,
}

#[derive(Debug)]
struct Merged {
    families: Families,
    /// Of the exposition, about.
    bytes: usize,
    max_bytes: usize,
}

impl Merge {
    /// At most so many bytes of an exposition, and at most `MAX_APP_BYTES`.
    #[must_use]
    pub fn new(reserved: Vec<&'static str>, max_bytes: usize) -> Self {
        Self {
            reserved,
            keys: HashMap::new(),
            key_bytes: 0,
            merged: Merged {
                families: Families::new(),
                bytes: 0,
                max_bytes: max_bytes.min(MAX_APP_BYTES),
            },
        }
    }

    /// Adds the values of a file.
    pub fn file(&mut self, name: &FileName, bytes: &[u8], errors: &mut Errors) {
        let keys = self.keys.entry(name.kind).or_default();
        for entry in decode::entries(bytes) {
            let Ok(entry) = entry else {
                return errors.add(Reason::Malformed, || name.name.clone());
            };
            let added = match keys.get(entry.key) {
                Some(named) => self.merged.add(name.kind, named, &entry),
                None => match named(&self.reserved, name, entry.key) {
                    Some(named) => {
                        let added = self.merged.add(name.kind, &named, &entry);
                        // Of these each process has its own; and what has no room is not kept.
                        let is_own = name.kind == Kind::Gauge(Mode::All);
                        let bytes = 2 * entry.key.len() + LINE_BYTES;
                        if added.is_ok() && !is_own && self.key_bytes + bytes <= MAX_KEY_BYTES {
                            self.key_bytes += bytes;
                            keys.insert(entry.key.into(), named);
                        }
                        added
                    }
                    None => Err(Reason::Key),
                },
            };
            if let Err(reason) = added {
                errors.add(reason, || String::from_utf8_lossy(entry.key).into());
            }
        }
    }

    /// The families, and about as many bytes as their exposition has.
    #[must_use]
    pub fn finish(self) -> (Families, usize) {
        let Merged {
            mut families,
            bytes,
            ..
        } = self.merged;
        families.retain(|_, family| !family.series.is_empty());
        (families, bytes)
    }
}

impl Merged {
    fn add(&mut self, kind: Kind, named: &Named, entry: &Entry) -> Result<(), Reason> {
        // A time of 0 is none.
        if kind == Kind::Gauge(Mode::MostRecent) && (entry.time <= 0.0 || entry.time.is_nan()) {
            return Ok(());
        }
        let Named {
            family: name,
            part,
            labels,
            help,
        } = named;
        let line = name.len() + labels.len() + LINE_BYTES;
        let described = 2 * (name.len() + LINE_BYTES) + help.len();
        let has_room = self.bytes + described + line <= self.max_bytes;
        let family = match self.families.get_mut(name) {
            Some(family) => family,
            None if !has_room => return Err(Reason::SeriesLimit),
            None => {
                self.bytes += described;
                self.families.entry(name.clone()).or_insert(Family {
                    kind,
                    help: help.clone(),
                    is_total: *part == Part::Total,
                    series: BTreeMap::new(),
                })
            }
        };
        if family.kind != kind {
            return Err(Reason::Type);
        }
        let series = match family.series.get_mut(labels) {
            Some(series) => series,
            None if !has_room => return Err(Reason::SeriesLimit),
            None => family.series.entry(labels.clone()).or_default(),
        };
        let is_new = match part {
            Part::Sum => add(&mut series.sum, entry.value),
            Part::Count => add(&mut series.count, entry.value),
            Part::Bucket(limit) => match series.buckets.get_mut(&Limit(*limit)) {
                Some(count) => {
                    *count += entry.value;
                    false
                }
                None if !has_room => return Err(Reason::SeriesLimit),
                None => series.buckets.insert(Limit(*limit), entry.value).is_none(),
            },
            Part::Value | Part::Total => series.merge(kind, entry.value, entry.time),
        };
        if is_new {
            self.bytes += line;
        }
        Ok(())
    }
}

fn named(reserved: &[&str], name: &FileName, key: &[u8]) -> Option<Named> {
    let Key {
        family,
        part,
        mut labels,
        help,
    } = Key::parse(key, name.kind)?;
    if let Kind::Gauge(mode) = name.kind {
        labels.remove(PID);
        if mode == Mode::All {
            labels.insert(PID.to_owned(), name.process.clone());
        }
    }
    Some(Named {
        family,
        part,
        labels: text(reserved, labels),
        help,
    })
}

/// The text of labels. As Prometheus does with labels of a target, the app's own label of a reserved
/// name begins with `exported_`.
fn text(reserved: &[&str], mut labels: Labels) -> String {
    for &reserved in reserved {
        if let Some(value) = labels.remove(reserved) {
            let mut name = format!("exported_{reserved}");
            while labels.contains_key(&name) {
                name.insert_str(0, "exported_");
            }
            labels.insert(name, value);
        }
    }
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend([&*name, "=\"", &*escaped(&value), "\""]);
    }
    text
}

/// Adds a number; whether it is the first.
fn add(sum: &mut Option<f64>, value: f64) -> bool {
    let is_new = sum.is_none();
    *sum = Some(sum.unwrap_or_default() + value);
    is_new
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
