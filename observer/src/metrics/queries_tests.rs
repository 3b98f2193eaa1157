//! The queries of docs/METRICS.md: each family stands in one, and is asked for as its type wants.

use super::{DOCS, documented, quoted};
use std::collections::BTreeSet;

/// Each of their series belongs to a worker that has ended, and begins at 1: no rate sees that.
const BORN_AT_ONE: [&str; 3] = [
    "gunicorn_worker_restart_total",
    "gunicorn_worker_restart_count_total",
    "gunicorn_master_worker_restart_count_total",
];
/// Before the names of labels, in parentheses.
const BEFORE_LABELS: [&str; 4] = ["by", "on", "ignoring", "group_left"];

/// A metric in a query.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    name: String,
    /// It is an argument of a function that takes counters.
    is_counted: bool,
}

/// The queries, in the tables `| question | PromQL |`.
fn queries() -> Vec<String> {
    let mut is_table = false;
    let mut queries = Vec::new();
    for line in DOCS.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", "question", "PromQL", ""] => is_table = true,
            ["", _, query, ""] if is_table => queries.extend(quoted(query)),
            _ => is_table = false,
        }
    }
    queries
}

/// The metrics of a query: its words, but for functions, labels and what is in braces.
fn metrics(query: &str) -> Vec<Asked> {
    let mut asked = Vec::new();
    let mut rest = query;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    while let Some(begin) = rest.find(|c| is_word(c) || c == '{' || c == '[') {
        let before = &rest[..begin];
        let word = &rest[begin..];
        let close = |c| word.find(c).map_or(word.len(), |at| at + 1);
        let end = match word.chars().next() {
            Some('{') => close('}'),
            Some('[') => close(']'),
            _ => word.find(|c| !is_word(c)).unwrap_or(word.len()),
        };
        let (word, after) = word.split_at(end);
        rest = match BEFORE_LABELS.contains(&word) {
            true => &after[after.find(')').map_or(0, |at| at + 1)..],
            false => after,
        };
        if word.starts_with("gunicorn_") || word.starts_with("http_") {
            let head = &query[..query.len() - rest.len() - word.len()];
            let is_counted = head.ends_with("rate(") || head.ends_with("increase(");
            let name = word.to_owned();
            assert!(before.ends_with('(') || before.ends_with(' ') || before.is_empty());
            asked.push(Asked { name, is_counted });
        }
    }
    asked
}

#[test]
fn metrics_are_told_from_labels() {
    let query = "sum by (gunicorn_version) (rate(gunicorn_a{http_b=\"c\"}[5m])) * \
                 on (http_d) group_left (gunicorn_e) gunicorn_f";
    let asked = |name: &str, is_counted| Asked {
        name: name.to_owned(),
        is_counted,
    };
    let expected = [asked("gunicorn_a", true), asked("gunicorn_f", false)];
    assert_eq!(metrics(query), expected);
}

#[test]
fn each_family_is_asked_for_as_its_type_wants() {
    let families = documented();
    let mut seen = BTreeSet::new();
    for query in queries() {
        let asked = metrics(&query);
        assert!(!asked.is_empty(), "nothing is asked for: {query}");
        for Asked { name, is_counted } in asked {
            let part = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| name.strip_suffix(part).map(|base| (base, *part)))
                .filter(|(base, _)| families.contains_key(*base));
            let (base, part) = part.unwrap_or((name.as_str(), ""));
            let (kind, _) = families
                .get(base)
                .unwrap_or_else(|| panic!("no family {base}: {query}"));
            let is_counter = kind != "gauge" && !BORN_AT_ONE.contains(&base);
            assert_eq!(is_counted, is_counter, "{base}: {query}");
            assert_eq!(kind == "histogram", !part.is_empty(), "{base}: {query}");
            let has_limit = query.contains(", le)") || query.contains("le=\"");
            assert!(part != "_bucket" || has_limit, "{query}");
            seen.insert(base.to_owned());
        }
    }
    let all: BTreeSet<_> = families.into_keys().collect();
    let unseen: Vec<_> = all.difference(&seen).collect();
    assert!(unseen.is_empty(), "nobody asks for {unseen:?}");
}
