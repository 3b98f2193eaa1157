//! Requests in flight, from the maps of the programs.

use super::doing::{Count as _, Doing};
use crate::clock::monotonic_ns;
use crate::ingest::decode::request_line;
use crate::ingest::line::RequestLine;
use crate::probe::bpf_maps::{Conns, shared};
use anyhow::Result;
use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use observer_model::Untrusted;
use observer_model::event::Pid;
use observer_model::fact::{Connections, InFlight, Pending, WorkerInFlight};
use probe_ebpf::abi::{
    Conn, HEAD_BYTES, LostRecord, ObjectKey, Phase, RequestRecord, Target, marks,
};
use probe_ebpf::gunicorn::Family;
use probe_ebpf::machine::wire::has_request_line;
use probe_ebpf::machine::{Origin, task};
use std::collections::BTreeMap;

/// Requests of a worker that are listed, the oldest ones.
const MAX_OF_WORKER: usize = 5;
/// Requests that are listed in all; from then on only the oldest of each worker is.
const MAX_LISTED: usize = 500;

/// Reads requests in flight.
pub struct InFlightReader {
    targets: HashMap<MapData, u32, Target>,
    conns: Conns,
    /// Whether the programs see that connections are closed.
    sees_closes: bool,
}

/// A request in flight.
struct Found {
    begun_ns: u64,
    tid: u32,
    written_ns: u64,
    line: RequestLine<'static>,
}

/// What was found of a worker.
#[derive(Default)]
struct OfWorker {
    requests: Vec<Found>,
    connections: Connections,
}

impl InFlightReader {
    /// A reader of the object's maps, which stay in the object.
    ///
    /// # Errors
    /// When the object lacks a map, or a map has another type.
    pub(super) fn new(ebpf: &Ebpf, sees_closes: bool) -> Result<Self> {
        Ok(Self {
            targets: shared(ebpf, "TARGETS")?,
            conns: Conns::new(ebpf)?,
            sees_closes,
        })
    }

    /// The requests in flight now, or those of the process `only`. A request that ends meanwhile may
    /// be among them or not: its record is in the ring buffer by then.
    #[must_use]
    pub fn read(&self, only: Option<Pid>) -> InFlight {
        let at_ns = monotonic_ns();
        let targets: BTreeMap<Pid, Target> = self.targets.iter().flatten().collect();
        let workers = self.workers(only, &targets, at_ns);
        let mut listed = 0;
        let workers = workers.into_iter().map(|(pid, found)| {
            let most = if listed < MAX_LISTED {
                MAX_OF_WORKER
            } else {
                1
            };
            let connections = self.sees_closes.then_some(found.connections);
            let of = of_worker(pid, found.requests, connections, most);
            listed += of.oldest.len();
            of
        });
        InFlight {
            at_ns,
            only,
            sees_connections: self.sees_closes,
            workers: workers.collect(),
        }
    }

    /// Records of the requests that a process, which exited just now, left unfinished, and of the
    /// requests that it was reading.
    #[must_use]
    pub fn unfinished(&self, pid: Pid, exited_ns: u64) -> (Vec<RequestRecord>, Option<LostRecord>) {
        let mut found: Vec<(Conn, Origin)> = Vec::new();
        let mut read = 0;
        for conn in self.conns.all().filter(|conn| conn.key.tgid == pid) {
            let Some(origin) = unfinished(&conn) else {
                read += u32::from(was_reading(&conn));
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
        let lost = (read > 0).then(|| LostRecord::of_exit(pid, exited_ns, read));
        (found.iter().map(record).collect(), lost)
    }

    /// What connections do. Entries of an earlier process with the same pid are skipped. The process
    /// `only` may have exited just now, and is then no target any more.
    fn workers(
        &self,
        only: Option<Pid>,
        targets: &BTreeMap<Pid, Target>,
        at_ns: u64,
    ) -> BTreeMap<Pid, OfWorker> {
        let is_its = |key: &ObjectKey, conn: &Conn| match (only, targets.get(&key.tgid)) {
            (Some(pid), _) if pid != key.tgid => false,
            (_, Some(target)) => target.generation == conn.generation,
            (only, None) => only.is_some(),
        };
        let mut workers: BTreeMap<Pid, OfWorker> = BTreeMap::new();
        // A thread serves one request at a time: the end of an earlier one was not seen.
        let mut of_thread: BTreeMap<(Pid, u32), Found> = BTreeMap::new();
        for conn in self.conns.all() {
            if !is_its(&conn.key, &conn) {
                continue;
            }
            let pid = conn.key.tgid;
            let doing = Doing::of(&conn, targets.get(&pid), at_ns);
            let worker = workers.entry(pid).or_default();
            worker.connections.count(doing);
            let Doing::Serves { begun_ns } = doing else {
                continue;
            };
            let has_entered = conn.phase == Phase::Entered as u16;
            if !has_entered || conn.family == Family::Async as u16 {
                let tid = if has_entered { conn.tid } else { 0 };
                worker.requests.push(Found::new(begun_ns, tid, &conn));
            } else {
                let before = of_thread.get(&(pid, conn.tid));
                if before.is_none_or(|before| before.begun_ns < begun_ns) {
                    of_thread.insert((pid, conn.tid), Found::new(begun_ns, conn.tid, &conn));
                }
            }
        }
        for ((pid, _), found) in of_thread {
            workers.entry(pid).or_default().requests.push(found);
        }
        workers
    }
}

/// Whether a request was being read for a client that waits for its answer. Where a line was read and is no
/// request line, it is encrypted.
fn was_reading(conn: &Conn) -> bool {
    let is_other = conn.marks & (marks::ENDED | marks::SWITCHED) != 0 || conn.line_len != 0;
    conn.phase == Phase::Reading as u16 && !is_other
}

/// What would have ended the request of a connection; `None` if it has none, or has only begun to be
/// read.
fn unfinished(conn: &Conn) -> Option<Origin> {
    let is_on_wire = conn.phase == Phase::Reading as u16 && has_request_line(conn);
    match conn.phase {
        phase if phase == Phase::Entered as u16 => Some(Origin::Python),
        phase if phase == Phase::Refused as u16 => Some(Origin::Refused),
        _ => is_on_wire.then(|| task::origin(conn)),
    }
}

impl Found {
    fn new(begun_ns: u64, tid: u32, conn: &Conn) -> Self {
        let len = usize::try_from(conn.line_len).unwrap_or(HEAD_BYTES);
        let head = conn.line.get(..len.min(HEAD_BYTES)).unwrap_or_default();
        Self {
            begun_ns,
            tid,
            written_ns: conn.last_write_ns,
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
            written_ns: (self.written_ns != 0).then_some(self.written_ns),
        }
    }
}

fn of_worker(
    pid: Pid,
    mut found: Vec<Found>,
    connections: Option<Connections>,
    most: usize,
) -> WorkerInFlight {
    found.sort_by_key(|found| found.begun_ns);
    WorkerInFlight {
        pid,
        count: u32::try_from(found.len()).unwrap_or(u32::MAX),
        oldest: found.into_iter().take(most).map(Found::pending).collect(),
        connections,
    }
}
