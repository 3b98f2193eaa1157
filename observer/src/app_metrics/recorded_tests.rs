//! Files that `prometheus_client` wrote, against what it prints for them: see `fixtures/record.py`.

use super::error::Errors;
use super::exposition;
use super::exposition::App;
use super::file_name::FileName;
use super::merge::Merge;
use crate::metrics::labels::Labels;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Without help and times; without times; with both.
const VERSIONS: [&str; 3] = [
    include_str!("fixtures/0.14.1.json"),
    include_str!("fixtures/0.16.0.json"),
    include_str!("fixtures/0.26.0.json"),
];
/// A family of the exporter, which the observer has itself.
const OWN: &str = "gunicorn_worker_requests_total";

#[derive(Deserialize)]
struct Recorded {
    /// In base64.
    files: BTreeMap<String, String>,
    all: String,
    without_13: String,
}

impl Recorded {
    fn of(version: &str) -> Self {
        serde_json::from_str(version).unwrap()
    }

    fn app(&self, live: &BTreeSet<u32>) -> App {
        let mut errors = Errors::default();
        let mut merge = Merge::new(vec!["app"], usize::MAX);
        for (name, bytes) in &self.files {
            let name = FileName::parse(name).unwrap();
            if !name.is_live || name.is_of(live) {
                merge.file(&name, &BASE64_STANDARD.decode(bytes).unwrap(), &mut errors);
            }
        }
        assert_eq!(errors, Errors::default());
        App {
            name: String::new(),
            labels: Labels::of(&[("app", "shop")]),
            families: merge.finish().0,
        }
    }
}

fn encoded(apps: &[App]) -> String {
    exposition::encode(apps, |_, family| panic!("{family} has two types"))
}

/// A line: its name with its labels in order, and its value or text.
fn line(line: &str) -> (String, String) {
    if line.starts_with('#') {
        return (line.to_owned(), String::new());
    }
    let (series, value) = line.rsplit_once(' ').unwrap();
    let Some((name, labels)) = series.split_once('{') else {
        return (series.to_owned(), value.to_owned());
    };
    let labels = labels.strip_suffix('}').unwrap();
    // No value in the fixtures has a comma.
    let labels: BTreeSet<_> = labels.split(',').collect();
    (format!("{name}{labels:?}"), value.to_owned())
}

fn lines<'a>(text: &'a str) -> impl Iterator<Item = (String, String)> + 'a {
    text.lines().filter(|line| !line.contains(OWN)).map(line)
}

fn same(found: &str, printed: &str) {
    // What the observer adds is taken away.
    let found = found
        .replace("app=\"shop\",", "")
        .replace("{app=\"shop\"}", "");
    let found = found.replace("exported_app=", "app=");
    let found: BTreeMap<_, _> = lines(&found).collect();
    let printed: BTreeMap<_, _> = lines(printed).collect();
    let names = |lines: &BTreeMap<String, String>| lines.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&printed));
    for (series, expected) in printed {
        let value = &found[&series];
        // A sum depends on the order of its files, which is that of the folder.
        let numbers = [value, &expected].map(|value| value.parse::<f64>().unwrap_or_default());
        let is_close = (numbers[0] - numbers[1]).abs() <= 1e-12 * numbers[1].abs();
        assert!(
            *value == expected || is_close,
            "{series}: {value} {expected}"
        );
    }
}

#[test]
fn the_files_of_live_processes_are_merged_as_prometheus_client_merges_them() {
    for version in VERSIONS {
        let recorded = Recorded::of(version);
        let found = encoded(&[recorded.app(&BTreeSet::from([11, 12, 13]))]);
        assert!(!found.contains(OWN) && recorded.all.contains(OWN));
        same(&found, &recorded.all);
    }
}

#[test]
fn a_process_that_died_is_left_out_as_after_mark_process_dead() {
    let recorded = Recorded::of(VERSIONS[2]);
    let found = encoded(&[recorded.app(&BTreeSet::from([11, 12]))]);
    same(&found, &recorded.without_13);
    assert_ne!(recorded.all, recorded.without_13);
}

#[test]
fn every_series_has_the_label_of_its_app_and_each_family_one_description() {
    let recorded = Recorded::of(VERSIONS[2]);
    let live = BTreeSet::from([11]);
    let [one, mut other] = [(); 2].map(|()| recorded.app(&live));
    other.labels = Labels::of(&[("app", "till"), ("pod", "a")]);
    let found = encoded(&[one, other]);
    let series = |app: &str| {
        let begin = format!("{{app=\"{app}\"");
        found.lines().filter(|line| line.contains(&begin)).count()
    };
    let descriptions = found.lines().filter(|line| line.starts_with('#'));
    let descriptions: Vec<_> = descriptions.collect();
    let different: BTreeSet<_> = descriptions.iter().collect();
    assert_eq!(different.len(), descriptions.len());
    assert_eq!(series("shop"), series("till"));
    assert_eq!(
        series("shop") + series("till") + descriptions.len(),
        found.lines().count()
    );
}
