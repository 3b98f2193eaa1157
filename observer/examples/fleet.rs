//! Writes a record of a fleet that never was, as large as one likes: to see what `replay --serve`,
//! the dashboard and a scrape make of it.
//!
//! `cargo run --release -p gunicorn-observer --example fleet -- FILE [APPS [WORKERS [ROUTES]]]`

#[path = "../src/ingest/sample.rs"]
#[allow(dead_code, reason = "it makes other records too")]
mod sample;

use anyhow::{Context as _, Result};
use observer::event::Pid;
use observer::fact::{
    Fact, Gauges, InFlight, Level, Listener, Master, Pending, Started, TargetLevel, Worker,
    WorkerInFlight,
};
use observer::ingest::record::Recorder;
use probe_ebpf::abi::flags;
use sample::RequestBytes;
use std::fs::File;
use std::io::{BufWriter, Write};

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;
/// All of the time that a history has.
const SECONDS: u64 = 900;
/// Of each route.
const REQUESTS: u64 = 5;
/// Two of them make a route.
const WORDS: [&str; 16] = [
    "account", "basket", "catalog", "delivery", "export", "feed", "guide", "help", "invoice",
    "journal", "keyword", "label", "message", "notice", "offer", "price",
];

/// How large it is.
struct Fleet {
    apps: u64,
    workers: u64,
    routes: u64,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("name the file to write")?;
    let mut number = |default| match arguments.next() {
        Some(text) => text
            .parse()
            .with_context(|| format!("`{text}` is no number")),
        None => Ok(default),
    };
    let fleet = Fleet {
        apps: number(50)?,
        workers: number(20)?,
        routes: number(200)?,
    };
    let file = File::create(&path).with_context(|| format!("cannot write {path}"))?;
    let mut recorder = Recorder::new(BufWriter::new(file))?;
    fleet.begin(&mut recorder)?;
    let all = fleet.apps * fleet.routes * REQUESTS;
    let mut next = 0;
    for second in 0..=SECONDS {
        let now_ns = (1000 + second) * S;
        while next * SECONDS < all * second {
            recorder.kernel(&fleet.request(next, now_ns))?;
            next += 1;
        }
        recorder.fact(now_ns, &fleet.in_flight(now_ns))?;
    }
    let now_ns = (1001 + SECONDS) * S;
    recorder.fact(now_ns, &fleet.gauges())?;
    recorder.tick(now_ns)?;
    recorder.into_inner()?.flush()?;
    Ok(())
}

impl Fleet {
    fn master(&self, app: u64) -> Pid {
        pid(10_000 * (app + 1))
    }

    fn worker(&self, app: u64, worker: u64) -> Pid {
        pid(10_000 * (app + 1) + worker + 1)
    }

    fn all_workers(&self) -> impl Iterator<Item = (u64, u64)> {
        (0..self.apps).flat_map(|app| (0..self.workers).map(move |worker| (app, worker)))
    }

    /// Each master, and its workers.
    fn begin(&self, recorder: &mut Recorder<impl Write>) -> Result<()> {
        let start_ns = 900 * S;
        let started = Started {
            wall_offset_ns: 1_700_000_000_000_000_000,
            version: "fleet".to_owned(),
            revision: String::new(),
        };
        recorder.fact(start_ns, &Fact::Started(started))?;
        for app in 0..self.apps {
            let port = 8000 + app;
            let master = Master {
                pid: self.master(app),
                started_ns: start_ns,
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
            recorder.fact(start_ns, &Fact::Master(master))?;
            recorder.fact(start_ns, &Fact::Level(level))?;
            recorder.fact(start_ns, &Fact::Listeners { pid, listeners })?;
        }
        for (app, worker) in self.all_workers() {
            let worker = Worker {
                pid: self.worker(app, worker),
                master_pid: self.master(app),
                started_ns: start_ns,
                age: Some(worker + 1),
                class: "SyncWorker".to_owned(),
            };
            recorder.fact(start_ns, &Fact::Worker(worker))?;
        }
        Ok(())
    }

    fn request(&self, number: u64, now_ns: u64) -> Vec<u8> {
        let app = number % self.apps;
        let route = number / self.apps % self.routes;
        let duration_ns = MS * (1 + number * 7919 % 97);
        let entered_ns = now_ns - duration_ns;
        let status = if number.is_multiple_of(101) { 500 } else { 200 };
        RequestBytes {
            pid: self.worker(app, number % self.workers),
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
            line: format!("GET {} HTTP/1.1\r\nHost: h", path(route)).into_bytes(),
            ..RequestBytes::default()
        }
        .build()
    }

    /// One request of each app.
    fn in_flight(&self, now_ns: u64) -> Fact {
        let of = |app| WorkerInFlight {
            pid: self.worker(app, 0),
            count: 1,
            oldest: vec![Pending {
                begun_ns: now_ns - S / 2,
                method: Some("GET".to_owned()),
                path: Some(path(app)),
                ..Pending::default()
            }],
        };
        Fact::InFlight(InFlight {
            at_ns: now_ns,
            only: None,
            workers: (0..self.apps).map(of).collect(),
        })
    }

    fn gauges(&self) -> Fact {
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

fn pid(number: u64) -> Pid {
    Pid::try_from(number).unwrap_or(Pid::MAX)
}

fn path(route: u64) -> String {
    let count = WORDS.len() as u64;
    let word = |at: u64| usize::try_from(at % count).map_or(WORDS[0], |at| WORDS[at]);
    format!("/{}/{}", word(route / count), word(route))
}
