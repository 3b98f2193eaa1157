//! Memory, CPU time, threads and open files of masters and workers, and the state of workers: read at
//! intervals, in a few microseconds each.

use super::found::FoundMaster;
use super::heartbeat::{self, Clocks};
use crate::cpython::object::Objects;
use crate::gunicorn::worker::Stage;
use crate::process::memory::{ProcessMemory, Snapshot};
use crate::process::procfs::ProcFs;
use observer_model::fact::{Gauges, MasterGauges, Worker};

/// A worker's attributes and their names are on some dozen pages.
const MAX_PAGES: usize = 128;

/// Gauges of a running master.
#[must_use]
pub fn of_master(procfs: &ProcFs, found: &FoundMaster) -> Option<MasterGauges> {
    let master = &found.master;
    let usage = procfs.usage(master.pid).ok()?;
    if usage.process.started_ns != master.started_ns || usage.process.is_zombie {
        return None;
    }
    Some(MasterGauges {
        pid: master.pid,
        resident_bytes: usage.resident_bytes,
        cpu_seconds: usage.cpu_seconds,
        threads: usage.threads,
        open_fds: procfs.open_fds(master.pid).ok(),
        max_fds: procfs.max_fds(master.pid),
    })
}

/// Gauges of the running workers of a master.
#[must_use]
pub fn of_workers(procfs: &ProcFs, found: &FoundMaster, now: Clocks) -> Vec<Gauges> {
    let workers = found.workers.iter();
    workers
        .filter_map(|worker| of_worker(procfs, found, worker, now))
        .collect()
}

fn of_worker(procfs: &ProcFs, found: &FoundMaster, worker: &Worker, now: Clocks) -> Option<Gauges> {
    let pid = worker.pid;
    let usage = procfs.usage(pid).ok()?;
    if usage.process.started_ns != worker.started_ns || usage.process.is_zombie {
        return None;
    }
    let heartbeat_fd = found.objects.get(&pid).and_then(|o| o.heartbeat_fd);
    let heartbeat = heartbeat_fd.and_then(|fd| procfs.heartbeat_file(pid, fd));
    let version = &found.master.gunicorn_version;
    let Stage { booted, alive } = stage(found, worker);
    Some(Gauges {
        pid,
        resident_bytes: usage.resident_bytes,
        cpu_seconds: usage.cpu_seconds,
        threads: usage.threads,
        open_fds: procfs.open_fds(pid).ok(),
        heartbeat_age_seconds: heartbeat
            .and_then(|file| heartbeat::age_seconds(file, version, now)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gunicorn::found::Coverage;
    use observer_model::fact;
    use std::collections::HashMap;

    #[test]
    fn a_master_has_the_gauges_of_its_process() {
        let procfs = ProcFs::new("/proc").unwrap();
        let own = procfs.process(std::process::id()).unwrap();
        let gauges = |started_ns| {
            let found = FoundMaster {
                master: fact::Master {
                    pid: own.pid,
                    started_ns,
                    ..fact::Master::default()
                },
                workers: Vec::new(),
                objects: HashMap::new(),
                coverage: Coverage::Socket("".into()),
                interpreter: Err("".into()),
                reader: None,
            };
            of_master(&procfs, &found)
        };
        let found = gauges(own.started_ns).unwrap();
        assert!(found.resident_bytes > 100_000 && found.threads > 0);
        let limit = found.max_fds.unwrap_or(u64::MAX);
        assert!(
            (3..limit).contains(&found.open_fds.unwrap().into()),
            "{found:?}"
        );
        assert_eq!(gauges(own.started_ns + 1), None, "another process");
    }

    #[test]
    fn workers_of_a_master_that_cannot_be_read_have_the_gauges_of_procfs() {
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
            coverage: Coverage::Socket("".into()),
            interpreter: Err("".into()),
            reader: None,
        };
        let now = Clocks {
            wall_ns: 0,
            monotonic_ns: 0,
        };
        let gauges = of_workers(&procfs, &found, now);
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
}
