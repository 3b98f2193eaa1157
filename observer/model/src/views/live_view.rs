//! What `/api/v1/` serves and `top` shows: docs/API.md has each field.
//!
//! It is made from a [`Snapshot`](crate::views::metrics_view::Snapshot) for people: rates and percentiles
//! instead of counters, and the largest instead of all. All is in `/metrics`.
//!
//! Within version 1 fields may be added and none is removed, renamed or given another meaning.

pub mod history;

mod build;

use crate::event::Pid;
use crate::fact::Listener;
use crate::findings::finding::Finding;
use crate::lifecycle::exit_reason::{ExitKind, ExitReason};
use crate::lifecycle::worker_event::{PendingView, WorkerEvent};
use crate::lifecycle::worker_state::Stage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything there is to show at one moment: `/api/v1/snapshot`, and each `snapshot` of
/// `/api/v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Unix time it was taken.
    pub time_seconds: f64,
    /// What an operator should know.
    pub findings: Vec<Finding>,
    pub apps: Vec<App>,
    /// What happened to workers lately, the last in the end.
    pub events: Vec<WorkerEvent>,
    pub observer: Observer,
}

/// A master and its workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct App {
    pub app: String,
    pub master_pid: Pid,
    /// It has ended; what it did is shown a while longer.
    pub ended: bool,
    /// `full`, `socket`, `none`; empty when it is not known yet.
    pub level: String,
    /// Why it is not higher; empty if it is the highest.
    pub level_reason: String,
    /// Unix time.
    pub started_seconds: f64,
    pub gunicorn_version: String,
    pub python_version: String,
    pub worker_class: String,
    pub workers_wanted: Option<u32>,
    pub workers_live: u32,
    /// As configured, for each worker.
    pub threads: Option<u32>,
    pub timeout_seconds: Option<u32>,
    pub bind: Vec<String>,
    /// Empty outside of a container.
    pub container_id: String,
    /// Empty outside of a Kubernetes pod.
    pub pod_uid: String,
    /// As Kubernetes calls them; empty where that is not known.
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub pod: String,
    #[serde(default)]
    pub container: String,
    #[serde(default)]
    pub node: String,
    #[serde(default)]
    pub workload_kind: String,
    #[serde(default)]
    pub workload: String,
    /// Requests since it is observed, and those of them answered with a 5xx or not at all.
    pub requests_total: u64,
    pub errors_total: u64,
    /// What it did lately.
    pub now: Rates,
    pub in_flight: u32,
    /// The request in progress for longest.
    pub oldest_request: Option<PendingView>,
    pub workers: Vec<Worker>,
    pub listeners: Vec<Listener>,
    /// Those that took most of the time lately.
    pub routes: Vec<Route>,
    /// RouteRegistry that are not among them.
    pub routes_left_off: usize,
    /// The most frequent since it is observed.
    pub errors: Vec<Error>,
    pub errors_left_off: usize,
    /// Requests of the last five to ten minutes that took longest, the slowest first.
    pub slowest: Vec<Slow>,
    /// Workers that ended, by reason; each reason there is.
    pub ends: BTreeMap<String, u64>,
    /// Workers that did not beat in time, by where they hung.
    pub timeouts: BTreeMap<String, u64>,
    /// The last points of its history: as in [`history::History`], which has all.
    pub points: Vec<Point>,
}

/// What was done lately: over the last minute, or since it is observed if that is shorter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    pub requests_per_second: f64,
    pub errors_per_second: f64,
    /// `None` without requests.
    pub p50_seconds: Option<f64>,
    pub p95_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
    /// Wait to be accepted; `None` where none was seen.
    pub queue_p95_seconds: Option<f64>,
    /// Share of the time that live workers had at least one request, from 0 to 1.
    pub utilisation: Option<f64>,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    pub pid: Pid,
    /// As the label `worker_id`.
    pub id: String,
    pub slot: u32,
    pub class: String,
    /// `None` once it ended, or when nothing tells.
    pub state: Option<Stage>,
    pub uptime_seconds: Option<f64>,
    pub ended: bool,
    pub exit_code: Option<u8>,
    pub exit_signal: Option<u8>,
    /// Why and how it ended.
    pub reason: Option<ExitReason>,
    pub restart_type: Option<ExitKind>,
    pub requests_total: u64,
    /// Over the last five to ten seconds, as is `busy`.
    pub requests_per_second: Option<f64>,
    /// Share of the time with at least one request, from 0 to 1.
    pub busy: Option<f64>,
    pub in_flight: u32,
    pub oldest_request: Option<PendingView>,
    pub memory_bytes: Option<u64>,
    /// Of one processor.
    pub cpu_percent: Option<f64>,
    pub threads: Option<u32>,
    pub open_fds: Option<u32>,
    pub heartbeat_age_seconds: Option<f64>,
}

/// Requests of one method and route within the last five to ten minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Route {
    pub method: String,
    /// Empty when the path is unknown.
    pub route: String,
    pub requests: u64,
    /// Answered with a 5xx or not at all.
    pub errors: u64,
    pub p50_seconds: Option<f64>,
    pub p95_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
    /// All of them together.
    pub total_seconds: f64,
    pub phases: Phases,
}

/// Mean time of each phase, over the requests in which it was seen; `None` where it never was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    pub queue_seconds: Option<f64>,
    pub dispatch_seconds: Option<f64>,
    pub read_seconds: Option<f64>,
    pub app_seconds: Option<f64>,
    pub write_seconds: Option<f64>,
}

/// Responses of one kind with a status of 500 or above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    pub method: String,
    pub endpoint: String,
    pub status: u16,
    /// `unknown` when the exception was not seen; empty when there was none.
    pub error_type: String,
    /// `file:function`; empty when unknown.
    pub raised_in: String,
    pub count: u64,
}

/// One slow request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slow {
    /// Unix time of its end.
    pub time_seconds: f64,
    pub worker_pid: Pid,
    pub method: String,
    pub route: String,
    /// As the client sent it, without the query; `None` when unknown.
    pub path: Option<String>,
    pub status: Option<u16>,
    pub duration_seconds: f64,
    pub phases: Phases,
}

/// Five seconds of an app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Unix time of its beginning.
    pub time_seconds: f64,
    pub requests: u64,
    /// Answered with a 5xx or not at all.
    pub errors: u64,
    pub p50_seconds: Option<f64>,
    pub p95_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
    pub queue_p95_seconds: Option<f64>,
    /// As [`Rates::utilisation`].
    pub utilisation: Option<f64>,
    /// The most requests that were in progress, of the deep_captures once a second.
    pub in_flight: u32,
    /// The most connections that waited to be accepted, likewise.
    pub backlog: u32,
    /// Requests by duration: one count for each of [`history::History::limits_seconds`], of those
    /// at most that long and longer than the one before; and last, of those above all.
    pub durations: Vec<u64>,
}

/// The observer about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observer {
    pub version: String,
    /// Losses by cause, those above zero; docs/METRICS.md says what each is.
    pub lost: BTreeMap<String, u64>,
    /// Masters that are observed with less than all probes.
    pub limited: Vec<Limited>,
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
}

/// A master that is observed with less than all probes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    pub pid: Pid,
    pub app: String,
    pub level: String,
    pub reason: String,
}

#[cfg(test)]
#[path = "live_view_tests.rs"]
mod tests;
