//! Facts that userspace found: about masters, workers, probes and itself.
//!
//! Facts are recorded beside the kernel's records, so that a replay sees all that the model saw. They
//! are JSON in a record file: a new field needs `#[serde(default)]`, and no field is renamed.

mod in_flight;

pub use in_flight::{Connections, InFlight, Pending, ThreadFrame, ThreadStack, WorkerInFlight};

use crate::event::Pid;
use crate::routes::normalize::Pattern;
use crate::settings::{Thresholds, WorkerLabel};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A fact found by userspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The observer started; ties the monotonic clock to the wall clock.
    Started(Started),
    /// How the observer counts and names; the first fact in a record.
    Settings(Settings),
    /// A process was recognised as a Gunicorn master, or its settings changed.
    Master(Master),
    /// A worker of a known master was read from the master's memory.
    Worker(Worker),
    /// A process of a known master's dirty pool was found below the master.
    Dirty(Dirty),
    /// A candidate is no Gunicorn master, or exited before it was read.
    NotGunicorn { pid: Pid },
    /// The observation level of a master and its workers.
    Level(TargetLevel),
    /// A deep capture of the exceptions of a master's workers began or ended.
    #[serde(rename = "look")]
    DeepCapture(DeepCapture),
    /// Requests in flight.
    InFlight(InFlight),
    /// Resource use and stage of the workers of all masters, from `/proc` and their memory.
    Gauges { workers: Vec<Gauges> },
    /// Resource use of all masters, from `/proc`.
    MasterGauges { masters: Vec<MasterGauges> },
    /// Stacks of a worker that its master gave up and that cannot take the signal: it is stopped, or waits
    /// for a disk.
    Stacks { pid: Pid, stacks: Vec<ThreadStack> },
    /// GIL wait time of each process, in nanoseconds since the observer first saw it.
    Gil { waits: BTreeMap<Pid, u64> },
    /// The sockets that a master listens on.
    Listeners { pid: Pid, listeners: Vec<Listener> },
    /// Running totals of the programs in the kernel.
    Kernel(KernelTotals),
    /// Entries of the programs' maps, by map, after the entries of dead processes were removed.
    Maps { entries: BTreeMap<String, u64> },
    /// Resource use of the observer itself.
    Usage(Usage),
    /// Pods known from the cluster's API server.
    Kubernetes(Kubernetes),
    /// What could not be read of applications' own metrics since the observer started, by reason.
    AppMetrics { errors: BTreeMap<String, u64> },
}

/// The observer's start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// `CLOCK_REALTIME` nanoseconds minus `CLOCK_MONOTONIC` nanoseconds.
    pub wall_offset_ns: i64,
    /// Version of the observer.
    pub version: String,
    /// Revision it was built from, if known.
    pub revision: String,
}

/// How requests and workers are counted and named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Routes named by the operator.
    pub routes: Vec<Pattern>,
    pub route_limit: usize,
    pub keep_ended_ns: u64,
    pub worker_label: WorkerLabel,
    #[serde(default)]
    pub thresholds: Thresholds,
}

/// A Gunicorn master, as read from its memory and `/proc`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Master {
    pub pid: Pid,
    /// When the process started, `CLOCK_MONOTONIC`.
    pub started_ns: u64,
    /// `proc_name` setting, else the application's import string.
    pub app: String,
    /// Empty when unknown.
    pub gunicorn_version: String,
    /// Such as `3.11.7`.
    pub python_version: String,
    /// Concrete class name of new workers, such as `ThreadWorker`.
    pub worker_class: String,
    /// `workers` setting, as changed by `SIGTTIN` and `SIGTTOU`.
    pub workers: Option<u32>,
    /// `threads` setting.
    pub threads: Option<u32>,
    /// `timeout` setting in seconds.
    pub timeout_seconds: Option<u32>,
    /// `max_requests` setting; 0 for no limit.
    #[serde(default)]
    pub max_requests: Option<u64>,
    /// Addresses it listens on, as configured.
    pub bind: Vec<String>,
    /// Id of the container it runs in, which its workers share; empty outside a container.
    #[serde(default)]
    pub container_id: String,
    /// Runtime of the container, such as `docker`; empty when unknown.
    #[serde(default)]
    pub container_runtime: String,
    /// Uid of the Kubernetes pod; empty outside a pod, or when unknown.
    #[serde(default)]
    pub pod_uid: String,
    /// Names in Kubernetes, as far as they are known.
    #[serde(default)]
    pub pod: Box<Pod>,
}

/// Names of a container, its pod and its workload in Kubernetes; an unknown name is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub container: String,
    /// Name of its host.
    #[serde(default)]
    pub node: String,
    /// The workload that made the pod, such as a `Deployment`; known only from the API server.
    #[serde(default)]
    pub workload_kind: String,
    #[serde(default)]
    pub workload: String,
}

/// A worker, as its master knows it (`Arbiter.WORKERS`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    pub pid: Pid,
    pub master_pid: Pid,
    /// When the process started, `CLOCK_MONOTONIC`.
    pub started_ns: u64,
    /// `worker.age`: it is the `age`-th worker of its master.
    pub age: Option<u64>,
    /// Concrete class name.
    pub class: String,
}

/// A process of a master's dirty pool (`gunicorn/dirty`, from Gunicorn 25.0 on).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dirty {
    pub pid: Pid,
    pub master_pid: Pid,
    pub role: DirtyRole,
    /// The master, or the dirty arbiter.
    pub parent: Pid,
    /// When the process started, `CLOCK_MONOTONIC`.
    pub started_ns: u64,
}

