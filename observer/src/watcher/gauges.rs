//! What the workers use and what waits at their masters' sockets: told at intervals.

use super::{MS, Watcher};
use crate::clock::{monotonic_ns, wall_ns};
use crate::gunicorn::gauges;
use crate::gunicorn::listeners::Look;
use observer_model::fact::Fact;

/// As often as is of use.
const SHORTEST_NS: u64 = 1_000 * MS;
/// As rarely as still is, whatever it costs.
const LONGEST_NS: u64 = 10_000 * MS;
/// So much longer is the interval for each worker, and for each master: a hundred times what
/// reading one takes (0.06 ms; 0.4 ms, or 0.8 in a network namespace of its own), for no more than
/// about a hundredth of a processor.
const PER_WORKER_NS: u64 = 6 * MS;
const PER_MASTER_NS: u64 = 80 * MS;
/// When a master was found it is read at once, but not so soon after the last time.
const REST_NS: u64 = 100 * MS;

/// When the gauges are due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    at_ns: u64,
    rested_ns: u64,
}

impl Due {
    /// When they are to be read next.
    pub(super) fn at_ns(self) -> u64 {
        self.at_ns
    }

    /// Something is new.
    pub(super) fn hasten(&mut self, now: u64) {
        self.at_ns = self.at_ns.min(now.max(self.rested_ns));
    }

    /// They were read of so many.
    fn was_read(&mut self, masters: usize, workers: usize, now: u64) {
        let pause_ns = interval_ns(masters, workers);
        self.at_ns = now + pause_ns;
        self.rested_ns = now + REST_NS.max(pause_ns / 10);
    }
}

fn interval_ns(masters: usize, workers: usize) -> u64 {
    let of_workers = PER_WORKER_NS.saturating_mul(workers as u64);
    let of_masters = PER_MASTER_NS.saturating_mul(masters as u64);
    let wanted_ns = of_workers.saturating_add(of_masters);
    wanted_ns.clamp(SHORTEST_NS, LONGEST_NS)
}

impl Watcher {
    /// Reads and tells them of all masters, if that is due.
    pub(super) fn tell_gauges(&mut self, now: u64) {
        if self.masters.is_empty() || self.gauges.at_ns > now {
            return;
        }
        let procfs = self.tree.procfs();
        let mut workers = Vec::new();
        let mut look = Look::default();
        for (&pid, master) in &self.masters {
            workers.extend(gauges::of_workers(procfs, &master.found, wall_ns()));
            match look.at(procfs, &master.found) {
                Ok(listeners) => self.tell(Fact::Listeners { pid, listeners }),
                Err(error) => {
                    tracing::debug!(pid, "what it listens on is not told: {error}");
                    // What was told before is not so any more, for all that is known.
                    let listeners = Vec::new();
                    self.tell(Fact::Listeners { pid, listeners });
                }
            }
        }
        let count = workers.len();
        self.tell(Fact::Gauges { workers });
        self.gauges.was_read(self.masters.len(), count, now);
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
    fn the_more_workers_the_rarer_within_bounds() {
        assert_eq!(interval_ns(1, 2), SHORTEST_NS);
        assert_eq!(interval_ns(10, 400), 3_200 * MS);
        assert_eq!(interval_ns(100, 100), 8_600 * MS);
        assert_eq!(interval_ns(1, usize::MAX), LONGEST_NS);
    }

    #[test]
    fn a_new_master_is_read_at_once_but_not_many_of_them_each_on_its_own() {
        let mut due = Due::default();
        due.was_read(1, 1, 5_000 * MS);
        assert_eq!(due.at_ns(), 6_000 * MS);
        due.hasten(5_001 * MS);
        assert_eq!(due.at_ns(), 5_100 * MS);
        due.was_read(10, 400, 5_100 * MS);
        due.hasten(6_000 * MS);
        assert_eq!(due.at_ns(), 6_000 * MS);
        due.hasten(6_500 * MS);
        assert_eq!(due.at_ns(), 6_000 * MS);
    }
}
