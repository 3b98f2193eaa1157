//! Resources that this process uses.

use observer_model::fact::Usage;
use procfs::WithCurrentSystemInfo as _;
use procfs::process::{LimitValue, Process};
use std::sync::OnceLock;

/// Reads `/proc/self`; `None` if that fails.
#[expect(clippy::cast_precision_loss, reason = "an exported value is a float")]
pub fn read() -> Option<Usage> {
    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
    let booted = booted_seconds();
    let max_fds = process.limits().ok().map(|limits| limits.max_open_files);
    Some(Usage {
        cpu_seconds: seconds(stat.utime + stat.stime),
        resident_bytes: stat.rss_bytes().get(),
        virtual_bytes: Some(stat.vsize),
        start_time_seconds: booted.map(|booted| booted as f64 + seconds(stat.starttime)),
        open_fds: process.fd_count().ok().and_then(|fds| fds.try_into().ok()),
        max_fds: max_fds.and_then(|limit| match limit.soft_limit {
            LimitValue::Value(limit) => Some(limit),
            LimitValue::Unlimited => None,
        }),
        threads: stat.num_threads.try_into().ok(),
    })
}

/// Unix time when the host booted. The kernel derives it from the present time, so it moves when the
/// clock is set: it is read once, because the start of a process must not move.
fn booted_seconds() -> Option<u64> {
    static BOOTED: OnceLock<Option<u64>> = OnceLock::new();
    *BOOTED.get_or_init(|| procfs::boot_time_secs().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn all_resources_of_this_process_are_known() {
        let usage = read().unwrap();
        assert!(usage.resident_bytes > 100_000, "{usage:?}");
        assert!(
            usage.virtual_bytes.unwrap() > usage.resident_bytes,
            "{usage:?}"
        );
        assert!(usage.open_fds.unwrap() > 2, "{usage:?}");
        assert!(usage.max_fds.is_none_or(|limit| limit > 2), "{usage:?}");
        assert!(usage.threads.unwrap() > 0, "{usage:?}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - usage.start_time_seconds.unwrap();
        // The boot time is in whole seconds.
        assert!((-1.0..3600.0).contains(&age), "{age}");
    }
}
