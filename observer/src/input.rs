//! What the model takes in: one stream, live or replayed.

use crate::event::Event;
use crate::fact::Fact;

/// One step of the stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// From the kernel.
    Event(Event),
    /// A record of the kernel that could not be decoded, and why.
    Malformed(&'static str),
    /// From userspace, and when (`CLOCK_MONOTONIC`).
    Fact { time_ns: u64, fact: Fact },
    /// Time passed, and nothing else: series grow old, a view may be taken.
    Tick { now_ns: u64 },
}
