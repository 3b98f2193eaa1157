//! The live view: what `/api/v1/` serves and the dashboard and `top` show. docs/API.md has each field.
//!
//! It is made for people: rates and percentiles instead of counters, and the largest rows instead of
//! all. `/metrics` has everything.
//!
//! Within version 1, fields may be added; no field is removed, renamed or given another meaning.

pub mod history;

mod build;

use crate::event::Pid;
use crate::findings::finding::Finding;
use crate::lifecycle::exit_reason::{ExitKind, ExitReason};
use crate::lifecycle::worker_event::{PendingView, WorkerEvent};
use crate::lifecycle::worker_state::Stage;
use crate::untrusted::Untrusted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything to show at one moment: `/api/v1/snapshot`, and each `snapshot` of `/api/v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LiveView {
    /// Unix time of the view.
    pub time_seconds: f64,
    /// Problems that an operator should know about, the most urgent first.
    pub findings: Vec<Finding>,
    pub apps: Vec<App>,
    /// Recent starts and exits of workers, and exits of masters, the latest last.
    pub events: Vec<WorkerEvent>,
    pub observer: Observer,
}

/// A master and its workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct App {
    pub app: Untrusted,
    pub master_pid: Pid,
    /// The master exited; it is shown for a while longer.
    pub ended: bool,
    /// `full`, `socket`, `none`; empty while unknown.
    pub level: Untrusted,
    /// Why the level is not higher; empty at the highest.
    pub level_reason: Untrusted,
    /// Unix time.
    pub started_seconds: f64,
    pub gunicorn_version: Untrusted,
    pub python_version: Untrusted,
    pub worker_class: Untrusted,
    pub workers_wanted: Option<u32>,
    pub workers_live: u32,
    /// Threads of each worker, as configured.
    pub threads: Option<u32>,
    pub timeout_seconds: Option<u32>,
    pub bind: Vec<Untrusted>,
    /// Empty outside a container.
    pub container_id: Untrusted,
    /// Empty outside a Kubernetes pod.
    pub pod_uid: Untrusted,
    /// Names in Kubernetes; empty where unknown.
    #[serde(default)]
    pub namespace: Untrusted,
    #[serde(default)]
    pub pod: Untrusted,
    #[serde(default)]
    pub container: Untrusted,
    #[serde(default)]
    pub node: Untrusted,
    #[serde(default)]
    pub workload_kind: Untrusted,
    #[serde(default)]
    pub workload: Untrusted,
    /// Requests since the observer attached, and those answered with a 5xx or not at all.
    pub requests_total: u64,
    pub errors_total: u64,
    /// Rates of the last minute.
    pub now: Rates,
    pub in_flight: u32,
    /// The oldest request in flight.
    pub oldest_request: Option<PendingView>,
    pub workers: Vec<Worker>,
    pub listeners: Vec<Listener>,
    /// The routes that took most of the time lately.
    pub routes: Vec<Route>,
    /// How many other routes there are.
    pub routes_left_off: usize,
    /// The most frequent errors since the observer attached.
    pub errors: Vec<Error>,
    pub errors_left_off: usize,
    /// The slowest requests of the last five to ten minutes, the slowest first.
    pub slowest: Vec<Slow>,
    /// Exited workers by reason; each reason there is.
    pub ends: BTreeMap<String, u64>,
    /// Workers that timed out, by the function they were stuck in.
    pub timeouts: BTreeMap<Untrusted, u64>,
    /// The last points of the history; [`history::History`] has all.
    pub points: Vec<Point>,
}

/// Rates and percentiles of the last minute, or since the observer attached if that is shorter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    pub requests_per_second: f64,
    pub errors_per_second: f64,
    /// `None` without requests.
    pub p50_seconds: Option<f64>,
    pub p95_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
    /// Queue wait until a connection is accepted; `None` where none was seen.
    pub queue_p95_seconds: Option<f64>,
    /// Share of the time that live workers had at least one request, from 0 to 1.
    pub utilisation: Option<f64>,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    pub pid: Pid,
    /// The label `worker_id`.
    pub id: String,
    pub slot: u32,
    pub class: Untrusted,
    /// `None` once the worker exited, or while unknown.
    pub state: Option<Stage>,
    pub uptime_seconds: Option<f64>,
    /// The worker exited.
    pub ended: bool,
    pub exit_code: Option<u8>,
    pub exit_signal: Option<u8>,
    pub reason: Option<ExitReason>,
    pub restart_type: Option<ExitKind>,
    pub requests_total: u64,
    /// Over the last five to ten seconds.
    pub requests_per_second: Option<f64>,
    /// Share of the last five to ten seconds with at least one request, from 0 to 1.
    pub busy: Option<f64>,
    pub in_flight: u32,
    pub oldest_request: Option<PendingView>,
    /// Resident memory.
    pub memory_bytes: Option<u64>,
    /// Of one processor.
    pub cpu_percent: Option<f64>,
    pub threads: Option<u32>,
    pub open_fds: Option<u32>,
    pub heartbeat_age_seconds: Option<f64>,
}

/// A socket that a master listens on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// `127.0.0.1:8000`, `unix:/run/app.sock`.
    pub address: Untrusted,
    /// Connections that wait to be accepted.
    pub backlog: u32,
    /// Most connections that may wait.
    pub limit: u32,
    /// Connections dropped since it listens; `None` for Unix sockets.
    pub drops: Option<u64>,
}

/// Requests of one method and route within the last five to ten minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Route {
    pub method: Untrusted,
    /// Empty when the path is unknown.
    pub route: Untrusted,
    pub requests: u64,
    pub errors: u64,
    pub p50_seconds: Option<f64>,
    pub p95_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
    /// The sum of all durations.
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

/// Responses of one kind with a status of 500 or above, or requests that their worker's exit ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    pub method: Untrusted,
    pub endpoint: Untrusted,
    /// `None` if the worker exited before it answered.
    pub status: Option<u16>,
    /// `unknown` when the exception was not seen; empty when there was none.
    pub error_type: Untrusted,
    /// `file:function`; empty when unknown.
    pub raised_in: Untrusted,
    pub count: u64,
}

/// A slow request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slow {
    /// Unix time at which it finished.
    pub time_seconds: f64,
    pub worker_pid: Pid,
    pub method: Untrusted,
    pub route: Untrusted,
    /// As the client sent it, without the query; `None` when unknown.
    pub path: Option<Untrusted>,
    pub status: Option<u16>,
    pub duration_seconds: f64,
    pub phases: Phases,
}

/// Five seconds of an app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Unix time at which the five seconds begin.
    pub time_seconds: f64,
    pub requests: u64,
    /// Requests answered with a 5xx or not at all.
    pub errors: u64,
    pub p50_seconds: Option<f64>,
    pub p95_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
    pub queue_p95_seconds: Option<f64>,
    /// As [`Rates::utilisation`].
    pub utilisation: Option<f64>,
    /// Most requests in flight at one of the samples, of which there is one a second.
    pub in_flight: u32,
    /// Most connections that waited to be accepted at one of the samples.
    pub backlog: u32,
    /// Requests by duration. There is one count for each of [`history::History::limits_seconds`], of
    /// requests above the previous limit and up to this one; the last count is of requests above all
    /// limits.
    pub durations: Vec<u64>,
}

/// The observer itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observer {
    pub version: Untrusted,
    /// Lost events by cause, without zeros; docs/METRICS.md explains each cause.
    pub lost: BTreeMap<Untrusted, u64>,
    /// Masters below the observation level `full`.
    pub limited: Vec<Limited>,
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
}

/// A master below the observation level `full`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    pub pid: Pid,
    pub app: Untrusted,
    pub level: Untrusted,
    pub reason: Untrusted,
}

#[cfg(test)]
#[path = "live_view_tests.rs"]
mod tests;
