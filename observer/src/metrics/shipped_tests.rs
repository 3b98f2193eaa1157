//! What `deploy` ships asks for families and labels that there are; each alert is explained, and has
//! cases in which it fires and in which it does not.

use super::{Documented, documented, quoted};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What Prometheus gives every series of a target, and discovery those of a pod.
const OF_TARGETS: [&str; 5] = ["instance", "job", "namespace", "pod", "container"];
/// Before labels, in parentheses.
const GROUPING: [&str; 5] = ["by", "on", "ignoring", "group_left", "group_right"];
const KEYWORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "inf"];

type Labels = BTreeSet<String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Texts of all files of a folder whose names end so, by name.
fn texts(folder: &str, extension: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(root().join(folder)).expect("the folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let paths = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    let texts: BTreeMap<_, _> = paths
        .map(|path| {
            let name = path.file_name().unwrap_or_default();
            let text = fs::read_to_string(&path).expect("text");
            (name.to_string_lossy().into_owned(), text)
        })
        .collect();
    assert!(!texts.is_empty(), "nothing in {folder}");
    texts
}

/// A rule of a file, as its lines have it.
#[derive(Debug)]
struct Rule {
    /// `alert` or `record`.
    kind: String,
    name: String,
    query: String,
    text: String,
}

/// Those of a file whose rules begin with `alert` or `record`, and whose queries stand on one line or
/// further in.
fn rules(file: &str) -> Vec<Rule> {
    let text = read(file);
    let begins = |line: &str| {
        let line = line.trim_start().strip_prefix("- ")?;
        let (kind, name) = line.split_once(": ")?;
        ["alert", "record"]
            .contains(&kind)
            .then(|| (kind.to_owned(), name.to_owned()))
    };
    let mut rules: Vec<Rule> = Vec::new();
    let mut is_query = false;
    for line in text.lines() {
        if let Some((kind, name)) = begins(line) {
            let (query, text) = Default::default();
            rules.push(Rule {
                kind,
                name,
                query,
                text,
            });
        }
        let Some(rule) = rules.last_mut() else {
            continue;
        };
        // The next group, or what is said of the next rule.
        let is_outside = line.starts_with("  - name") || line.trim_start().starts_with('#');
        if is_outside {
            continue;
        }
        rule.text += &format!("{line}\n");
        if let Some(query) = line.strip_prefix("        expr: ") {
            is_query = query == "|";
            rule.query = if is_query { "" } else { query }.to_owned();
        } else if is_query && line.starts_with("          ") {
            rule.query += &format!("{line} ");
        } else {
            is_query = false;
        }
    }
    assert!(rules.iter().all(|rule| !rule.query.is_empty()), "{rules:?}");
    rules
}

/// A metric in a query, and the labels that its matchers name.
#[derive(Debug, PartialEq, Eq)]
struct Selector {
    metric: String,
    matched: Vec<String>,
}

/// What a query asks for, and the labels that it groups or joins by.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    selectors: Vec<Selector>,
    /// Of `by` alone.
    kept: Labels,
    grouped: Labels,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Words outside of strings, and what comes after each.
fn words(text: &str) -> Vec<(&str, &str)> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c| is_word(c) || c == '"') {
        rest = &rest[at..];
        if let Some(string) = rest.strip_prefix('"') {
            rest = string.split_once('"').map_or("", |(_, after)| after);
            continue;
        }
        let (word, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        words.push((word, after));
        rest = after;
    }
    words
}

/// What is in parentheses, brackets or braces that stand first.
fn enclosed(text: &str, open: char, close: char) -> Option<&str> {
    let inside = text.trim_start().strip_prefix(open)?;
    let mut is_string = false;
    let end = inside.find(|c| {
        is_string ^= c == '"';
        c == close && !is_string
    })?;
    Some(&inside[..end])
}

