//! What userspace found out: about masters, workers, probes and itself.
//!
//! Facts are recorded beside the kernel's records, so that a replay sees all
//! that the model saw. They are JSON in a record file: adding a field needs
//! `#[serde(default)]`, and no field is renamed.

use crate::event::Pid;
use crate::routes::normalize::Pattern;
use crate::settings::{Thresholds, WorkerLabel};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One thing found by userspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The observer started: ties the monotonic clock to wall time.
    Started(Started),
    /// How the observer counts and names: first in a record.
    Settings(Settings),
    /// A process was recognised as a Gunicorn master, or its settings changed.
    Master(Master),
    /// A worker of a known master was read from the master's memory.
    Worker(Worker),
    /// A candidate turned out to be no Gunicorn master, or went before it was read.
    NotGunicorn { pid: Pid },
    /// How well a master and its workers can be observed.
    Level(TargetLevel),
    /// A closer look at the exceptions of a master's workers began or ended.
    #[serde(rename = "look")]
    DeepCapture(DeepCapture),
    /// Requests that are in progress.
    InFlight(InFlight),
    /// What `/proc` and their memory tell of the workers of all masters.
    Gauges { workers: Vec<Gauges> },
    /// How long threads of processes waited for the GIL, in nanoseconds, since each is observed.
    Gil { waits: BTreeMap<Pid, u64> },
    /// The sockets that a master listens on.
    Listeners { pid: Pid, listeners: Vec<Listener> },
    /// Running totals of the programs in the kernel.
    Kernel(KernelTotals),
    /// Entries of the programs' maps, by map: what dead processes leave is swept.
    Maps { entries: BTreeMap<String, u64> },
    /// What the observer itself uses.
    Usage(Usage),
    /// How the API server of the cluster is followed.
    Kubernetes(Kubernetes),
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
    /// RouteRegistry named by the operator.
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
    /// Number of workers asked for.
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
    /// Of the container it was found in, which its workers share; empty outside of one.
    #[serde(default)]
    pub container_id: String,
    /// Who made the container, such as `docker`; empty when unknown.
    #[serde(default)]
    pub container_runtime: String,
    /// Of the Kubernetes pod; empty outside of one, or when unknown.
    #[serde(default)]
    pub pod_uid: String,
    /// LabelLimits in Kubernetes, as far as they are known.
    #[serde(default)]
    pub pod: Box<Pod>,
}

/// What Kubernetes calls a container and what it is in; empty where that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub container: String,
    /// Of its host.
    #[serde(default)]
    pub node: String,
    /// What the pod is one of, such as `Deployment` and its name: only the API server tells.
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
    /// `worker.age`: the how-manyeth worker of its master it is.
    pub age: Option<u64>,
    /// Concrete class name.
    pub class: String,
}

/// How well a target is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Not at all.
    None,
    /// By its system calls only.
    Socket,
    /// By all probes.
    Full,
}

impl Level {
    /// As it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Socket => "socket",
            Self::Full => "full",
        }
    }
}

/// The level of a master and its workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetLevel {
    pub pid: Pid,
    pub level: Level,
    /// Why it is not higher. At the highest: what that costs more than it should, mostly empty.
    pub reason: String,
}

/// How far a closer look is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeepCaptureState {
    /// It is taken.
    Looking,
    /// It was taken, and for what it cost there is none for a while.
    Resting,
    /// It cannot be taken: the reason says why.
    Failed,
    /// There is none, nor one to come.
    Over,
}

impl DeepCaptureState {
    /// As it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Looking => "looking",
            Self::Resting => "resting",
            Self::Failed => "failed",
            Self::Over => "over",
        }
    }
}

/// A closer look at the exceptions of a master's workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeepCapture {
    pub pid: Pid,
    pub state: DeepCaptureState,
    /// Since when it is in this state.
    pub since_ns: u64,
    /// What it is taken for, or why it cannot be.
    pub reason: String,
}

/// Requests that are in progress at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InFlight {
    /// Every request that was in progress then is among these, or has a record of its own.
    pub at_ns: u64,
    /// Only this process was looked at; all of them if `None`.
    pub only: Option<Pid>,
    /// Those that have any.
    pub workers: Vec<WorkerInFlight>,
}

/// Those of one worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerInFlight {
    pub pid: Pid,
    pub count: u32,
    /// Of them those that began first, the oldest first.
    pub oldest: Vec<Pending>,
}

/// A request in progress.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// It entered the application; where Python tells nothing, its first byte was read.
    pub begun_ns: u64,
    /// The thread that it entered in, or 0.
    pub tid: u32,
    pub method: Option<String>,
    pub path: Option<String>,
    /// Only the beginning of its path was captured.
    pub path_cut: bool,
}

/// What a worker uses, and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gauges {
    pub pid: Pid,
    pub resident_bytes: u64,
    /// User and system time since it started.
    pub cpu_seconds: f64,
    pub threads: u32,
    pub open_fds: Option<u32>,
    /// Since it last told its master that it is alive (the ctime of its `WorkerTmp` file).
    pub heartbeat_age_seconds: Option<f64>,
    /// `Worker.booted`, `Worker.alive`: as its own memory has them; `None` when not known.
    pub booted: Option<bool>,
    pub alive: Option<bool>,
}

/// A socket that a master listens on, as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// `127.0.0.1:8000`, `[::1]:8000`, `unix:/run/app.sock`, `unix:@name`.
    pub address: String,
    /// Connections that wait to be accepted.
    pub backlog: u32,
    /// … that may wait.
    pub limit: u32,
    /// Connections that were dropped, since it listens; not told of Unix sockets.
    pub drops: Option<u64>,
}

/// Totals since the programs were loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KernelTotals {
    /// Losses by cause: see `probe_ebpf::abi::Stat`.
    pub lost: BTreeMap<String, u64>,
    /// Other counts of the same registry.
    pub counts: BTreeMap<String, u64>,
    /// By program: how often it ran, and the run time where the kernel measures it.
    pub programs: BTreeMap<String, ProgramTotals>,
    /// Why this kernel lacks each feature of `probe::features`; empty if it does not.
    #[serde(default)]
    pub features: BTreeMap<String, String>,
}

/// One program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProgramTotals {
    /// Places it is attached to.
    pub attached: u32,
    /// Runs the kernel refused because the program was running already on that CPU.
    pub recursion_misses: u64,
    /// Runs and nanoseconds: only while `kernel.bpf_stats_enabled` is set.
    #[serde(default)]
    pub runs: Option<u64>,
    #[serde(default)]
    pub run_time_ns: Option<u64>,
}

/// Pods that the API server told of, and how often it could not be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubernetes {
    pub pods: u64,
    pub errors: u64,
}

/// What the observer process uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_keeps_the_name_it_has_in_record_files() {
        let fact = Fact::DeepCapture(DeepCapture {
            pid: 7,
            state: DeepCaptureState::Looking,
            since_ns: 1,
            reason: "500 on /".to_owned(),
        });
        let json = r#"{"fact":"look","pid":7,"state":"looking","since_ns":1,"reason":"500 on /"}"#;
        assert_eq!(serde_json::to_string(&fact).unwrap(), json);
        assert_eq!(serde_json::from_str::<Fact>(json).unwrap(), fact);
    }
}
