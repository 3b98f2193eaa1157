//! The one reader of clocks. Everything else takes time as a parameter.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` nanoseconds, as the programs in the kernel see it.
#[must_use]
pub fn monotonic_ns() -> u64 {
    u64::try_from(read(ClockId::CLOCK_MONOTONIC)).unwrap_or(0)
}

/// What is to be added to [`monotonic_ns`] to have nanoseconds since the Unix epoch.
#[must_use]
pub fn wall_offset_ns() -> i64 {
    read(ClockId::CLOCK_REALTIME) - read(ClockId::CLOCK_MONOTONIC)
}

fn read(clock: ClockId) -> i64 {
    // Neither clock can fail on Linux.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}
