//! Heartbeats of workers, as Gunicorn's master compares them with its timeout
//! (`gunicorn/workers/workertmp.py`, and `murder_workers` in `gunicorn/arbiter.py`).
//!
//! - From 22.0 on a heartbeat sets the file's mtime to `time.monotonic()`. Until the first one the mtime is
//!   a time since the Unix epoch, far in the future for the master: it never ends a worker that boots.
//! - Before, a heartbeat changed the file's mode, and with it the ctime. The time since the file's creation
//!   counts, too, and a step of the clock changes what the master sees.

use std::time::Duration;

use super::version;
use crate::process::fds::FileTimes;

/// The clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Nanoseconds since the Unix epoch.
    pub wall_ns: i64,
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub monotonic_ns: u64,
}

/// Seconds since a worker's last heartbeat, as its master counts them; `None` before the first one that
/// counts. Never negative: files are stamped up to a clock tick late, and the wall clock may be set back.
#[must_use]
pub fn age_seconds(file: FileTimes, gunicorn_version: &str, now: Clocks) -> Option<f64> {
    let age_ns = if version::has_monotonic_heartbeat(gunicorn_version) {
        let now_ns = i64::try_from(now.monotonic_ns).ok()?;
        // Some time passed between the reads.
        if file.modified_ns > now_ns.checked_add(LATE_NS)? {
            return None;
        }
        now_ns.saturating_sub(file.modified_ns)
    } else {
        now.wall_ns.saturating_sub(file.changed_ns)
    };
    let age_ns = u64::try_from(age_ns).unwrap_or(0);
    Some(Duration::from_nanos(age_ns).as_secs_f64())
}

/// A heartbeat that comes after the clock was read comes within this time.
const LATE_NS: i64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const WALL_NS: i64 = 1_800_000_000_000_000_000;
    const S: i64 = 1_000_000_000;
    const NOW: Clocks = Clocks {
        wall_ns: WALL_NS,
        monotonic_ns: 1_000_000_000_000,
    };

    fn age(version: &str, modified_ns: i64, changed_ns: i64) -> Option<f64> {
        let file = FileTimes {
            modified_ns,
            changed_ns,
        };
        age_seconds(file, version, NOW)
    }

    #[test]
    fn a_heartbeat_is_on_the_clock_that_its_master_compares() {
        let old_change = WALL_NS - 7 * S;
        assert_eq!(age("23.0.0", 998 * S, old_change), Some(2.0));
        assert_eq!(age("22.0", 1_001 * S, old_change), Some(0.0));
        assert_eq!(age("21.2.0", 998 * S, old_change), Some(7.0));
        assert_eq!(age("20.1.0", WALL_NS, WALL_NS + S), Some(0.0));
        // An unknown version is a new one.
        assert_eq!(age("", 998 * S, old_change), Some(2.0));
    }

    #[test]
    fn a_worker_that_boots_has_none_where_its_master_waits_for_ever() {
        let created = WALL_NS - 100 * S;
        assert_eq!(age("27.0.1", created, created), None);
        assert_eq!(age("21.2.0", created, created), Some(100.0));
    }

    #[test]
    fn a_step_of_the_clock_changes_nothing_from_22_on() {
        let stepped = Clocks {
            wall_ns: WALL_NS + 3_600 * S,
            ..NOW
        };
        let file = FileTimes {
            modified_ns: 999 * S,
            changed_ns: WALL_NS,
        };
        assert_eq!(age_seconds(file, "25.3.0", stepped), Some(1.0));
        assert_eq!(age_seconds(file, "20.1.0", stepped), Some(3_600.0));
    }
}
