//! Exit reasons of workers: as a test provoked them, as Gunicorn logged them, and as the observer
//! reports them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    client::{self, Request},
    compare::{counted, equal},
    gunicorn::GunicornServer,
    metrics::Metrics,
    observer::Observer,
    process, wait,
};

/// Every reason that is counted.
pub const REASONS: [&str; 12] = [
    "timeout",
    "oom",
    "max_requests",
    "reload",
    "ttou",
    "worker_remove",
    "worker_kill",
    "quit",
    "crash",
    "boot_error",
    "shutdown",
    "unknown",
];

/// Something that happened to a worker, of `events` in `/api/v1/snapshot` and of `trace --json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Event {
    pub event: String,
    pub time_seconds: f64,
    pub app: String,
    pub master_pid: u32,
    pub worker_pid: u32,
    pub worker_id: String,
    pub worker_class: String,
    pub reason: Option<String>,
    pub restart_type: Option<String>,
    pub exit_code: Option<i32>,
    pub exit_signal: Option<i32>,
    #[serde(default)]
    pub signals: Vec<Sent>,
    pub stuck_in: Option<String>,
    #[serde(default)]
    pub requests: Vec<Pending>,
    #[serde(default)]
    pub stacks: Vec<Stack>,
    /// The exception because of which it did not boot.
    pub failure: Option<serde_json::Value>,
}

/// A signal that it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Sent {
    /// As in `TERM`.
    pub signal: String,
    /// `None` for the kernel.
    pub sender_pid: Option<u32>,
}

/// A request that it was in.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Pending {
    pub method: Option<String>,
    pub route: String,
    pub path: Option<String>,
    pub age_seconds: f64,
}

/// Where one of its threads was.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Stack {
    /// Whether it got the signal.
    pub is_current: bool,
    pub request: Option<Pending>,
    /// The innermost first.
    pub frames: Vec<Frame>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Frame {
    pub file: String,
    pub function: String,
    pub line: Option<u64>,
}

/// What an operator should know.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Finding {
    pub finding: String,
    pub app: String,
    pub master_pid: u32,
    pub worker_pid: Option<u32>,
    pub since_seconds: f64,
    pub evidence: String,
}

impl Observer {
    /// `/api/v1/snapshot`.
    pub fn snapshot(&self) -> Result<Value> {
        let answer = client::fetch(self.port, &Request::get("/api/v1/snapshot"))?;
        ensure!(answer.status == 200, "answered {}", answer.status);
        serde_json::from_slice(&answer.body).context("the snapshot is no JSON")
    }

    /// What happened to a master's workers, in order.
    pub fn events(&self, master: u32) -> Result<Vec<Event>> {
        let snapshot = self.snapshot()?;
        let events = snapshot["events"].as_array();
        let events = events.context("the snapshot has no list of events")?;
        events
            .iter()
            .filter(|event| event["master_pid"] == master && event["worker_pid"].is_u64())
            .map(|event| {
                Event::deserialize(event).with_context(|| format!("unreadable event: {event:#}"))
            })
            .collect()
    }

    /// The ends of a master's workers, in order, once there are so many.
    pub fn wait_for_ends(&self, master: u32, count: usize) -> Result<Vec<Event>> {
        let mut seen = Vec::new();
        let waited = wait::until(format!("{count} ends of workers"), || {
            seen = self.events(master)?;
            let mut ends = seen.clone();
            ends.retain(|event| event.event == "worker_ended");
            Ok((ends.len() >= count).then_some(ends))
        });
        waited.with_context(|| format!("seen: {seen:#?}"))
    }

    /// Waits until a master has ended, and returns the event.
    pub fn wait_for_master_end(&self, master: u32) -> Result<Value> {
        wait::until(format!("the end of master {master}"), || {
            let mut ends = self.master_ends(master)?;
            ensure!(ends.len() <= 1, "it ended more than once: {ends:#?}");
            Ok(ends.pop())
        })
    }

    /// Events `master_ended` of this master.
    pub fn master_ends(&self, master: u32) -> Result<Vec<Value>> {
        let mut snapshot = self.snapshot()?;
        let events = snapshot["events"].as_array_mut();
        let events = events.context("the snapshot has no list of events")?;
        events.retain(|it| it["event"] == "master_ended" && it["master_pid"] == master);
        Ok(std::mem::take(events))
    }

