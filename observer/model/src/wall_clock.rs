//! From the monotonic clock to the wall clock.

use crate::duration::seconds;

/// Unix time of a monotonic one.
pub fn wall_seconds(time_ns: u64, wall_offset_ns: i64) -> f64 {
    let clock = Clock {
        now_ns: time_ns,
        wall_offset_ns,
    };
    clock.wall_seconds(time_ns)
}

/// Ties monotonic times to the wall.
pub struct Clock {
    pub now_ns: u64,
    pub wall_offset_ns: i64,
}

impl Clock {
    fn wall_ns(&self, time_ns: u64) -> i128 {
        i128::from(time_ns) + i128::from(self.wall_offset_ns)
    }

    #[expect(clippy::cast_precision_loss, reason = "shown as a float")]
    pub fn wall_seconds(&self, time_ns: u64) -> f64 {
        self.wall_ns(time_ns) as f64 / 1e9
    }

    /// The monotonic time of a Unix time; the nearest there is.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float takes the nearest integer that there is"
    )]
    pub fn monotonic_ns(&self, wall_seconds: f64) -> u64 {
        (wall_seconds * 1e9 - self.wall_offset_ns as f64) as u64
    }

    /// Seconds from a time until now.
    #[must_use]
    pub fn seconds_since(&self, time_ns: u64) -> f64 {
        seconds(self.now_ns.saturating_sub(time_ns))
    }
}
