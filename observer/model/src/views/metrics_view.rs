//! The view for `/metrics`: complete, immutable and in a fixed order. The view for people is
//! [`crate::views::live_view`].

mod build;

pub(crate) use build::http_errors;

use crate::counters::histogram::Histogram;
use crate::counters::unanswered::Unanswered;
use crate::counters::worker_counters::{Counters, Phase};
use crate::event::Pid;
use crate::fact::{
    Connections, Gauges, Kubernetes, Listener, MasterGauges, Pod, ProgramTotals, Usage,
};
use crate::findings::finding::Finding;
use crate::lifecycle::exit_reason::{ExitKind, ExitReason};
use crate::lifecycle::worker_event::PendingView;
use crate::lifecycle::worker_state::Stage;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The whole state at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsView {
    pub apps: Vec<AppView>,
    /// Active findings.
    pub findings: Vec<Finding>,
    /// Exits of masters, also of those that are not among the apps any more.
    pub master_exits: Vec<MasterExitsView>,
    pub observer: ObserverView,
}

/// A master and its workers.
#[derive(Clone, Debug, PartialEq)]
pub struct AppView {
    pub app: String,
    pub master_pid: Pid,
    /// The master has exited. Its counters are shown for a while longer.
    pub ended: bool,
    /// Its requests are observed. If not, counts of zero mean that nothing was counted.
    pub observed: bool,
    pub gunicorn_version: String,
    pub python_version: String,
    pub worker_class: String,
    /// The configured number of workers.
    pub workers_wanted: Option<u32>,
    pub threads: Option<u32>,
    pub timeout_seconds: Option<u32>,
    pub bind: Vec<String>,
    /// Empty outside of a container.
    pub container_id: String,
    pub container_runtime: String,
    pub pod_uid: String,
    pub pod: Pod,
    /// Resources of the master; `None` after its exit, and until they were read.
    pub gauges: Option<MasterGauges>,
    /// Of the master, in percent of one processor.
    pub cpu_percent: Option<f64>,
    /// Live workers.
    pub workers_live: u32,
    pub workers: Vec<WorkerView>,
    /// Counters of all workers that held a slot, by slot and class.
    pub slots: Vec<SlotView>,
    /// Counters of all workers of a class.
    pub classes: Vec<ClassView>,
    pub http: Vec<HttpView>,
    pub phases: Vec<PhaseView>,
    /// Every 5xx, by the exception behind it.
    pub http_errors: Vec<HttpErrorView>,
    /// Signals sent to the master, by name.
    pub signals: BTreeMap<&'static str, u64>,
    /// Worker exits. Every reason has an entry.
    pub ends: BTreeMap<&'static str, u64>,
    pub waiting: Vec<WaitingView>,
    /// What nobody answered, by class. The class of new workers has an entry.
    pub unanswered: Vec<(Arc<str>, Unanswered)>,
    /// Its dirty pool; `None` while it has had none.
    pub dirty: Option<DirtyView>,
    /// Worker timeouts, by the function the worker was stuck in.
    pub timeouts: Vec<TimeoutView>,
    pub listeners: Vec<Listener>,
    /// Requests counted under the route `other` because the app reached the limit.
    pub capped_requests: u64,
    /// Error types and places counted as `other` because the app reached the limit.
    pub capped_errors: u64,
}

/// Exits of the masters of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterExitsView {
    pub app: String,
    pub pod: Pod,
    /// Every reason has an entry.
    pub counts: BTreeMap<&'static str, u64>,
}

/// A worker.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView {
    pub pid: Pid,
    /// `worker_<age>_<start>`; the age is `unknown` until it was read from the master.
    pub id: String,
    pub slot: u32,
    pub class: Arc<str>,
    pub age: Option<u64>,
    /// The master lists the process as a worker.
    pub confirmed: bool,
    /// `None` after the exit, or if the start is unknown.
    pub uptime_seconds: Option<f64>,
    pub ended: bool,
    /// The exit reason; `None` while the worker lives.
    pub reason: Option<ExitReason>,
    pub restart_type: Option<ExitKind>,
    /// `None` after the exit, or if the stage is unknown.
    pub state: Option<Stage>,
    /// Resources; `None` after the exit, and until they were read.
    pub gauges: Option<Gauges>,
    /// In percent of one processor.
    pub cpu_percent: Option<f64>,
    /// Requests in flight.
    pub in_flight: u32,
    /// The request in flight that began first.
    pub oldest_request: Option<PendingView>,
    /// Connections without a request in flight; `None` where they are not seen.
    pub connections: Option<Connections>,
    pub counters: Counters,
    /// Requests whose WSGI application raised an exception.
    pub failed: Vec<ErrorView>,
    /// Requests for which Gunicorn's `handle_error` ran.
    pub handled: Vec<ErrorView>,
}

