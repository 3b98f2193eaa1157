//! `list`: the masters and workers of this host; loads no probe.

use super::table::{Table, age};
use super::written;
use crate::clock::monotonic_ns;
use crate::gunicorn::tree::FoundMaster;
use crate::gunicorn::tree::Tree;
use crate::probe::preflight;
use crate::untrusted::shown;
use anyhow::{Context as _, Result};
use observer_model::fact::Worker;
use serde::Serialize;
use std::collections::HashSet;
use std::io::{self, Write};

/// Characters of a name that are shown.
const NAME_CHARS: usize = 64;
/// Characters of addresses and reasons that are shown.
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

/// A master as it is listed.
#[derive(Debug, Serialize)]
struct Row<'a> {
    pid: u32,
    app: &'a str,
    worker_class: &'a str,
    gunicorn_version: &'a str,
    python_version: &'a str,
    age_seconds: u64,
    bind: &'a [String],
    /// Absent outside of a container.
    container_id: Option<&'a str>,
    /// Absent when unknown.
    container_runtime: Option<&'a str>,
    /// Absent outside of Kubernetes.
    pod_uid: Option<&'a str>,
    /// Names in Kubernetes, absent when unknown.
    namespace: Option<&'a str>,
    pod: Option<&'a str>,
    container: Option<&'a str>,
    /// How well it can be observed: full, socket, none.
    level: &'static str,
    /// Why not better, or what is missing or costs more than it should; else empty.
    reason: String,
    workers: Vec<WorkerRow<'a>>,
}

#[derive(Debug, Serialize)]
struct WorkerRow<'a> {
    pid: u32,
    class: &'a str,
    number: Option<u64>,
    age_seconds: u64,
}

/// Writes what is found to `out`.
///
/// # Errors
/// When processes cannot be read, or `out` cannot be written to.
pub fn run(json: bool, out: &mut impl Write) -> Result<()> {
    preflight::privileged()?;
    let scan = Tree::of_host()?
        .scan(HashSet::new())
        .context("cannot list processes; is /proc mounted?")?;
    let now_ns = monotonic_ns();
    let rows: Vec<Row<'_>> = scan
        .masters
        .iter()
        .map(|found| row(found, now_ns))
        .collect();
    let result = if json {
        write_json(&rows, out)
    } else {
        write_table(&rows, out)
    };
    written(result, "the list")
}

fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn row(found: &FoundMaster, now_ns: u64) -> Row<'_> {
    let age = |started_ns: u64| now_ns.saturating_sub(started_ns) / 1_000_000_000;
    let master = &found.master;
    let worker = |worker: &'_ Worker| (worker.pid, worker.age, age(worker.started_ns));
    Row {
        pid: master.pid,
        app: &master.app,
        worker_class: &master.worker_class,
        gunicorn_version: &master.gunicorn_version,
        python_version: &master.python_version,
        age_seconds: age(master.started_ns),
        bind: &master.bind,
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
            .map(|found| {
                let (pid, number, age_seconds) = worker(found);
                WorkerRow {
                    pid,
                    class: &found.class,
                    number,
                    age_seconds,
                }
            })
            .collect(),
    }
}

fn write_json(rows: &[Row<'_>], out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, rows)?;
    writeln!(out)
}

fn write_table(rows: &[Row<'_>], out: &mut impl Write) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "no Gunicorn master runs on this host");
    }
    let mut table = Table::new(&[0, AGE]);
    table.cells(HEAD.map(str::to_owned));
    for row in rows {
        table.cells([
            row.pid.to_string(),
            shown(row.app, NAME_CHARS),
            shown(row.worker_class, NAME_CHARS),
            shown(row.gunicorn_version, NAME_CHARS),
            shown(row.python_version, NAME_CHARS),
            age(row.age_seconds),
            row.level.to_owned(),
            shown(&row.bind.join(" "), TEXT_CHARS),
        ]);
        if let Some(id) = row.container_id {
            let runtime = row.container_runtime.unwrap_or_default();
            // A pod has a name in its namespace, and where that is not known, its uid.
            let pod = row.pod.or(row.pod_uid).map_or_else(String::new, |pod| {
                let names = [row.namespace, Some(pod), row.container];
                let names: Vec<&str> = names.into_iter().flatten().collect();
                format!("  in pod {}", shown(&names.join("/"), NAME_CHARS))
            });
            let (runtime, id) = (shown(runtime, NAME_CHARS), shown(id, NAME_CHARS));
            table.note(format!("container {runtime} {id}{pod}"));
        }
        if !row.reason.is_empty() {
            let reason = shown(&row.reason, TEXT_CHARS);
            table.note(format!("level {}: {reason}", row.level));
        }
        for worker in &row.workers {
            let number = worker
                .number
                .map_or_else(String::new, |number| format!(" {number}"));
            let mut cells = HEAD.map(|_| String::new());
            cells[0] = worker.pid.to_string();
            cells[1] = format!("  worker{number}");
            cells[2] = shown(worker.class, NAME_CHARS);
            cells[AGE] = age(worker.age_seconds);
            table.cells(cells);
        }
    }
    table.write(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::documented_fields::{fields_in, fields_of};

    #[test]
    fn every_field_is_documented_and_no_other() {
        let bind = ["127.0.0.1:8000".to_owned()];
        let mut row = row(&bind);
        row.workers.push(WorkerRow {
            pid: 11,
            class: "SyncWorker",
            number: Some(1),
            age_seconds: 1,
        });
        let docs = include_str!("../../../docs/LIST.md");
        let rows = serde_json::to_value([row]).unwrap();
        assert_eq!(fields_of(&rows), fields_in(docs));
    }

    fn row(bind: &[String]) -> Row<'_> {
        Row {
            pid: 10,
            app: "shop",
            worker_class: "SyncWorker",
            gunicorn_version: "23.0.0",
            python_version: "3.11.2",
            age_seconds: 100_000,
            bind,
            container_id: None,
            container_runtime: None,
            pod_uid: None,
            namespace: None,
            pod: None,
            container: None,
            level: "full",
            reason: String::new(),
            workers: Vec::new(),
        }
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let bind = ["127.0.0.1:8000".to_owned(), "unix:/run/shop".to_owned()];
        let mut long = row(&bind[..1]);
        long.app = "a-name-that-is-longer-than-the-head";
        long.pid = 1_234_567;
        long.level = "socket";
        long.reason = "PyPy is not supported".to_owned();
        long.workers.push(WorkerRow {
            pid: 1_234_568,
            class: "SyncWorker",
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
    fn what_a_process_says_of_itself_cannot_drive_the_terminal() {
        let hostile = format!("a'b\x1b]0;owned\x07\u{9b}2J\n{}", "x".repeat(5000));
        let bind = [hostile.clone()];
        let row = Row {
            pid: 10,
            app: &hostile,
            worker_class: &hostile,
            gunicorn_version: &hostile,
            python_version: &hostile,
            age_seconds: 1,
            bind: &bind,
            container_id: Some(&hostile),
            container_runtime: Some(&hostile),
            pod_uid: Some(&hostile),
            namespace: Some(&hostile),
            pod: Some(&hostile),
            container: Some(&hostile),
            level: "none",
            reason: hostile.clone(),
            workers: vec![WorkerRow {
                pid: 11,
                class: &hostile,
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
