//! The input of an observer of a simulated fleet, piece by piece.

#[path = "../../src/ingest/test_records.rs"]
#[allow(dead_code, reason = "it makes other records too")]
mod test_records;

use observer_model::event::Pid;
use observer_model::fact::{
    Fact, Gauges, InFlight, Level, Listener, Master, Pending, Started, TargetLevel, Worker,
    WorkerInFlight,
};
use probe_ebpf::abi::flags;
use test_records::RequestBytes;

const MS: u64 = 1_000_000;
/// A second, in nanoseconds.
pub const S: u64 = 1000 * MS;
/// When all of it was started.
const START_NS: u64 = 900 * S;
/// Two of them make a route.
const WORDS: [&str; 16] = [
    "account", "basket", "catalog", "delivery", "export", "feed", "guide", "help", "invoice",
    "journal", "keyword", "label", "message", "notice", "offer", "price",
];

/// How large it is: workers and routes of each app.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    pub apps: u64,
    pub workers: u64,
    pub routes: u64,
}

impl Fleet {
    /// The pid of a master.
    #[must_use]
    pub fn master(&self, app: u64) -> Pid {
        pid(10_000 * (app + 1))
    }

    /// … and of a worker, when it is found.
    #[must_use]
    pub fn worker(&self, app: u64, worker: u64) -> Pid {
        pid(10_000 * (app + 1) + worker + 1)
    }

    fn all_workers(&self) -> impl Iterator<Item = (u64, u64)> {
        (0..self.apps).flat_map(|app| (0..self.workers).map(move |worker| (app, worker)))
    }

    /// Each master and its workers, as they are found.
    #[must_use]
    pub fn begin(&self) -> Vec<(u64, Fact)> {
        let mut facts = vec![Fact::Started(Started {
            wall_offset_ns: 1_700_000_000_000_000_000,
            version: "fleet".to_owned(),
            revision: String::new(),
        })];
        for app in 0..self.apps {
            let port = 8000 + app;
            let master = Master {
                pid: self.master(app),
                started_ns: START_NS,
                app: format!("shop-{app:02}"),
                gunicorn_version: "23.0.0".to_owned(),
                python_version: "3.11.2".to_owned(),
                worker_class: "SyncWorker".to_owned(),
                workers: u32::try_from(self.workers).ok(),
                timeout_seconds: Some(30),
                bind: vec![format!("127.0.0.1:{port}")],
                ..Master::default()
            };
            let level = TargetLevel {
                pid: master.pid,
                level: Level::Full,
                reason: String::new(),
            };
            let listeners = vec![Listener {
                address: format!("127.0.0.1:{port}"),
                backlog: 1,
                limit: 2048,
                drops: Some(0),
            }];
            let pid = master.pid;
            facts.push(Fact::Master(master));
            facts.push(Fact::Level(level));
            facts.push(Fact::Listeners { pid, listeners });
        }
        for (app, worker) in self.all_workers() {
            facts.push(Fact::Worker(Worker {
                pid: self.worker(app, worker),
                master_pid: self.master(app),
                started_ns: START_NS,
                age: Some(worker + 1),
                class: "SyncWorker".to_owned(),
            }));
        }
        facts.into_iter().map(|fact| (START_NS, fact)).collect()
    }

    /// The record of one request. Each app has its share of consecutive ones, each route its of an
    /// app's, and workers have them as it comes.
    #[must_use]
    pub fn request(&self, number: u64, now_ns: u64) -> Vec<u8> {
        let (app, of_app) = (number % self.apps, number / self.apps);
        let worker = of_app.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let duration_ns = MS * (1 + number * 7919 % 97);
        let entered_ns = now_ns - duration_ns;
        let status = if number.is_multiple_of(101) { 500 } else { 200 };
        RequestBytes {
            pid: self.worker(app, worker % self.workers),
            time_ns: now_ns,
            times: [
                entered_ns - 3 * MS,
                entered_ns - 2 * MS,
                entered_ns - MS,
                entered_ns,
                now_ns - MS / 2,
                now_ns,
                now_ns,
            ],
            request_bytes: 100,
            response_bytes: 1000,
            request_head_bytes: 100,
            response_head_bytes: 100,
            status,
            flags: flags::EXITED,
            line: format!("GET {} HTTP/1.1\r\nHost: h", path(of_app % self.routes)).into_bytes(),
            ..RequestBytes::default()
        }
        .build()
    }

