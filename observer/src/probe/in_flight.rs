//! Requests in flight, from the maps of the programs.

use crate::clock::monotonic_ns;
use crate::ingest::decode::request_line;
use crate::probe::bpf_maps::shared;
use anyhow::Result;
use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use observer_model::Untrusted;
use observer_model::event::Pid;
use observer_model::fact::{InFlight, Pending, WorkerInFlight};
use probe_ebpf::abi::{Conn, ConnKey, Flow, HEAD_BYTES, NO_LAYOUT, ObjectKey, Phase, Role, Target};
use probe_ebpf::gunicorn::Family;
use std::collections::BTreeMap;

/// Requests of a worker that are listed, the oldest ones.
const MAX_OF_WORKER: usize = 5;
/// Requests that are listed in all; from then on only the oldest of each worker is.
const MAX_LISTED: usize = 500;

/// Reads requests in flight.
pub struct InFlightReader {
    targets: HashMap<MapData, u32, Target>,
    conns: HashMap<MapData, ConnKey, Conn>,
    flows: HashMap<MapData, ObjectKey, Flow>,
}

/// A request in flight.
struct Found {
    begun_ns: u64,
    tid: u32,
    fd: i32,
    /// Its connection has the same generation.
    generation: u64,
    request: u64,
}

impl InFlightReader {
    /// A reader of the object's maps, which stay in the object.
    ///
    /// # Errors
    /// When the object lacks a map, or a map has another type.
    pub(super) fn new(ebpf: &Ebpf) -> Result<Self> {
        Ok(Self {
            targets: shared(ebpf, "TARGETS")?,
            conns: shared(ebpf, "CONNS")?,
            flows: shared(ebpf, "FLOWS")?,
        })
    }

    /// The requests in flight now, or those of the process `only`. A request that ends meanwhile may
    /// be among them or not: its record is in the ring buffer by then.
    #[must_use]
    pub fn read(&self, only: Option<Pid>) -> InFlight {
        let at_ns = monotonic_ns();
        let mut workers: BTreeMap<Pid, Vec<Found>> = BTreeMap::new();
        let targets: BTreeMap<Pid, Target> = self.targets.iter().flatten().collect();
        self.entered(only, &targets, &mut workers);
        self.unread(only, &targets, &mut workers);
        let mut listed = 0;
        let workers = workers.into_iter().map(|(pid, found)| {
            let most = if listed < MAX_LISTED {
                MAX_OF_WORKER
            } else {
                1
            };
            let of = self.of_worker(pid, found, most);
            listed += of.oldest.len();
            of
        });
        InFlight {
            at_ns,
            only,
            workers: workers.collect(),
        }
    }

    /// Adds requests that entered the application. Entries of an earlier process with the same pid are
    /// skipped. The process `only` may have exited just now, and is then no target any more.
    fn entered(
        &self,
        only: Option<Pid>,
        targets: &BTreeMap<Pid, Target>,
        workers: &mut BTreeMap<Pid, Vec<Found>>,
    ) {
        let is_its = |key: &ObjectKey, flow: &Flow| match (only, targets.get(&key.tgid)) {
            (Some(pid), _) if pid != key.tgid => false,
            (_, Some(target)) => target.generation == flow.generation,
            (only, None) => only.is_some(),
        };
        // A thread serves one request at a time: the end of an earlier one was not seen.
        let mut of_thread: BTreeMap<(Pid, u32), Found> = BTreeMap::new();
        for (key, flow) in self.flows.iter().flatten() {
            if flow.exited_ns != 0 || flow.sent != 0 || !is_its(&key, &flow) {
                continue;
            }
            let found = Found {
                begun_ns: flow.entered_ns,
                tid: flow.tid,
                fd: flow.fd,
                generation: flow.generation,
                request: key.address,
            };
            if flow.family == Family::Async as u32 {
                workers.entry(key.tgid).or_default().push(found);
                continue;
            }
            let before = of_thread.get(&(key.tgid, flow.tid));
            if before.is_none_or(|before| before.begun_ns < found.begun_ns) {
                of_thread.insert((key.tgid, flow.tid), found);
            }
        }
        for ((pid, _), found) in of_thread {
            workers.entry(pid).or_default().push(found);
        }
    }

    /// Adds requests of processes whose Python is not read.
    fn unread(
        &self,
        only: Option<Pid>,
        targets: &BTreeMap<Pid, Target>,
        workers: &mut BTreeMap<Pid, Vec<Found>>,
    ) {
        let is_unread =
            |target: &Target| target.layout == NO_LAYOUT && target.role == Role::Worker as u32;
        let wanted = |pid: Pid| only.is_none_or(|only| only == pid);
        if !targets
            .iter()
            .any(|(&pid, target)| wanted(pid) && is_unread(target))
        {
            return;
        }
        for (key, conn) in self.conns.iter().flatten() {
            let is_reading = conn.phase == Phase::Reading as u16 && conn.first_read_ns != 0;
            let target = targets.get(&key.tgid).filter(|_| wanted(key.tgid));
            let is_its = target
                .is_some_and(|target| is_unread(target) && target.generation == conn.generation);
            if is_reading && is_its {
                workers.entry(key.tgid).or_default().push(Found {
                    begun_ns: conn.first_read_ns,
                    tid: 0,
                    fd: key.fd,
                    generation: conn.generation,
                    request: conn.request,
                });
            }
        }
    }

    fn of_worker(&self, pid: Pid, mut found: Vec<Found>, most: usize) -> WorkerInFlight {
        found.sort_by_key(|found| found.begun_ns);
        WorkerInFlight {
            pid,
            count: u32::try_from(found.len()).unwrap_or(u32::MAX),
            oldest: found
                .iter()
                .take(most)
                .map(|found| self.pending(pid, found))
                .collect(),
        }
    }

    fn pending(&self, pid: Pid, found: &Found) -> Pending {
        let key = ConnKey {
            tgid: pid,
            fd: found.fd,
        };
        let is_its =
            |conn: &Conn| conn.generation == found.generation && conn.request == found.request;
        let line = self.conns.get(&key, 0).ok().filter(is_its).map(|conn| {
            let len = usize::try_from(conn.line_len).unwrap_or(HEAD_BYTES);
            let head = conn.line.get(..len.min(HEAD_BYTES)).unwrap_or_default();
            request_line(conn.line_source, head).into_owned()
        });
        let line = line.unwrap_or_default();
        Pending {
            begun_ns: found.begun_ns,
            tid: found.tid,
            method: line.method.map(Untrusted::from),
            path: line.path.map(Untrusted::from),
            path_cut: line.path_cut,
        }
    }
}