/// The dirty pool of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirtyView {
    /// Live processes. Both roles have an entry.
    pub live: BTreeMap<&'static str, u32>,
    /// Exits, by role and reason. Each reason of both roles has an entry.
    pub ends: BTreeMap<(&'static str, &'static str), u64>,
}

/// Connections of an app that wait to be served.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingView {
    /// `backlog`, `accepted` or `read`.
    pub stage: &'static str,
    pub count: u32,
    /// For how long the first of them has waited, 0 without one; `None` if that is not known.
    pub oldest_seconds: Option<f64>,
}

/// Timeouts of workers of a class that were stuck in one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeoutView {
    pub class: Arc<str>,
    /// `file:function`.
    pub stuck_in: String,
    pub count: u64,
}

/// Counters of the workers of one slot.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotView {
    pub slot: u32,
    pub class: Arc<str>,
    pub counters: Counters,
    /// Requests whose WSGI application raised an exception.
    pub failed: Vec<ErrorView>,
    /// Requests for which Gunicorn's `handle_error` ran.
    pub handled: Vec<ErrorView>,
}

/// Counters of the workers of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassView {
    pub class: Arc<str>,
    pub counters: Counters,
    /// Requests whose WSGI application raised an exception.
    pub failed: Vec<ErrorView>,
    /// Requests for which Gunicorn's `handle_error` ran.
    pub handled: Vec<ErrorView>,
}

/// A series of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpView {
    pub class: Arc<str>,
    pub method: &'static str,
    /// Empty when the path is unknown.
    pub route: String,
    pub status: Option<u16>,
    /// Empty if the request did not fail.
    pub error_type: String,
    pub duration: Histogram,
    /// `None` while no request had a body.
    pub request_size: Option<Box<Histogram>>,
    pub response_size: Option<Box<Histogram>>,
}

/// A series of errors of a worker, a slot or a worker class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorView {
    pub method: &'static str,
    /// Empty when the path is unknown.
    pub endpoint: String,
    /// `unknown` when the exception was not seen, `other` beyond the limit.
    pub error_type: String,
    pub count: u64,
}

/// A series of 5xx responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpErrorView {
    pub class: Arc<str>,
    pub method: &'static str,
    /// Empty when the path is unknown.
    pub endpoint: String,
    pub status: Option<u16>,
    /// `unknown` when the exception was not seen, `other` beyond the limit; empty when there was no
    /// exception.
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
    /// Lost events, by cause. Requests that were in flight when the observer started are no loss.
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
    /// Other counts of the eBPF programs, such as their hits.
    pub counts: BTreeMap<String, u64>,
    pub programs: BTreeMap<String, ProgramTotals>,
    /// Features, and why this kernel does not support each; empty if it does.
    pub features: BTreeMap<String, String>,
    /// Entries of the eBPF maps.
    pub map_entries: BTreeMap<String, u64>,
    pub targets: Vec<TargetView>,
    /// Deep captures, active or recent.
    pub deep_captures: Vec<DeepCaptureView>,
    /// Deep captures started.
    pub deep_captures_begun: u64,
    /// Self-checks of deep captures on 5xx with a known exception, by agreement.
    pub deep_captures_agreed: u64,
    pub deep_captures_disagreed: u64,
    /// `None` until it was read.
    pub usage: Option<Usage>,
    /// `None` without `--kubernetes`.
    pub kubernetes: Option<Kubernetes>,
    /// What could not be read of applications' own metrics, by reason; empty without
    /// `--app-metrics`.
    pub app_metrics_errors: BTreeMap<String, u64>,
}

/// Observation level of a master and its workers.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetView {
    pub pid: Pid,
    /// Empty if the process is not a known master.
    pub app: String,
    pub level: &'static str,
    /// Why the level is not higher.
    pub reason: String,
}

/// A deep capture of exceptions of a master's workers.
#[derive(Clone, Debug, PartialEq)]
pub struct DeepCaptureView {
    /// The master.
    pub pid: Pid,
    pub app: String,
    pub state: &'static str,
    /// Why it was started, or why it cannot be.
    pub reason: String,
}
