//! Findings: what an operator should know without reading numbers. What each says, from when on, is
//! set by [`Thresholds`].

use crate::event::Pid;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A request of a worker is in progress for long.
    WorkerStuck,
    /// A worker soon counts as dead for its master.
    HeartbeatLate,
    /// Workers end again and again without being asked to.
    RestartLoop,
    /// More and more connections wait to be accepted.
    BacklogGrowing,
    /// Connections wait all the time.
    Saturated,
    /// Nearly all requests go to one worker of several.
    OneWorkerBusy,
    /// The memory of a worker grows with its requests.
    MemoryGrows,
}

impl Kind {
    /// As it is exported.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkerStuck => "worker_stuck",
            Self::HeartbeatLate => "heartbeat_late",
            Self::RestartLoop => "restart_loop",
            Self::BacklogGrowing => "backlog_growing",
            Self::Saturated => "saturated",
            Self::OneWorkerBusy => "one_worker_busy",
            Self::MemoryGrows => "memory_grows",
        }
    }
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub finding: Kind,
    pub app: String,
    pub master_pid: Pid,
    /// Of one worker; `None` if it is of all.
    pub worker_pid: Option<Pid>,
    /// Unix time since when it is so.
    pub since_seconds: f64,
    /// What it was found by, as a sentence.
    pub evidence: String,
}

/// From when on something is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// A request is in progress that long.
    pub stuck_ns: u64,
    /// A heartbeat is that old, in percent of the timeout.
    pub heartbeat_percent: u32,
    /// So many workers ended in trouble within a minute.
    pub restarts: u32,
    /// A backlog grew to that much, in percent of its limit.
    pub backlog_percent: u32,
    /// A worker has that much of the requests, in percent.
    pub one_worker_percent: u32,
    /// Resident memory grew by that much within two minutes, in percent.
    pub memory_percent: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            stuck_ns: 10_000_000_000,
            heartbeat_percent: 80,
            restarts: 3,
            backlog_percent: 10,
            one_worker_percent: 90,
            memory_percent: 10,
        }
    }
}

/// One threshold as an option has it: `stuck=30s`, `heartbeat=90%`, `restarts=5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    Stuck(u64),
    Heartbeat(u32),
    Restarts(u32),
    Backlog(u32),
    OneWorker(u32),
    Memory(u32),
}

/// Text that is no threshold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no threshold such as stuck=30s, heartbeat=90%, restarts=5, backlog=20%, one-worker=80% or memory=25%"
)]
pub struct NoThreshold(String);

impl FromStr for Threshold {
    type Err = NoThreshold;

    fn from_str(text: &str) -> Result<Self, NoThreshold> {
        let wrong = || NoThreshold(text.to_owned());
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let percent = || {
            let number = value
                .strip_suffix('%')
                .and_then(|number| number.parse().ok());
            number
                .filter(|percent| (1..=100).contains(percent))
                .ok_or_else(wrong)
        };
        match name.trim() {
            "stuck" => {
                let time = crate::config::parse_duration(value).map_err(|_| wrong())?;
                u64::try_from(time.as_nanos())
                    .map(Self::Stuck)
                    .map_err(|_| wrong())
            }
            "heartbeat" => percent().map(Self::Heartbeat),
            "restarts" => {
                let number = value.parse().ok().filter(|&number| number > 0);
                number.map(Self::Restarts).ok_or_else(wrong)
            }
            "backlog" => percent().map(Self::Backlog),
            "one-worker" => percent().map(Self::OneWorker),
            // A worker may well double its memory.
            "memory" => {
                let number = value
                    .strip_suffix('%')
                    .and_then(|number| number.parse().ok());
                number
                    .filter(|&number| number > 0)
                    .map(Self::Memory)
                    .ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl Thresholds {
    /// Changes one.
    pub fn set(&mut self, threshold: Threshold) {
        match threshold {
            Threshold::Stuck(ns) => self.stuck_ns = ns,
            Threshold::Heartbeat(percent) => self.heartbeat_percent = percent,
            Threshold::Restarts(number) => self.restarts = number,
            Threshold::Backlog(percent) => self.backlog_percent = percent,
            Threshold::OneWorker(percent) => self.one_worker_percent = percent,
            Threshold::Memory(percent) => self.memory_percent = percent,
        }
    }
}

/// A number of bytes for people.
pub(super) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..10_240 => write!(f, "{bytes} bytes"),
            bytes @ 10_240..10_485_760 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{} MiB", bytes >> 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_by_name() {
        let mut all = Thresholds::default();
        for text in [
            "stuck=30s",
            "heartbeat=90%",
            "restarts=5",
            "backlog=20%",
            "one-worker=80%",
            "memory=250%",
        ] {
            all.set(text.parse().unwrap());
        }
        let expected = Thresholds {
            stuck_ns: 30_000_000_000,
            heartbeat_percent: 90,
            restarts: 5,
            backlog_percent: 20,
            one_worker_percent: 80,
            memory_percent: 250,
        };
        assert_eq!(all, expected);
    }

    #[test]
    fn what_is_no_threshold_is_refused_with_an_example() {
        for text in [
            "",
            "stuck",
            "stuck=",
            "stuck=5",
            "heartbeat=0%",
            "heartbeat=101%",
            "backlog=5",
            "restarts=0",
            "restarts=-1",
            "memory=0%",
            "x=1",
        ] {
            let error = text.parse::<Threshold>().unwrap_err();
            assert!(error.to_string().contains("stuck=30s"), "{text}");
        }
    }

    #[test]
    fn bytes_are_shown_in_a_unit_that_fits() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!(shown(512), "512 bytes");
        assert_eq!(shown(20 << 10), "20 KiB");
        assert_eq!(shown(50 << 20), "50 MiB");
    }
}
