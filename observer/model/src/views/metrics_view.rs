//! What `/metrics` reads: immutable, complete, in a fixed order. What people are shown is in
//! [`crate::views::live_view`].

mod build;

pub(crate) use build::http_errors;

use crate::counters::histogram::Histogram;
use crate::counters::worker_counters::{Counters, Phase};
use crate::event::Pid;
use crate::fact::{Gauges, Kubernetes, Listener, Pod, ProgramTotals};
use crate::findings::finding::Finding;
use crate::lifecycle::exit_reason::{ExitKind, ExitReason};
use crate::lifecycle::worker_event::PendingView;
use crate::lifecycle::worker_state::Stage;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything there is to show at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub apps: Vec<AppView>,
    /// What an operator should know.
    pub findings: Vec<Finding>,
    pub observer: ObserverView,
}

/// A master and its workers.
#[derive(Clone, Debug, PartialEq)]
pub struct AppView {
    pub app: String,
    pub master_pid: Pid,
    /// It has ended; what it did is shown a while longer.
    pub ended: bool,
    /// False when its requests cannot be seen: what is zero then was not counted.
    pub observed: bool,
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
    pub pod: Pod,
    /// Workers that live.
    pub workers_live: u32,
    pub workers: Vec<WorkerView>,
    /// The worker families for all workers that held a slot, by slot and class.
    pub slots: Vec<SlotView>,
    /// The worker families for all workers of a class.
    pub classes: Vec<ClassView>,
    pub http: Vec<HttpView>,
    pub phases: Vec<PhaseView>,
    /// Every 5xx, by what raised it.
    pub http_errors: Vec<HttpErrorView>,
    /// Signals that the master got, by name.
    pub signals: BTreeMap<&'static str, u64>,
    /// Workers that ended, by each reason there is.
    pub ends: BTreeMap<&'static str, u64>,
    /// Workers that did not beat in time, by where they hung.
    pub timeouts: Vec<TimeoutView>,
    pub listeners: Vec<Listener>,
    /// Requests counted under the route `other` because there were too many routes.
    pub capped_requests: u64,
    /// How often a type or place of an error was called `other`, because there were too many.
    pub capped_errors: u64,
}

/// A worker.
#[derive(Clone, Debug, PartialEq)]
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
    /// Why it ended, and how; `None` while it lives.
    pub reason: Option<ExitReason>,
    pub restart_type: Option<ExitKind>,
    /// How far it is; `None` once it ended, or when nothing tells.
    pub state: Option<Stage>,
    /// What it uses; `None` once it ended, and until it was looked at.
    pub gauges: Option<Gauges>,
    /// Of one processor.
    pub cpu_percent: Option<f64>,
    /// Requests in progress.
    pub in_flight: u32,
    /// The one of them that began first.
    pub oldest_request: Option<PendingView>,
    pub counters: Counters,
    /// Requests that an exception left the application with.
    pub failed: Vec<ErrorView>,
    /// Requests that Gunicorn's `handle_error` ran for.
    pub handled: Vec<ErrorView>,
}

/// Workers of a class that hung in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeoutView {
    pub class: Arc<str>,
    /// `file:function`.
    pub stuck_in: String,
    pub count: u64,
}

/// What the workers of one slot did.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotView {
    pub slot: u32,
    pub class: Arc<str>,
    pub counters: Counters,
    /// Requests that an exception left the application with.
    pub failed: Vec<ErrorView>,
    /// Requests that Gunicorn's `handle_error` ran for.
    pub handled: Vec<ErrorView>,
}

/// What the workers of one class did.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassView {
    pub class: Arc<str>,
    pub counters: Counters,
    /// Requests that an exception left the application with.
    pub failed: Vec<ErrorView>,
    /// Requests that Gunicorn's `handle_error` ran for.
    pub handled: Vec<ErrorView>,
}

/// Requests of one kind.
#[derive(Clone, Debug, PartialEq)]
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

/// Errors of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorView {
    pub method: &'static str,
    /// Empty when the path is unknown.
    pub endpoint: String,
    /// `unknown` when the exception was not seen, `other` beyond the limit.
    pub error_type: String,
    pub count: u64,
}

/// Responses of one kind with a status of 500 or above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpErrorView {
    pub class: Arc<str>,
    pub method: &'static str,
    /// Empty when the path is unknown.
    pub endpoint: String,
    pub status: u16,
    /// Likewise; empty when there was no exception.
    pub error_type: String,
    /// `file:function`; empty when unknown.
    pub raised_in: String,
    pub count: u64,
}

/// A phase of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseView {
    pub class: Arc<str>,
    pub phase: Phase,
    pub duration: Histogram,
}

impl ObserverView {
    /// What was lost, by cause; not those requests that were in progress when it came.
    pub fn losses(&self) -> impl Iterator<Item = (&String, &u64)> {
        let is_loss = |(cause, count): &(&String, &u64)| **count > 0 && *cause != "exit_unmatched";
        self.lost.iter().filter(is_loss)
    }
}

/// The observer about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObserverView {
    pub version: String,
    pub revision: String,
    pub events: BTreeMap<&'static str, u64>,
    pub lost: BTreeMap<String, u64>,
    /// Other counts of the programs, such as their hits.
    pub counts: BTreeMap<String, u64>,
    pub programs: BTreeMap<String, ProgramTotals>,
    /// Why this kernel lacks each feature; empty if it does not.
    pub features: BTreeMap<String, String>,
    /// Entries of the programs' maps.
    pub map_entries: BTreeMap<String, u64>,
    pub targets: Vec<TargetView>,
    /// Closer deep_captures that are taken, or were just now.
    pub deep_captures: Vec<DeepCaptureView>,
    /// Closer deep_captures that were begun.
    pub deep_captures_begun: u64,
    /// Failed requests whose exception was known without: what a look said was the same, or not.
    pub deep_captures_agreed: u64,
    pub deep_captures_disagreed: u64,
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
    /// `None` where the API server of a cluster is not asked.
    pub kubernetes: Option<Kubernetes>,
}

/// How well a master and its workers are observed.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetView {
    pub pid: Pid,
    /// Empty when it is no known master.
    pub app: String,
    pub level: &'static str,
    /// Why it is not higher.
    pub reason: String,
}

/// A closer look at the exceptions of a master's workers.
#[derive(Clone, Debug, PartialEq)]
pub struct DeepCaptureView {
    /// The master.
    pub pid: Pid,
    pub app: String,
    pub state: &'static str,
    /// What it is taken for, or why it cannot be.
    pub reason: String,
}
