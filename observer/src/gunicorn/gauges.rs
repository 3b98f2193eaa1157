//! What the workers of a master use, and how far they are: read at intervals, a few
//! microseconds each.

use super::found::FoundMaster;
use crate::cpython::object::Objects;
use crate::gunicorn::worker::Stage;
use crate::process::memory::{ProcessMemory, Snapshot};
use crate::process::procfs::ProcFs;
use observer_model::fact::{Gauges, Worker};
use std::time::Duration;

/// A worker's attributes and their names are on some dozen pages.
const MAX_PAGES: usize = 128;

/// Gauges of those workers of a master that still run; `wall_ns` is the time since the Unix epoch.
#[must_use]
pub fn of_workers(procfs: &ProcFs, found: &FoundMaster, wall_ns: i64) -> Vec<Gauges> {
    let workers = found.workers.iter();
    workers
        .filter_map(|worker| of_worker(procfs, found, worker, wall_ns))
        .collect()
}

fn of_worker(
    procfs: &ProcFs,
    found: &FoundMaster,
    worker: &Worker,
    wall_ns: i64,
) -> Option<Gauges> {
    let pid = worker.pid;
    let usage = procfs.usage(pid).ok()?;
    if usage.process.started_ns != worker.started_ns || usage.process.is_zombie {
        return None;
    }
    let heartbeat_fd = found.objects.get(&pid).and_then(|o| o.heartbeat_fd);
    let heartbeat_ns = heartbeat_fd.and_then(|fd| procfs.heartbeat_ns(pid, fd));
    let Stage { booted, alive } = stage(found, worker);
    Some(Gauges {
        pid,
        resident_bytes: usage.resident_bytes,
        cpu_seconds: usage.cpu_seconds,
        threads: usage.threads,
        open_fds: procfs.open_fds(pid).ok(),
        heartbeat_age_seconds: heartbeat_ns.map(|at_ns| age_seconds(wall_ns, at_ns)),
        booted,
        alive,
    })
}

fn stage(found: &FoundMaster, worker: &Worker) -> Stage {
    let (Some(reader), Some(object)) = (found.reader, found.objects.get(&worker.pid)) else {
        return Stage::default();
    };
    let memory = Snapshot::with_max_pages(ProcessMemory::new(worker.pid), MAX_PAGES);
    object.stage(&Objects::new(&memory, &reader.layout))
}

/// Files are stamped up to a clock tick late; and the wall clock may be set back.
fn age_seconds(wall_ns: i64, at_ns: i64) -> f64 {
    let age_ns = u64::try_from(wall_ns.saturating_sub(at_ns)).unwrap_or(0);
    Duration::from_nanos(age_ns).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gunicorn::found::Coverage;
    use observer_model::fact;
    use std::collections::HashMap;

    #[test]
    fn a_master_that_is_not_understood_tells_what_its_workers_use_and_no_more() {
        let procfs = ProcFs::new("/proc").unwrap();
        let own = procfs.process(std::process::id()).unwrap();
        let worker = |pid, started_ns| Worker {
            pid,
            started_ns,
            ..Worker::default()
        };
        let found = FoundMaster {
            master: fact::Master::default(),
            workers: vec![
                worker(own.pid, own.started_ns),
                worker(own.pid, own.started_ns + 1),
                worker(u32::MAX, 0),
            ],
            objects: HashMap::new(),
            coverage: Coverage::Socket(String::new()),
            interpreter: Err(String::new()),
            reader: None,
        };
        let gauges = of_workers(&procfs, &found, 0);
        let [gauges] = gauges.as_slice() else {
            panic!("another process was taken for a worker: {gauges:?}");
        };
        assert!(gauges.resident_bytes > 100_000, "{gauges:?}");
        assert!(
            gauges.threads > 0 && gauges.open_fds > Some(2),
            "{gauges:?}"
        );
        let unknown = (gauges.heartbeat_age_seconds, gauges.booted, gauges.alive);
        assert_eq!(unknown, (None, None, None));
    }

    #[test]
    fn an_age_is_never_negative() {
        assert_eq!(age_seconds(3_500_000_000, 1_000_000_000), 2.5);
        assert_eq!(age_seconds(1_000_000_000, 3_500_000_000), 0.0);
        assert_eq!(age_seconds(i64::MIN, i64::MAX), 0.0);
    }
}
