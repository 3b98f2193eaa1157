//! What the operator decides about the model.

use crate::duration::parse_duration;
use crate::routes::normalize::Pattern;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Settings of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// RouteRegistry named by the operator, tried in order.
    pub routes: Vec<Pattern>,
    /// RouteRegistry of one app; the rest is `other`.
    pub route_limit: usize,
    /// How long what ended is still shown.
    pub keep_ended_ns: u64,
    pub thresholds: Thresholds,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            route_limit: 200,
            keep_ended_ns: 300 * 1_000_000_000,
            thresholds: Thresholds::default(),
        }
    }
}

/// Label that identifies a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerLabel {
    /// `worker_pid` and `worker_id`: every worker has series of its own.
    #[default]
    Pid,
    /// `worker_slot`: a worker takes the lowest number free under its master.
    Slot,
    /// None: one series for each worker class of a master.
    None,
}

impl WorkerLabel {
    /// Each with its name and meaning.
    pub const ALL: [(&str, Self, &str); 3] = [
        (
            "pid",
            Self::Pid,
            "`worker_pid` and `worker_id`: every worker has series of its own",
        ),
        (
            "slot",
            Self::Slot,
            "`worker_slot`: a worker takes the lowest number free under its master",
        ),
        (
            "none",
            Self::None,
            "No label: one series for each worker class of a master",
        ),
    ];
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
                let time = parse_duration(value).map_err(|_| wrong())?;
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
}
