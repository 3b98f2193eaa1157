//! `list`: the masters and workers of this host; loads no probe.

use super::table::{Table, age};
use super::written;
use crate::clock::monotonic_ns;
use crate::gunicorn::tree::FoundMaster;
use crate::gunicorn::tree::Tree;
use crate::probe::preflight;
use anyhow::{Context as _, Result};
use observer_model::Untrusted;
use serde::Serialize;
use std::collections::HashSet;
use std::io::{self, Write};

/// Characters that are shown of a name.
const NAME_CHARS: usize = 64;
/// Characters that are shown of addresses and reasons.
const TEXT_CHARS: usize = 300;

/// The columns.
const HEAD: [&str; 8] = [
    "PID",
    "APP / WORKER",
    "CLASS",
    "GUNICORN",
    "PYTHON",
    "AGE",
    "LEVEL",
    "BIND",
];
const AGE: usize = 5;

/// A master. docs/LIST.md has each field.
#[derive(Debug, Serialize)]
struct Row {
    pid: u32,
    app: Untrusted,
    worker_class: Untrusted,
    gunicorn_version: Untrusted,
    python_version: Untrusted,
    age_seconds: u64,
    bind: Vec<Untrusted>,
    /// Absent outside of a container.
    container_id: Option<Untrusted>,
    /// Absent if unknown.
    container_runtime: Option<Untrusted>,
    /// Absent outside of Kubernetes.
    pod_uid: Option<Untrusted>,
    /// Names in Kubernetes, absent if unknown.
    namespace: Option<Untrusted>,
    pod: Option<Untrusted>,
    container: Option<Untrusted>,
    level: &'static str,
    /// Why the level is not `full`, or what is missing or costs more than it should; else empty.
    reason: Untrusted,
    workers: Vec<WorkerRow>,
}

#[derive(Debug, Serialize)]
struct WorkerRow {
    pid: u32,
    class: Untrusted,
    number: Option<u64>,
    age_seconds: u64,
}

/// Writes masters and workers to `out`.
///
/// # Errors
/// When processes cannot be read, or `out` cannot be written to.
pub fn run(json: bool, out: &mut impl Write) -> Result<()> {
    preflight::privileged()?;
    let scan = Tree::of_host()?
        .scan(HashSet::new())
        .context("failed to list processes; check that /proc is mounted")?;
    let now_ns = monotonic_ns();
    let found = scan.masters.iter().chain(&scan.unobserved);
    let rows: Vec<Row> = found.map(|found| row(found, now_ns)).collect();
    let result = if json {
        write_json(&rows, out)
    } else {
        write_table(&rows, out)
    };
    written(result, "the list")
}

/// A text of a fact, absent if it is empty.
fn known(text: &str) -> Option<Untrusted> {
    (!text.is_empty()).then(|| text.into())
}

fn row(found: &FoundMaster, now_ns: u64) -> Row {
    let age = |started_ns: u64| now_ns.saturating_sub(started_ns) / 1_000_000_000;
    let master = &found.master;
    Row {
        pid: master.pid,
        app: master.app.as_str().into(),
        worker_class: master.worker_class.as_str().into(),
        gunicorn_version: master.gunicorn_version.as_str().into(),
        python_version: master.python_version.as_str().into(),
        age_seconds: age(master.started_ns),
        bind: master
            .bind
            .iter()
            .map(|bind| bind.as_str().into())
            .collect(),
        container_id: known(&master.container_id),
        container_runtime: known(&master.container_runtime),
        pod_uid: known(&master.pod_uid),
        namespace: known(&master.pod.namespace),
        pod: known(&master.pod.name),
        container: known(&master.pod.container),
        level: found.coverage.level().as_str(),
        reason: found.coverage.reason(),
        workers: found
            .workers
            .iter()
            .map(|worker| WorkerRow {
                pid: worker.pid,
                class: worker.class.as_str().into(),
                number: worker.age,
                age_seconds: age(worker.started_ns),
            })
            .collect(),
    }
}

fn write_json(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, rows)?;
    writeln!(out)
}

