//! Settings of the model that the operator chooses.

use crate::duration::parse_duration;
use crate::routes::normalize::Pattern;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Settings of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Routes named by the operator, tried in order.
    pub routes: Vec<Pattern>,
    /// Most routes of one app; the rest is `other`.
    pub route_limit: usize,
    /// How long exited workers and masters stay in the views.
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
    /// No label: one series for each worker class of a master.
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

/// Thresholds for findings. A recording that is older than a threshold replays with its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Age of a request in flight.
    pub stuck_ns: u64,
    /// Age of a heartbeat, in percent of the timeout.
    pub heartbeat_percent: u32,
    /// Workers that exited in trouble within a minute.
    pub restarts: u32,
    /// Size of a growing backlog, in percent of its limit.
    pub backlog_percent: u32,
    /// One worker's share of the requests, in percent.
    pub one_worker_percent: u32,
    /// Growth of resident memory within two minutes, in percent.
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

/// A threshold as an option: `stuck=30s`, `heartbeat=90%`, `restarts=5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    Stuck(u64),
    Heartbeat(u32),
    Restarts(u32),
    Backlog(u32),
    OneWorker(u32),
    Memory(u32),
}

/// A text that is no threshold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid threshold `{0}`, expected one such as stuck=30s, heartbeat=90%, restarts=5, backlog=20%, \
     one-worker=80% or memory=25%"
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
            // The memory of a worker may grow by more than 100%.
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
    fn a_recording_without_a_threshold_has_its_default() {
        let recorded: Thresholds = serde_json::from_str(r#"{"restarts":5}"#).unwrap();
        let expected = Thresholds {
            restarts: 5,
            ..Thresholds::default()
        };
        assert_eq!(recorded, expected);
    }

    #[test]
    fn an_invalid_threshold_is_refused_with_examples() {
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
