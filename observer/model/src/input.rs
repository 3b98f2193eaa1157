//! What the model takes in: one stream, live or replayed.

use crate::event::Event;
use crate::fact::Fact;

/// One step of the stream.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, never kept: a box would only cost more"
)]
pub enum Input {
    /// From the kernel.
    Event(Event),
    /// A record of the kernel that could not be decoded, and why.
    Malformed(&'static str),
    /// From userspace, and when (`CLOCK_MONOTONIC`).
    Fact { time_ns: u64, fact: Fact },
    /// Time passed and a view was served: series grow old.
    Tick { now_ns: u64 },
}

impl Input {
    /// When it was; 0 for what has no time.
    #[must_use]
    pub fn time_ns(&self) -> u64 {
        match self {
            Self::Event(event) => event.time_ns(),
            Self::Malformed(_) => 0,
            Self::Fact { time_ns, .. } => *time_ns,
            Self::Tick { now_ns } => *now_ns,
        }
    }
}
