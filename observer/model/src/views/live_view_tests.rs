//! docs/API.md has each field.

use super::history::{AppHistory, History};
use super::*;
use crate::findings::finding::Kind;
use serde_json::Value;
use std::collections::BTreeSet;

/// One of everything.
fn view() -> View {
    View {
        findings: vec![Finding {
            finding: Kind::WorkerStuck,
            app: String::new(),
            master_pid: 1,
            worker_pid: None,
            since_seconds: 0.0,
            evidence: String::new(),
        }],
        apps: vec![App {
            oldest_request: Some(PendingView::default()),
            workers: vec![Worker::default()],
            listeners: vec![Listener::default()],
            routes: vec![Route::default()],
            errors: vec![Error::default()],
            slowest: vec![Slow::default()],
            points: vec![Point::default()],
            ..App::default()
        }],
        observer: Observer {
            limited: vec![Limited::default()],
            ..Observer::default()
        },
        ..View::default()
    }
}

fn history() -> History {
    History {
        apps: vec![AppHistory::default()],
        ..History::default()
    }
}

/// The names in the first column of the table below a heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let docs = include_str!("../../../../docs/API.md");
    let mut lines = docs.lines().skip_while(|&line| line != heading).skip(1);
    let section: Vec<&str> = lines
        .by_ref()
        .take_while(|line| !line.starts_with('#'))
        .collect();
    let first = |row: &str| {
        let cell = row.split('|').nth(1).unwrap_or_default();
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let rows = section.into_iter().filter(|line| line.starts_with("| `"));
    rows.flat_map(first).collect()
}

#[test]
fn every_field_is_documented_and_nothing_else() {
    let view = serde_json::to_value(view()).unwrap();
    let history = serde_json::to_value(history()).unwrap();
    for (heading, of, at) in [
        ("## The view", &view, ""),
        ("### Findings", &view, "/findings/0"),
        ("### Apps", &view, "/apps/0"),
        ("### Now", &view, "/apps/0/now"),
        ("### Workers", &view, "/apps/0/workers/0"),
        ("### A request in progress", &view, "/apps/0/oldest_request"),
        ("### Listeners", &view, "/apps/0/listeners/0"),
        ("### Routes", &view, "/apps/0/routes/0"),
        ("### Phases", &view, "/apps/0/routes/0/phases"),
        ("### Errors", &view, "/apps/0/errors/0"),
        ("### Slowest", &view, "/apps/0/slowest/0"),
        ("### Observer", &view, "/observer"),
        ("### Limited", &view, "/observer/limited/0"),
        ("### Points", &view, "/apps/0/points/0"),
        ("## The history", &history, ""),
    ] {
        let object = of.pointer(at).and_then(Value::as_object).unwrap();
        let fields: BTreeSet<String> = object.keys().cloned().collect();
        assert_eq!(documented(heading), fields, "{heading}");
    }
}
