//! When the engine drains the ring buffer, and when it reads the requests in flight.
//!
//! ```text
//!           record             no record in a poll: the alarm is set
//!  Asleep ──────────> Polling ───────────────────────────────────────> Settling
//!    ^                   ^                                              │    │
//!    │                   └─────────────────── record ───────────────────┘    │
//!    └───────────────────────── no record in another poll ───────────────────┘
//! ```
//!
//! While the alarm is set, the programs wake the engine for the next record. The poll after it finds a
//! record that a program was about to send when the alarm was set.
//!
//! The requests in flight are read every second while there is activity: a record, a request in
//! flight, or a client that asks for views. No record shows a request that hangs, so they are also read
//! without activity: when the watcher's gauges, every two seconds, wake the engine anyway, and at the
//! latest after three.

const MS: u64 = 1_000_000;
/// Time between two polls of the ring buffer.
const POLL_NS: u64 = 100 * MS;
/// Time between two reads of the requests in flight.
const READ_NS: u64 = 1_000 * MS;
/// The same without activity: longer than between two reads of the gauges, unless there are many workers.
const READ_IDLE_NS: u64 = 3_000 * MS;
/// A read may come this much earlier when the engine is awake anyway.
const READ_EARLY_NS: u64 = 100 * MS;
/// How long there is activity after its last sign.
const ACTIVE_NS: u64 = 2_000 * MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Polls {
    Polling,
    Settling,
    Asleep,
}

/// Decides when the engine wakes next.
#[derive(Debug)]
pub struct Rhythm {
    polls: Polls,
    /// When the next poll is due, unless it is asleep.
    poll_ns: u64,
    /// The last read of the requests in flight.
    read_ns: u64,
    /// The last sign of activity.
    active_ns: u64,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            polls: Polls::Polling,
            poll_ns: 0,
            read_ns: 0,
            active_ns: 0,
        }
    }
}

impl Rhythm {
    /// The ring buffer was drained; `has_records` if it held any besides those that always wake the
    /// engine. Whether the alarm is to be set now.
    #[must_use]
    pub fn drained(&mut self, now: u64, has_records: bool) -> bool {
        if has_records {
            self.polls = Polls::Polling;
            self.active_ns = now;
        } else if !self.is_poll_due(now) {
            return false;
        } else {
            self.polls = match self.polls {
                Polls::Polling => Polls::Settling,
                Polls::Settling | Polls::Asleep => Polls::Asleep,
            };
        }
        self.poll_ns = now + POLL_NS;
        self.polls == Polls::Settling
    }

    /// The requests in flight were read.
    pub fn read(&mut self, now: u64, has_requests: bool) {
        self.read_ns = now;
        if has_requests {
            self.active_ns = now;
        }
    }

    /// A client asked for a view.
    pub fn asked(&mut self, now: u64) {
        self.active_ns = now;
    }

    /// Whether there is activity.
    #[must_use]
    pub fn is_active(&self, now: u64) -> bool {
        now < self.active_ns + ACTIVE_NS
    }

    /// Whether the ring buffer is to be drained.
    #[must_use]
    pub fn is_poll_due(&self, now: u64) -> bool {
        self.polls != Polls::Asleep && self.poll_ns <= now
    }

    /// Whether the requests in flight are to be read.
    #[must_use]
    pub fn is_read_due(&self, now: u64) -> bool {
        self.read_ns + READ_NS - READ_EARLY_NS <= now
    }

    /// When the engine wakes next by itself.
    #[must_use]
    pub fn next_ns(&self) -> u64 {
        let pause_ns = match self.is_active(self.read_ns) {
            true => READ_NS,
            false => READ_IDLE_NS,
        };
        let read_ns = self.read_ns + pause_ns;
        match self.polls {
            Polls::Asleep => read_ns,
            Polls::Polling | Polls::Settling => read_ns.min(self.poll_ns),
        }
    }
}

#[cfg(test)]
#[path = "rhythm_tests.rs"]
mod tests;