fn parsed(text: &str) -> Query {
    let mut query = Query::default();
    let mut rest = text;
    loop {
        // Windows are no words, and a string is no query.
        let Some(&(word, after)) = words(rest).first() else {
            return query;
        };
        let begin = rest.len() - after.len() - word.len();
        if rest[..begin].trim_end_matches('$').ends_with('[') {
            rest = after.split_once(']').map_or("", |(_, after)| after);
            continue;
        }
        let skip = |inside: &str| {
            let at = after.find(inside).unwrap_or_default();
            &after[at + inside.len()..]
        };
        rest = after;
        if GROUPING.contains(&word) {
            let inside = enclosed(after, '(', ')').expect("labels");
            let labels = words(inside).into_iter().map(|(word, _)| word.to_owned());
            let labels: Vec<_> = labels.collect();
            if word == "by" {
                query.kept.extend(labels.iter().cloned());
            }
            query.grouped.extend(labels);
            if !inside.is_empty() {
                rest = skip(inside);
            }
        } else if let Some(inside) = enclosed(after, '{', '}') {
            let matched = words(inside).into_iter();
            let matched = matched.map(|(label, _)| label.to_owned()).collect();
            let metric = word.to_owned();
            query.selectors.push(Selector { metric, matched });
            rest = skip(inside);
        } else {
            let is_number = word.starts_with(|c: char| c.is_ascii_digit());
            let is_function = after.trim_start().starts_with('(') || is_aggregation(after);
            if !is_number && !is_function && !KEYWORDS.contains(&word) {
                let (metric, matched) = (word.to_owned(), Vec::new());
                query.selectors.push(Selector { metric, matched });
            }
        }
    }
}

/// As in `sum by (…)`.
fn is_aggregation(after: &str) -> bool {
    let after = after.trim_start();
    after
        .strip_prefix("by")
        .is_some_and(|after| after.trim_start().starts_with('('))
}

/// Families and recorded series, and their labels.
struct Known {
    families: Documented,
    recorded: BTreeMap<String, Labels>,
}

impl Known {
    /// With what is recorded by rules, each of which may ask for those before it.
    fn new() -> Self {
        let mut known = Self {
            families: documented(),
            recorded: BTreeMap::new(),
        };
        for rule in rules("deploy/prometheus/recording.yml") {
            assert_eq!(rule.kind, "record");
            let mut labels = known.result(&rule.name, &rule.query);
            let own = rule.text.split_once("labels:").map_or("", |(_, own)| own);
            let own = own.lines().filter_map(|line| line.trim().split_once(": "));
            labels.extend(own.map(|(label, _)| label.to_owned()));
            let level = rule.name.split(':').next().unwrap_or_default();
            for label in ["namespace", "app"] {
                assert!(level.contains(label) && labels.contains(label), "{rule:?}");
            }
            known.recorded.entry(rule.name).or_default().extend(labels);
        }
        known
    }

    /// Labels of a metric.
    fn labels(&self, metric: &str) -> Option<Labels> {
        if let Some(labels) = self.recorded.get(metric) {
            return Some(labels.clone());
        }
        let targets = OF_TARGETS.iter().map(|label| (*label).to_owned());
        if metric == "up" {
            return Some(targets.collect());
        }
        let parts = ["_bucket", "_sum", "_count"].into_iter();
        let of_histogram = parts
            .filter_map(|part| Some((metric.strip_suffix(part)?, part)))
            .find(|(base, _)| self.families.contains_key(*base));
        let (base, part) = of_histogram.unwrap_or((metric, ""));
        let (kind, labels) = self.families.get(base)?;
        let limit = (part == "_bucket").then(|| "le".to_owned());
        ((kind == "histogram") != part.is_empty())
            .then(|| labels.iter().cloned().chain(targets).chain(limit).collect())
    }

    /// The labels of what a query gives, after all of its names were found.
    fn result(&self, of: &str, text: &str) -> Labels {
        let query = parsed(text);
        assert!(!query.selectors.is_empty(), "{of} asks for nothing: {text}");
        let mut all = Labels::new();
        for Selector { metric, matched } in &query.selectors {
            let labels = self.labels(metric);
            let labels = labels.unwrap_or_else(|| panic!("{of}: no {metric} in {text}"));
            for label in matched {
                assert!(labels.contains(label), "{of}: {metric} has no {label}");
            }
            all.extend(labels);
        }
        for label in &query.grouped {
            assert!(all.contains(label), "{of}: nothing has {label} in {text}");
        }
        if query.kept.is_empty() {
            all
        } else {
            query.kept
        }
    }
}