    /// Waits until this is found of a master.
    pub fn wait_for_finding(&self, master: u32, name: &str) -> Result<Finding> {
        let mut all = Value::Null;
        let waited = wait::until(format!("the finding {name}"), || {
            all = self.snapshot()?["findings"].take();
            let list = all.as_array().context("the snapshot has no findings")?;
            let wanted = |one: &&Value| one["finding"] == name && one["master_pid"] == master;
            let found = list.iter().find(wanted).map(Finding::deserialize);
            found
                .transpose()
                .with_context(|| format!("unreadable findings: {all:#}"))
        });
        waited.with_context(|| format!("found: {all:#}"))
    }
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    Code(i32),
    Signal(Signal),
}

impl Exit {
    /// Whether Gunicorn logged that this worker ended so; of 0 it logs nothing.
    fn is_logged(self, pid: u32, log: &str) -> bool {
        let code = format!("Worker (pid:{pid}) exited with code ");
        let signal = format!("Worker (pid:{pid}) was sent ");
        match self {
            Self::Code(0) => !log.contains(&code) && !log.contains(&signal),
            Self::Code(number) => log.lines().any(|line| {
                line.trim_end_matches('.')
                    .ends_with(&format!("{code}{number}"))
            }),
            // With a core dump some Gunicorns log no name.
            Self::Signal(Signal::SIGSEGV) => log.contains(&signal),
            Self::Signal(name) => log.contains(&format!("{signal}{name}")),
        }
    }
}

/// What a test made of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerExit {
    pub pid: u32,
    pub reason: &'static str,
    pub restart_type: &'static str,
    /// The ways it may have exited; Gunicorn's log has the one.
    pub exits: Vec<Exit>,
    /// A signal that brought it about, and who sent it.
    pub signal: Option<(Signal, u32)>,
}

impl WorkerExit {
    /// It finished what it did. Masters send a worker more than one `SIGTERM` while they look
    /// for those that are too many; one that has finished, and has handlers no more, ends by it.
    #[must_use]
    pub fn graceful(pid: u32, reason: &'static str) -> Self {
        Self {
            restart_type: "graceful",
            exits: vec![Exit::Code(0), Exit::Signal(Signal::SIGTERM)],
            ..Self::forced(pid, reason, Exit::Code(0))
        }
    }

    /// It did not.
    #[must_use]
    pub fn forced(pid: u32, reason: &'static str, exit: Exit) -> Self {
        Self {
            pid,
            reason,
            restart_type: "forced",
            exits: vec![exit],
            signal: None,
        }
    }

    /// Because of this signal of that process.
    #[must_use]
    pub fn by(self, signal: Signal, sender: u32) -> Self {
        Self {
            signal: Some((signal, sender)),
            ..self
        }
    }

    /// How it exited, by what Gunicorn logged.
    fn exit(&self, log: &str) -> Result<Exit> {
        let exits = self.exits.iter().copied();
        exits
            .clone()
            .find(|exit| exit.is_logged(self.pid, log))
            .with_context(|| format!("{self:?} is not what Gunicorn logged:\n{log}"))
    }

    fn check_event(&self, event: &Event, log: &str) -> Result<()> {
        let (code, number) = match self.exit(log)? {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal as i32)),
        };
        let expected = (Some(self.reason), Some(self.restart_type), code, number);
        let reported = (
            event.reason.as_deref(),
            event.restart_type.as_deref(),
            event.exit_code,
            event.exit_signal,
        );
        ensure!(
            reported == expected,
            "{reported:?}, not {expected:?}: {event:#?}"
        );
        if let Some((signal, sender_pid)) = self.signal {
            let sent = Sent {
                signal: signal.as_str().trim_start_matches("SIG").to_owned(),
                sender_pid: Some(sender_pid),
            };
            ensure!(event.signals.contains(&sent), "no {sent:?}: {event:#?}");
        }
        Ok(())
    }
}

/// The workers of a server that have exited, by its log: a test must account for each.
pub fn exited(server: &GunicornServer) -> Result<BTreeSet<u32>> {
    let booted = server.booted()?.into_iter();
    Ok(booted.filter(|&pid| !process::is_alive(pid)).collect())
}

