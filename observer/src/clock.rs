//! The only reader of clocks. Everything else takes the time as a parameter.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` nanoseconds, as the eBPF programs read it.
#[must_use]
pub fn monotonic_ns() -> u64 {
    u64::try_from(read(ClockId::CLOCK_MONOTONIC)).unwrap_or(0)
}

/// The difference between nanoseconds since the Unix epoch and [`monotonic_ns`].
#[must_use]
pub fn wall_offset_ns() -> i64 {
    read(ClockId::CLOCK_REALTIME) - read(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds since the Unix epoch, as in the timestamps of files.
#[must_use]
pub fn wall_ns() -> i64 {
    read(ClockId::CLOCK_REALTIME)
}

/// Nanoseconds that the host was suspended: `CLOCK_BOOTTIME`, which `/proc` uses for the start of a
/// process, is ahead of [`monotonic_ns`] by them.
#[must_use]
pub fn suspended_ns() -> u64 {
    let ahead = read(ClockId::CLOCK_BOOTTIME) - read(ClockId::CLOCK_MONOTONIC);
    u64::try_from(ahead).unwrap_or(0)
}

fn read(clock: ClockId) -> i64 {
    // None of these clocks can fail on Linux.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}