#[test]
fn queries_are_taken_apart() {
    let query = parsed(
        "sum by (a, le) (rate(b_total{c=~\"d|e{f}\",g!=\"h\"}[5m])) / on (i) group_left () (j > 0.5) \
         or 1e9 * k:l:rate5m and bool time()",
    );
    let selector = |metric: &str, matched: &[&str]| Selector {
        metric: metric.to_owned(),
        matched: matched.iter().map(|label| (*label).to_owned()).collect(),
    };
    let expected = [
        selector("b_total", &["c", "g"]),
        selector("j", &[]),
        selector("k:l:rate5m", &[]),
    ];
    assert_eq!(query.selectors, expected);
    let labels = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
    assert_eq!(query.kept, labels(&["a", "le"]));
    assert_eq!(query.grouped, labels(&["a", "le", "i"]));
}

#[test]
fn a_name_or_label_that_is_not_there_is_found() {
    let known = Known::new();
    let is_found = |query: &'static str| {
        let known = std::panic::AssertUnwindSafe(&known);
        std::panic::catch_unwind(move || known.result("a test", query)).is_err()
    };
    for wrong in [
        "sum by (app) (rate(gunicorn_worker_request_total[5m]))",
        "gunicorn_worker_requests_total{reason=\"timeout\"}",
        "sum by (listener) (gunicorn_worker_requests_total)",
        "rate(gunicorn_request_phase_seconds[5m])",
        "gunicorn_request_phase_seconds_sum{le=\"1\"}",
        "gunicorn_master_workers_count",
        "namespace_app:nothing:rate5m",
    ] {
        assert!(is_found(wrong), "{wrong}");
    }
    assert!(!is_found(
        "sum by (app, le) (rate(gunicorn_request_phase_seconds_bucket[5m]))"
    ));
}

/// What stands between this and that, each time.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    let parts = text.split(open).skip(1);
    parts.map(move |part| part.split(close).next().unwrap_or_default())
}

