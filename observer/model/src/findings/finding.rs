//! Findings: what an operator should know without reading numbers. What each says, from when on, is
//! set by [`Thresholds`].

use crate::event::Pid;
use serde::{Deserialize, Serialize};
use std::fmt;

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

/// A number of bytes for people.
pub struct Bytes(pub u64);

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
    fn bytes_are_shown_in_a_unit_that_fits() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!(shown(512), "512 bytes");
        assert_eq!(shown(20 << 10), "20 KiB");
        assert_eq!(shown(50 << 20), "50 MiB");
    }
}
