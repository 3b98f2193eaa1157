//! The view every output reads: immutable, complete, in a fixed order.

use crate::event::Pid;
use crate::fact::ProgramTotals;
use crate::model::histogram::Histogram;
use crate::model::tally::{Phase, Tally};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything there is to show at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Unix time it was taken.
    pub time_seconds: f64,
    pub apps: Vec<AppView>,
    pub observer: ObserverView,
}

/// A master and its workers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AppView {
    pub app: String,
    pub master_pid: Pid,
    /// It has ended; what it did is shown a while longer.
    pub ended: bool,
    /// False when its requests cannot be seen: what is zero then was not counted.
    pub observed: bool,
    /// Unix time.
    pub started_seconds: f64,
    pub gunicorn_version: String,
    pub python_version: String,
    pub worker_class: String,
    /// As configured.
    pub workers_wanted: Option<u32>,
    pub threads: Option<u32>,
    pub timeout_seconds: Option<u32>,
    pub bind: Vec<String>,
    /// Empty outside of a container.
    pub container_id: String,
    pub container_runtime: String,
    pub pod_uid: String,
    /// Workers that live.
    pub workers_live: u32,
    pub workers: Vec<WorkerView>,
    /// The worker families for all workers that held a slot, by slot and class.
    pub slots: Vec<SlotView>,
    /// The worker families for all workers of a class.
    pub classes: Vec<ClassView>,
    pub http: Vec<HttpView>,
    pub phases: Vec<PhaseView>,
    /// Requests counted under the route `other` because there were too many routes.
    pub capped_requests: u64,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerView {
    pub pid: Pid,
    /// `worker_<age>_<start>`; the age is `unknown` until its master was asked.
    pub id: String,
    pub slot: u32,
    pub class: Arc<str>,
    pub age: Option<u64>,
    /// Its master lists it as a worker.
    pub confirmed: bool,
    /// `None` once it ended, or when its start is unknown.
    pub uptime_seconds: Option<f64>,
    pub ended: bool,
    pub exit_code: Option<u8>,
    pub exit_signal: Option<u8>,
    pub tally: Tally,
}

/// What the workers of one slot did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlotView {
    pub slot: u32,
    pub class: Arc<str>,
    pub tally: Tally,
}

/// What the workers of one class did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassView {
    pub class: Arc<str>,
    pub tally: Tally,
}

/// Requests of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HttpView {
    pub class: Arc<str>,
    pub method: &'static str,
    /// Empty when the path is unknown.
    pub route: String,
    pub status: Option<u16>,
    /// Empty when nothing failed.
    pub error_type: String,
    pub duration: Histogram,
}

/// A phase of requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseView {
    pub class: Arc<str>,
    pub phase: Phase,
    pub duration: Histogram,
}

/// The observer about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ObserverView {
    pub version: String,
    pub revision: String,
    pub events: BTreeMap<&'static str, u64>,
    pub lost: BTreeMap<String, u64>,
    /// Other counts of the programs, such as their hits.
    pub counts: BTreeMap<String, u64>,
    pub programs: BTreeMap<String, ProgramTotals>,
    /// Entries of the programs' maps.
    pub map_entries: BTreeMap<String, u64>,
    pub targets: Vec<TargetView>,
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
}

/// How well a master and its workers are observed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetView {
    pub pid: Pid,
    /// Empty when it is no known master.
    pub app: String,
    pub level: &'static str,
    /// Why it is not higher.
    pub reason: String,
}
