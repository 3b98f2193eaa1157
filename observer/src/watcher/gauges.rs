//! Resource use of masters and workers, and backlog of listeners, read at intervals.

use super::{MS, Watcher};
use crate::clock::{monotonic_ns, wall_ns};
use crate::gunicorn::gauges;
use crate::gunicorn::heartbeat::Clocks;
use crate::gunicorn::listeners::{ListenerReader, Listens};
use observer_model::fact::Fact;

/// Shortest useful interval.
const SHORTEST_NS: u64 = 1_000 * MS;
/// Shortest interval while there is no activity. Each read wakes two threads, the watcher and the engine:
/// once a second in all.
const SHORTEST_IDLE_NS: u64 = 2_000 * MS;
/// Longest useful interval.
const LONGEST_NS: u64 = 10_000 * MS;
/// Interval that each worker adds: a hundred times the read of one (0.06 ms), for about one per cent of
/// a CPU.
const PER_WORKER_NS: u64 = 6 * MS;
/// Reading the sockets of a worker takes as long as reading so many workers (0.11 ms).
const SOCKETS_AS_WORKERS: usize = 2;
/// Interval that each master adds: a hundred times the read of one (0.4 ms, or 0.8 ms in a network
/// namespace of its own).
const PER_MASTER_NS: u64 = 80 * MS;
/// Shortest pause between two reads when a new master hastens one.
const REST_NS: u64 = 100 * MS;

/// When the gauges are read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    at_ns: u64,
    rested_ns: u64,
}

impl Due {
    /// Time of the next read.
    pub(super) fn at_ns(self) -> u64 {
        self.at_ns
    }

    /// A master is new: reads soon.
    pub(super) fn hasten(&mut self, now: u64) {
        self.at_ns = self.at_ns.min(now.max(self.rested_ns));
    }

    /// The gauges of this many were read.
    fn was_read(&mut self, masters: usize, workers: usize, is_active: bool, now: u64) {
        let pause_ns = interval_ns(masters, workers, is_active);
        self.at_ns = now + pause_ns;
        self.rested_ns = now + REST_NS.max(pause_ns / 10);
    }
}

fn interval_ns(masters: usize, workers: usize, is_active: bool) -> u64 {
    let shortest_ns = match is_active {
        true => SHORTEST_NS,
        false => SHORTEST_IDLE_NS,
    };
    let of_workers = PER_WORKER_NS.saturating_mul(workers as u64);
    let of_masters = PER_MASTER_NS.saturating_mul(masters as u64);
    let wanted_ns = of_workers.saturating_add(of_masters);
    wanted_ns.clamp(shortest_ns, LONGEST_NS)
}

impl Watcher {
    /// Reads and reports the gauges of all masters, if that is due.
    pub(super) fn send_gauges(&mut self, is_active: bool, now: u64) {
        if self.masters.is_empty() || self.gauges.at_ns > now {
            return;
        }
        let procfs = self.tree.procfs();
        let mut workers = Vec::new();
        let mut masters = Vec::new();
        let mut facts = Vec::new();
        let mut reader = ListenerReader::default();
        let mut listens = Vec::new();
        for (&pid, master) in &mut self.masters {
            let clocks = Clocks {
                wall_ns: wall_ns(),
                monotonic_ns: monotonic_ns(),
            };
            masters.extend(gauges::of_master(procfs, &master.found));
            workers.extend(gauges::of_workers(procfs, &master.found, clocks));
            let listeners = match reader.of_master(procfs, &master.found) {
                Ok((sockets, listening)) => {
                    listens.push((pid, Listens::on(&sockets)));
                    master.listeners.update(sockets, listening)
                }
                Err(error) => {
                    tracing::debug!(pid, "cannot read listeners: {error}");
                    // The last report may be out of date: withdraws it.
                    Vec::new()
                }
            };
            facts.push(Fact::Listeners { pid, listeners });
        }
        for (pid, listens) in listens {
            self.listen(pid, &listens);
        }
        let count = workers.len();
        facts.push(Fact::MasterGauges { masters });
        facts.push(Fact::Gauges { workers });
        // All at once, so that they wake the engine once.
        for fact in facts {
            self.send(fact);
        }
        let read = count + SOCKETS_AS_WORKERS * reader.workers_read;
        self.gauges
            .was_read(self.masters.len(), read, is_active, now);
        tracing::trace!(
            workers = count,
            took_ns = monotonic_ns().saturating_sub(now),
            "read the gauges"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_grows_with_workers_and_masters_within_bounds() {
        assert_eq!(interval_ns(1, 2, true), SHORTEST_NS);
        assert_eq!(interval_ns(1, 2, false), SHORTEST_IDLE_NS);
        assert_eq!(interval_ns(10, 400, true), 3_200 * MS);
        assert_eq!(interval_ns(10, 400, false), 3_200 * MS);
        assert_eq!(interval_ns(100, 100, true), 8_600 * MS);
        assert_eq!(interval_ns(1, usize::MAX, true), LONGEST_NS);
    }

    #[test]
    fn new_masters_hasten_the_read_but_keep_a_pause() {
        let mut due = Due::default();
        due.was_read(1, 1, true, 5_000 * MS);
        assert_eq!(due.at_ns(), 6_000 * MS);
        due.hasten(5_001 * MS);
        assert_eq!(due.at_ns(), 5_100 * MS);
        due.was_read(10, 400, true, 5_100 * MS);
        due.hasten(6_000 * MS);
        assert_eq!(due.at_ns(), 6_000 * MS);
        due.hasten(6_500 * MS);
        assert_eq!(due.at_ns(), 6_000 * MS);
    }
}
