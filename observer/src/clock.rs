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

/// Nanoseconds since the Unix epoch, as files are stamped.
#[must_use]
pub fn wall_ns() -> i64 {
    read(ClockId::CLOCK_REALTIME)
}

/// How far `CLOCK_BOOTTIME`, by which `/proc` tells when a process started, is ahead
/// of [`monotonic_ns`]: the time the host was suspended.
#[must_use]
pub fn suspended_ns() -> u64 {
    let ahead = read(ClockId::CLOCK_BOOTTIME) - read(ClockId::CLOCK_MONOTONIC);
    u64::try_from(ahead).unwrap_or(0)
}

fn read(clock: ClockId) -> i64 {
    // None of these clocks can fail on Linux.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}