    /// One request of each app.
    #[must_use]
    pub fn in_flight(&self, now_ns: u64) -> Fact {
        let of = |app| WorkerInFlight {
            pid: self.worker(app, 0),
            count: 1,
            oldest: vec![Pending {
                begun_ns: now_ns - S / 2,
                method: Some("GET".into()),
                path: Some(path(app).into()),
                ..Pending::default()
            }],
            connections: None,
        };
        Fact::InFlight(InFlight {
            at_ns: now_ns,
            only: None,
            sees_connections: true,
            workers: (0..self.apps).map(of).collect(),
        })
    }

    /// What each worker uses.
    #[must_use]
    pub fn gauges(&self) -> Fact {
        let of = |(app, worker)| Gauges {
            pid: self.worker(app, worker),
            resident_bytes: 30 << 20,
            cpu_seconds: 1.0,
            threads: 1,
            open_fds: Some(12),
            heartbeat_age_seconds: Some(0.5),
            booted: Some(true),
            alive: Some(true),
        };
        Fact::Gauges {
            workers: self.all_workers().map(of).collect(),
        }
    }
}

/// Changes who served the request of a record.
pub fn served_by(record: &mut [u8], pid: Pid) {
    // The field behind kind and length.
    if let Some(field) = record.get_mut(4..8) {
        field.copy_from_slice(&pid.to_le_bytes());
    }
}

/// A request for what is not there, and was never asked for before.
#[must_use]
pub fn scan(pid: Pid, number: u64, now_ns: u64) -> Vec<u8> {
    answered(
        pid,
        now_ns,
        404,
        &format!("GET {} HTTP/1.1\r\n", word(number)),
    )
}

/// A request that has a path of its own, and any method and status.
#[must_use]
pub fn hostile(pid: Pid, number: u64, now_ns: u64) -> Vec<u8> {
    const METHODS: [&str; 8] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "NONSENSE",
    ];
    let status = u16::try_from(100 + number * 7 % 900).unwrap_or(999);
    let at = usize::try_from(number / 3).unwrap_or(0) % METHODS.len();
    let line = format!(
        "{} {}/{} HTTP/1.1\r\n",
        METHODS[at],
        word(number),
        "x".repeat(150)
    );
    answered(pid, now_ns, status, &line)
}

fn answered(pid: Pid, now_ns: u64, status: u16, line: &str) -> Vec<u8> {
    RequestBytes {
        pid,
        time_ns: now_ns,
        times: [0, 0, now_ns - 2 * MS, now_ns - MS, now_ns, now_ns, now_ns],
        request_bytes: 50,
        response_bytes: 300,
        request_head_bytes: 50,
        response_head_bytes: 100,
        status,
        flags: flags::EXITED,
        line: line.as_bytes().to_vec(),
        ..RequestBytes::default()
    }
    .build()
}

/// A path of letters, so that it is taken for a name.
fn word(number: u64) -> String {
    let letters = format!("{number:x}").into_bytes().into_iter();
    let letters =
        letters.map(|digit| char::from(digit.wrapping_add(if digit < b'a' { 49 } else { 10 })));
    format!("/scan-{}", letters.collect::<String>())
}

/// The record of a fork.
#[must_use]
pub fn fork(time_ns: u64, parent: Pid, child: Pid) -> Vec<u8> {
    test_records::fork(time_ns, parent, child)
}

/// The record of an end, well.
#[must_use]
pub fn exit(time_ns: u64, pid: Pid) -> Vec<u8> {
    test_records::exit(time_ns, pid, 0)
}

fn pid(number: u64) -> Pid {
    Pid::try_from(number).unwrap_or(Pid::MAX)
}

fn path(route: u64) -> String {
    let count = WORDS.len() as u64;
    let word = |at: u64| usize::try_from(at % count).map_or(WORDS[0], |at| WORDS[at]);
    format!("/{}/{}", word(route / count), word(route))
}