/// Checks that these are all workers that exited, and that Gunicorn's log agrees.
pub fn check_logged(server: &GunicornServer, endings: &[WorkerExit]) -> Result<()> {
    let expected: BTreeSet<_> = endings.iter().map(|ending| ending.pid).collect();
    ensure!(expected.len() == endings.len(), "twice in {endings:?}");
    let mut last = String::new();
    // A zombie has exited, but its master has not logged it yet.
    let waited = wait::until("Gunicorn to log the exits", || {
        let ended = exited(server)?;
        if ended != expected {
            last = format!("{ended:?} ended, not {expected:?}");
            return Ok(None);
        }
        let log = server.log()?;
        let wrong = endings.iter().find_map(|ending| ending.exit(&log).err());
        last = wrong.map(|error| format!("{error:#}")).unwrap_or_default();
        Ok(last.is_empty().then_some(()))
    });
    waited.with_context(|| last)
}

/// No reason is counted of a master, and each is there to be counted.
pub fn check_none(metrics: &Metrics, master: u32) -> Result<()> {
    let master = master.to_string();
    let labels = [("master_pid", master.as_str())];
    let family = "gunicorn_master_worker_restart_total";
    let there: BTreeMap<_, _> = metrics
        .all(family, &labels)
        .map(|sample| (sample.label("reason"), sample.value))
        .collect();
    let expected: BTreeMap<_, _> = REASONS.iter().map(|reason| (*reason, 0.0)).collect();
    ensure!(there == expected, "{family} has {there:?}");
    Ok(())
}

/// Checks that each worker that exited has one event and is counted once by every counter.
pub fn check_reported(
    observer: &Observer,
    server: &GunicornServer,
    endings: &[WorkerExit],
) -> Result<()> {
    let (master, log) = (server.pid(), server.log()?);
    let events = observer.wait_for_ends(master, endings.len())?;
    let pids = counted(events.iter().map(|event| event.worker_pid));
    let expected = counted(endings.iter().map(|ending| ending.pid));
    equal("ends by worker", &pids, &expected)?;
    for ending in endings {
        let event = events.iter().find(|event| event.worker_pid == ending.pid);
        ending.check_event(event.context("a worker has no event")?, &log)?;
    }
    // What is served after an event was is at least as new.
    counters(&observer.scrape()?, master, &events)
}

/// The id of a worker that may have exited before its age was known: then the event lacks it, and the
/// series gets it later.
fn known_id(metrics: &Metrics, event: &Event) -> String {
    let pid = event.worker_pid.to_string();
    let labels = [("worker_pid", pid.as_str())];
    let mut series = metrics.all("gunicorn_worker_restart_total", &labels);
    match (event.worker_id.split_once("_unknown_"), series.next()) {
        (Some((_, start)), Some(sample)) if sample.label("worker_id").ends_with(start) => {
            sample.label("worker_id").to_owned()
        }
        _ => event.worker_id.clone(),
    }
}

fn counters(metrics: &Metrics, master: u32, events: &[Event]) -> Result<()> {
    let master = master.to_string();
    let labels = [("master_pid", master.as_str())];
    let field = |event: &Event, name: &str| -> Result<String> {
        Ok(match name {
            "reason" => event.reason.clone().context("no reason")?,
            "restart_type" => event.restart_type.clone().context("no restart_type")?,
            "worker_pid" => event.worker_pid.to_string(),
            "worker_id" => known_id(metrics, event),
            "worker_class" => event.worker_class.clone(),
            "app" => event.app.clone(),
            other => bail!("events have no {other}"),
        })
    };
    let families: [(&str, &[&str]); 4] = [
        ("gunicorn_master_worker_restart_total", &["app", "reason"]),
        (
            "gunicorn_worker_restart_total",
            &["app", "worker_pid", "worker_id", "worker_class", "reason"],
        ),
        (
            "gunicorn_worker_restart_count_total",
            &["worker_pid", "worker_id", "restart_type", "reason"],
        ),
        (
            "gunicorn_master_worker_restart_count_total",
            &["app", "worker_id", "restart_type", "reason"],
        ),
    ];
    for (family, by) in families {
        let keys = events
            .iter()
            .map(|event| by.iter().map(|name| field(event, name)).collect())
            .collect::<Result<Vec<Vec<String>>>>()?;
        equal(family, &metrics.sum_by(family, &labels, by), &counted(keys))?;
    }
    Ok(())
}