fn write_table(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "no Gunicorn master runs on this host");
    }
    let mut table = Table::new(&[0, AGE]);
    table.cells(HEAD.map(str::to_owned));
    for row in rows {
        table.cells([
            row.pid.to_string(),
            row.app.for_terminal(NAME_CHARS),
            row.worker_class.for_terminal(NAME_CHARS),
            row.gunicorn_version.for_terminal(NAME_CHARS),
            row.python_version.for_terminal(NAME_CHARS),
            age(row.age_seconds),
            row.level.to_owned(),
            joined(&row.bind, " ").for_terminal(TEXT_CHARS),
        ]);
        if let Some(id) = &row.container_id {
            let runtime = row.container_runtime.clone().unwrap_or_default();
            // The UID stands for an unknown name.
            let pod = row.pod.as_ref().or(row.pod_uid.as_ref());
            let pod = pod.map_or_else(String::new, |pod| {
                let names = [row.namespace.as_ref(), Some(pod), row.container.as_ref()];
                let name = joined(names.into_iter().flatten(), "/");
                format!("  in pod {}", name.for_terminal(NAME_CHARS))
            });
            let (runtime, id) = (
                runtime.for_terminal(NAME_CHARS),
                id.for_terminal(NAME_CHARS),
            );
            table.note(format!("container {runtime} {id}{pod}"));
        }
        if !row.reason.is_empty() {
            let reason = row.reason.for_terminal(TEXT_CHARS);
            table.note(format!("level {}: {reason}", row.level));
        }
        for worker in &row.workers {
            let number = worker
                .number
                .map_or_else(String::new, |number| format!(" {number}"));
            let mut cells = HEAD.map(|_| String::new());
            cells[0] = worker.pid.to_string();
            cells[1] = format!("  worker{number}");
            cells[2] = worker.class.for_terminal(NAME_CHARS);
            cells[AGE] = age(worker.age_seconds);
            table.cells(cells);
        }
    }
    table.write(out)
}

fn joined<'a>(texts: impl IntoIterator<Item = &'a Untrusted>, separator: &str) -> Untrusted {
    let texts: Vec<_> = texts.into_iter().map(Untrusted::raw).collect();
    texts.join(separator).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::documented_fields::{fields_in, fields_of};

    #[test]
    fn every_field_is_documented_and_no_other() {
        let mut row = row(&["127.0.0.1:8000"]);
        row.workers.push(WorkerRow {
            pid: 11,
            class: "SyncWorker".into(),
            number: Some(1),
            age_seconds: 1,
        });
        let docs = include_str!("../../../docs/LIST.md");
        let rows = serde_json::to_value([row]).unwrap();
        assert_eq!(fields_of(&rows), fields_in(docs));
    }

    fn row(bind: &[&str]) -> Row {
        Row {
            pid: 10,
            app: "shop".into(),
            worker_class: "SyncWorker".into(),
            gunicorn_version: "23.0.0".into(),
            python_version: "3.11.2".into(),
            age_seconds: 100_000,
            bind: bind.iter().map(|&bind| bind.into()).collect(),
            container_id: None,
            container_runtime: None,
            pod_uid: None,
            namespace: None,
            pod: None,
            container: None,
            level: "full",
            reason: "".into(),
            workers: Vec::new(),
        }
    }

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        let bind = ["127.0.0.1:8000", "unix:/run/shop"];
        let mut long = row(&bind[..1]);
        long.app = "a-name-that-is-longer-than-the-head".into();
        long.pid = 1_234_567;
        long.level = "socket";
        long.reason = "PyPy is not supported".into();
        long.workers.push(WorkerRow {
            pid: 1_234_568,
            class: "SyncWorker".into(),
            number: None,
            age_seconds: 59,
        });
        let mut out = Vec::new();
        write_table(&[row(&bind), long], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "    PID  APP / WORKER                         CLASS       GUNICORN  PYTHON   AGE  LEVEL   BIND
     10  shop                                 SyncWorker  23.0.0    3.11.2  1d3h  full    127.0.0.1:8000 unix:/run/shop
1234567  a-name-that-is-longer-than-the-head  SyncWorker  23.0.0    3.11.2  1d3h  socket  127.0.0.1:8000
         level socket: PyPy is not supported
1234568    worker                             SyncWorker                     59s
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn text_of_a_process_cannot_drive_the_terminal() {
        let hostile = format!("a'b\x1b]0;owned\x07\u{9b}2J\n{}", "x".repeat(5000));
        let hostile = || Untrusted::from(hostile.as_str());
        let row = Row {
            pid: 10,
            app: hostile(),
            worker_class: hostile(),
            gunicorn_version: hostile(),
            python_version: hostile(),
            age_seconds: 1,
            bind: vec![hostile()],
            container_id: Some(hostile()),
            container_runtime: Some(hostile()),
            pod_uid: Some(hostile()),
            namespace: Some(hostile()),
            pod: Some(hostile()),
            container: Some(hostile()),
            level: "none",
            reason: hostile(),
            workers: vec![WorkerRow {
                pid: 11,
                class: hostile(),
                number: Some(1),
                age_seconds: 1,
            }],
        };
        let mut out = Vec::new();
        write_table(&[row], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 5, "{text}");
        let is_bad = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(is_bad), "{text:?}");
        assert_eq!(text.matches("a'b\\u{1b}]0;owned").count(), 10, "{text}");
        assert!(text.lines().all(|line| line.chars().count() < 1000));
    }
}