/// What a process of a dirty pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirtyRole {
    /// Starts dirty workers and passes them work.
    Arbiter,
    Worker,
}

impl DirtyRole {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Arbiter, Self::Worker];

    /// As it is exported.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arbiter => "arbiter",
            Self::Worker => "worker",
        }
    }

    /// Name of its class in Gunicorn.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Arbiter => "DirtyArbiter",
            Self::Worker => "DirtyWorker",
        }
    }
}

/// Observation level of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Not at all.
    None,
    /// By system calls only.
    Socket,
    /// By all probes.
    Full,
}

impl Level {
    /// As it is exported.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Socket => "socket",
            Self::Full => "full",
        }
    }
}

/// The observation level of a master and its workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetLevel {
    pub pid: Pid,
    pub level: Level,
    /// Why the level is not higher. At the highest level: the reason for extra cost, mostly empty.
    pub reason: String,
}

/// State of a deep capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeepCaptureState {
    /// It runs.
    #[serde(rename = "looking")]
    Capturing,
    /// It ended; the next one waits, to limit the cost.
    Resting,
    /// It cannot run, for the reason given.
    Failed,
    /// None runs, and none is planned.
    Over,
}

impl DeepCaptureState {
    /// As it is exported.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capturing => "looking",
            Self::Resting => "resting",
            Self::Failed => "failed",
            Self::Over => "over",
        }
    }
}

/// A deep capture of the exceptions of a master's workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeepCapture {
    pub pid: Pid,
    pub state: DeepCaptureState,
    /// When this state began.
    pub since_ns: u64,
    /// The request it was started for, or why it cannot run.
    pub reason: String,
}

/// Resource use and stage of a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gauges {
    pub pid: Pid,
    pub resident_bytes: u64,
    /// User and system time since it started.
    pub cpu_seconds: f64,
    pub threads: u32,
    pub open_fds: Option<u32>,
    /// Time since its last heartbeat, as its master counts it; `None` also before the first one that counts.
    pub heartbeat_age_seconds: Option<f64>,
    /// `Worker.booted` and `Worker.alive`, read from its memory; `None` when unknown.
    pub booted: Option<bool>,
    pub alive: Option<bool>,
}

/// Resource use of a master.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MasterGauges {
    pub pid: Pid,
    pub resident_bytes: u64,
    /// User and system time since it started.
    pub cpu_seconds: f64,
    pub threads: u32,
    pub open_fds: Option<u32>,
    /// The soft limit; `None` also if there is none.
    pub max_fds: Option<u64>,
}

/// A socket that a master listens on, as the kernel reports it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// `127.0.0.1:8000`, `[::1]:8000`, `unix:/run/app.sock`, `unix:@name`.
    pub address: String,
    /// Connections that wait to be accepted.
    pub backlog: u32,
    /// Most connections that may wait.
    pub limit: u32,
    /// Connections dropped since it listens; `None` for Unix sockets.
    pub drops: Option<u64>,
}

/// Totals since the programs were loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KernelTotals {
    /// Lost events by cause: see `probe_ebpf::abi::Stat`.
    pub lost: BTreeMap<String, u64>,
    /// Other counts of `probe_ebpf::abi::Stat`.
    pub counts: BTreeMap<String, u64>,
    /// Runs, and run time where the kernel measures it, by program.
    pub programs: BTreeMap<String, ProgramTotals>,
    /// Why this kernel lacks a feature of `probe::features`, by feature; empty for a feature it has.
    #[serde(default)]
    pub features: BTreeMap<String, String>,
}

/// Totals of one program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProgramTotals {
    /// Places it is attached to.
    pub attached: u32,
    /// Runs that the kernel skipped because the program was already running on that CPU.
    pub recursion_misses: u64,
    /// Runs and run time; only while `kernel.bpf_stats_enabled` is set.
    #[serde(default)]
    pub runs: Option<u64>,
    #[serde(default)]
    pub run_time_ns: Option<u64>,
}

/// Pods known from the API server, and failed requests to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubernetes {
    pub pods: u64,
    pub errors: u64,
}

/// Resources of the observer process. `None` is unknown, as in records of older observers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// User and system time.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    #[serde(default)]
    pub virtual_bytes: Option<u64>,
    /// Unix time.
    #[serde(default)]
    pub start_time_seconds: Option<f64>,
    #[serde(default)]
    pub open_fds: Option<u64>,
    /// The soft limit; `None` also if there is none.
    #[serde(default)]
    pub max_fds: Option<u64>,
    #[serde(default)]
    pub threads: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_capture_keeps_its_name_in_record_files() {
        let fact = Fact::DeepCapture(DeepCapture {
            pid: 7,
            state: DeepCaptureState::Capturing,
            since_ns: 1,
            reason: "500 on /".to_owned(),
        });
        let json = r#"{"fact":"look","pid":7,"state":"looking","since_ns":1,"reason":"500 on /"}"#;
        assert_eq!(serde_json::to_string(&fact).unwrap(), json);
        assert_eq!(serde_json::from_str::<Fact>(json).unwrap(), fact);
    }

    #[test]
    fn usage_of_an_older_record_is_read() {
        let json = r#"{"fact":"usage","cpu_seconds":1.5,"resident_bytes":7}"#;
        let usage = Usage {
            cpu_seconds: 1.5,
            resident_bytes: 7,
            ..Usage::default()
        };
        assert_eq!(
            serde_json::from_str::<Fact>(json).unwrap(),
            Fact::Usage(usage)
        );
    }
}
