//! Requests in flight, from the maps of the programs.

use crate::clock::monotonic_ns;
use crate::ingest::decode::request_line;
use crate::ingest::line::RequestLine;
use crate::probe::bpf_maps::{Conns, shared};
use anyhow::Result;
use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use observer_model::Untrusted;
use observer_model::event::Pid;
use observer_model::fact::{InFlight, Pending, WorkerInFlight};
use probe_ebpf::abi::{Conn, HEAD_BYTES, NO_LAYOUT, ObjectKey, Phase, RequestRecord, Role, Target};
use probe_ebpf::gunicorn::Family;
use probe_ebpf::machine::Origin;
use std::collections::BTreeMap;

/// Requests of a worker that are listed, the oldest ones.
const MAX_OF_WORKER: usize = 5;
/// Requests that are listed in all; from then on only the oldest of each worker is.
const MAX_LISTED: usize = 500;

/// Reads requests in flight.
pub struct InFlightReader {
    targets: HashMap<MapData, u32, Target>,
    conns: Conns,
}

/// A request in flight.
struct Found {
    begun_ns: u64,
    tid: u32,
    line: RequestLine<'static>,
}

impl InFlightReader {
    /// A reader of the object's maps, which stay in the object.
    ///
    /// # Errors
    /// When the object lacks a map, or a map has another type.
    pub(super) fn new(ebpf: &Ebpf) -> Result<Self> {
        Ok(Self {
            targets: shared(ebpf, "TARGETS")?,
            conns: Conns::new(ebpf)?,
        })
    }

    /// The requests in flight now, or those of the process `only`. A request that ends meanwhile may
    /// be among them or not: its record is in the ring buffer by then.
    #[must_use]
    pub fn read(&self, only: Option<Pid>) -> InFlight {
        let at_ns = monotonic_ns();
        let mut workers: BTreeMap<Pid, Vec<Found>> = BTreeMap::new();
        let targets: BTreeMap<Pid, Target> = self.targets.iter().flatten().collect();
        self.add(only, &targets, &mut workers);
        let mut listed = 0;
        let workers = workers.into_iter().map(|(pid, found)| {
            let most = if listed < MAX_LISTED {
                MAX_OF_WORKER
            } else {
                1
            };
            let of = of_worker(pid, found, most);
            listed += of.oldest.len();
            of
        });
        InFlight {
            at_ns,
            only,
            workers: workers.collect(),
        }
    }

    /// Records of the requests that a process, which exited just now, left unfinished.
    #[must_use]
    pub fn unfinished(&self, pid: Pid, exited_ns: u64) -> Vec<RequestRecord> {
        let mut found: Vec<(Conn, Origin)> = Vec::new();
        for conn in self.conns.all().filter(|conn| conn.key.tgid == pid) {
            let Some(origin) = unfinished(&conn) else {
                continue;
            };
            // A thread serves one request at a time: the end of an earlier one was not seen.
            let is_same = |other: &Conn| other.tid == conn.tid && other.tid != 0;
            let is_alone = conn.family == Family::Async as u16;
            match found
                .iter_mut()
                .find(|(other, _)| !is_alone && is_same(other))
            {
                Some(other) if other.0.entered_ns < conn.entered_ns => *other = (conn, origin),
                Some(_) => {}
                None => found.push((conn, origin)),
            }
        }
        let record =
            |(conn, origin): &(Conn, Origin)| RequestRecord::of_exit(conn, *origin, exited_ns);
        found.iter().map(record).collect()
    }

    /// Adds the requests in flight. Entries of an earlier process with the same pid are skipped. The
    /// process `only` may have exited just now, and is then no target any more.
    fn add(
        &self,
        only: Option<Pid>,
        targets: &BTreeMap<Pid, Target>,
        workers: &mut BTreeMap<Pid, Vec<Found>>,
    ) {
        let is_its = |key: &ObjectKey, conn: &Conn| match (only, targets.get(&key.tgid)) {
            (Some(pid), _) if pid != key.tgid => false,
            (_, Some(target)) => target.generation == conn.generation,
            (only, None) => only.is_some(),
        };
        // A thread serves one request at a time: the end of an earlier one was not seen.
        let mut of_thread: BTreeMap<(Pid, u32), Found> = BTreeMap::new();
        for conn in self.conns.all() {
            if !is_its(&conn.key, &conn) {
                continue;
            }
            let pid = conn.key.tgid;
            if is_unread(&conn, targets.get(&pid)) {
                let found = Found::new(conn.first_read_ns, 0, &conn);
                workers.entry(pid).or_default().push(found);
            } else if has_entered(&conn) && conn.family == Family::Async as u16 {
                let found = Found::new(conn.entered_ns, conn.tid, &conn);
                workers.entry(pid).or_default().push(found);
            } else if has_entered(&conn) {
                let before = of_thread.get(&(pid, conn.tid));
                if before.is_none_or(|before| before.begun_ns < conn.entered_ns) {
                    let found = Found::new(conn.entered_ns, conn.tid, &conn);
                    of_thread.insert((pid, conn.tid), found);
                }
            }
        }
        for ((pid, _), found) in of_thread {
            workers.entry(pid).or_default().push(found);
        }
    }
}

/// Whether a request is in the application.
fn has_entered(conn: &Conn) -> bool {
    conn.phase == Phase::Entered as u16 && conn.exited_ns == 0
}

/// What would have ended the request of a connection; `None` if it has none, or has only begun to be
/// read.
fn unfinished(conn: &Conn) -> Option<Origin> {
    let is_on_wire = conn.phase == Phase::Reading as u16 && conn.line_len != 0;
    match conn.phase {
        phase if phase == Phase::Entered as u16 => Some(Origin::Python),
        phase if phase == Phase::Refused as u16 => Some(Origin::Refused),
        _ => is_on_wire.then_some(Origin::Socket),
    }
}

/// Whether a request of a worker whose Python is not read is in flight.
fn is_unread(conn: &Conn, target: Option<&Target>) -> bool {
    let is_unread =
        |target: &Target| target.layout == NO_LAYOUT && target.role == Role::Worker as u32;
    conn.phase == Phase::Reading as u16 && conn.first_read_ns != 0 && target.is_some_and(is_unread)
}

impl Found {
    fn new(begun_ns: u64, tid: u32, conn: &Conn) -> Self {
        let len = usize::try_from(conn.line_len).unwrap_or(HEAD_BYTES);
        let head = conn.line.get(..len.min(HEAD_BYTES)).unwrap_or_default();
        Self {
            begun_ns,
            tid,
            line: request_line(conn.line_source, head).into_owned(),
        }
    }

    fn pending(self) -> Pending {
        Pending {
            begun_ns: self.begun_ns,
            tid: self.tid,
            method: self.line.method.map(Untrusted::from),
            path: self.line.path.map(Untrusted::from),
            path_cut: self.line.path_cut,
        }
    }
}

fn of_worker(pid: Pid, mut found: Vec<Found>, most: usize) -> WorkerInFlight {
    found.sort_by_key(|found| found.begun_ns);
    WorkerInFlight {
        pid,
        count: u32::try_from(found.len()).unwrap_or(u32::MAX),
        oldest: found.into_iter().take(most).map(Found::pending).collect(),
    }
}