/// The word at the beginning.
fn first_word(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

#[test]
fn alerts_ask_for_what_there_is_and_say_what_they_know() {
    let known = Known::new();
    for rule in rules("deploy/prometheus/alerts.yml") {
        let (name, text) = (&rule.name, &rule.text);
        assert_eq!(rule.kind, "alert");
        let labels = known.result(name, &rule.query);
        for label in between(text, "$labels.", " ").map(first_word) {
            assert!(labels.contains(label), "{name} has no label {label}");
        }
        // Queries within its texts.
        let mut told = Labels::new();
        for query in between(text, "printf \"", "\" $labels") {
            let query = query.replace("\\\"", "\"").replace("%q", "\"\"");
            told.extend(known.result(name, &query));
        }
        for label in between(text, ".Labels.", " ").map(first_word) {
            assert!(told.contains(label), "{name} asks for no label {label}");
        }
        for key in ["for: ", "summary: ", "description: "] {
            assert_eq!(
                text.matches(&format!("  {key}")).count(),
                1,
                "{name}: {key}"
            );
        }
        let severity = between(text, "severity: ", "\n").next();
        let known = ["critical", "warning", "info"];
        assert!(
            severity.is_some_and(|found| known.contains(&found)),
            "{name}"
        );
        let bounded = ["namespace", "app", "instance", "job", "listener"];
        let also = ["phase", "quantile", "worker_class", "cause", "level"];
        let is_few = |label: &String| bounded.iter().chain(&also).any(|few| label == few);
        if !parsed(&rule.query).kept.is_empty() {
            assert!(labels.iter().all(is_few), "{name}: {labels:?}");
        }
    }
}

#[test]
fn every_alert_is_explained_and_has_a_case_that_fires_and_one_that_does_not() {
    let alerts = rules("deploy/prometheus/alerts.yml").into_iter();
    let alerts: BTreeSet<_> = alerts.map(|rule| rule.name).collect();
    let docs = read("docs/ALERTS.md");
    let headings = between(&docs, "\n### ", "\n").map(str::to_owned);
    assert_eq!(headings.collect::<BTreeSet<_>>(), alerts);

    let tests = texts("deploy/prometheus/tests", "yml");
    let (mut fire, mut do_not) = (BTreeSet::new(), BTreeSet::new());
    for text in tests.values() {
        for case in text.split("alertname: ").skip(1) {
            let mut lines = case.lines().map(str::trim);
            let name = lines.next().unwrap_or_default().to_owned();
            match lines.next() {
                Some("exp_alerts: []") => do_not.insert(name),
                Some("exp_alerts:") => fire.insert(name),
                other => panic!("{name}: {other:?}"),
            };
        }
    }
    assert_eq!(fire, alerts);
    assert_eq!(do_not, alerts);
    let tested: String = tests.into_values().collect();
    for rule in rules("deploy/prometheus/recording.yml") {
        assert!(tested.contains(&rule.name), "{} is not tested", rule.name);
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn dashboards_ask_for_what_there_is() {
    let known = Known::new();
    for (file, text) in texts("deploy/grafana", "json") {
        let dashboard: Value = serde_json::from_str(&text).expect("JSON");
        let mut names = vec!["datasource".to_owned()];
        for variable in list(&dashboard["templating"]["list"]) {
            names.push(string(&variable["name"]).to_owned());
            let query = string(&variable["query"]["query"]);
            if let Some(query) = query.strip_prefix("label_values(") {
                let (series, label) = query.rsplit_once(", ").expect("a label");
                let label = label.trim_end_matches(')');
                assert!(known.result(&file, series).contains(label), "{query}");
            }
        }
        for panel in list(&dashboard["panels"]) {
            let of = format!("{file}: {}", panel["title"]);
            for target in list(&panel["targets"]) {
                let query = string(&target["expr"]);
                let labels = known.result(&of, query);
                // What is recorded is there only with the rules.
                assert!(!query.contains(':'), "{of}: {query}");
                for label in between(string(&target["legendFormat"]), "{{", "}}") {
                    assert!(labels.contains(label), "{of}: no {label} in {query}");
                }
                for variable in between(query, "$", "\"").map(first_word) {
                    let is_known =
                        variable == "__rate_interval" || names.iter().any(|name| name == variable);
                    assert!(is_known, "{of}: no variable {variable}");
                }
            }
        }
    }
}

#[test]
fn dashboards_can_be_imported_and_lead_to_each_other() {
    let all = texts("deploy/grafana", "json");
    let parsed = all.iter().map(|(file, text)| {
        let dashboard: Value = serde_json::from_str(text).expect("JSON");
        (file.trim_end_matches(".json").to_owned(), dashboard)
    });
    let dashboards: BTreeMap<_, _> = parsed.collect();
    for (name, dashboard) in &dashboards {
        // Links and a second import find it by that.
        assert_eq!(string(&dashboard["uid"]), name);
        assert!(dashboard["schemaVersion"].as_u64() >= Some(39), "{name}");
        assert!(dashboard.get("id").is_none(), "{name} is of one Grafana");
        let panels = list(&dashboard["panels"]);
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}");
        let shown = panels.iter().filter(|panel| panel["type"] != "row");
        for panel in shown {
            let title = &panel["title"];
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            assert!(!list(&panel["targets"]).is_empty(), "{name}: {title}");
            for key in ["title", "description"] {
                assert!(!string(&panel[key]).is_empty(), "{name}: {title}: {key}");
            }
        }
        let links = between(&all[&format!("{name}.json")], "\"/d/", "\"").collect::<Vec<_>>();
        assert!(
            !links.is_empty() || name == "gunicorn-worker",
            "{name} leads nowhere"
        );
        for link in links {
            let (uid, variables) = link.split_once('?').expect("variables");
            let target = dashboards.get(uid).unwrap_or_else(|| panic!("no {uid}"));
            let has = list(&target["templating"]["list"]);
            for variable in between(variables, "var-", "=") {
                assert!(has.iter().any(|one| one["name"] == variable), "{link}");
            }
        }
    }
}

#[test]
fn what_replaces_another_metric_is_there() {
    let known = Known::new();
    let docs = read("docs/MIGRATION.md");
    let mut is_table = false;
    let mut checked = 0;
    for line in docs.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", _, "PromQL here", _, ""] => is_table = true,
            ["", metric, answer, difference, ""] if is_table && !metric.starts_with("---") => {
                let mut queries = quoted(answer).peekable();
                let is_refused = *answer == "no equivalent" && !difference.is_empty();
                assert!(queries.peek().is_some() != is_refused, "{line}");
                for query in queries {
                    known.result(metric, &query);
                    checked += 1;
                }
            }
            _ => is_table &= line.starts_with("|---"),
        }
        // Names in prose.
        for name in quoted(line).filter(|name| name.starts_with("gunicorn_observer_")) {
            assert!(known.labels(&name).is_some(), "{name}: {line}");
        }
    }
    assert!(checked > 20, "only {checked} queries");
}
