//! How every cost of the observer grows with what it observes, and that its memory is bounded.
//!
//! Prints a line for each measurement, its name first, then words `name=value`. `cargo xtask bench
//! scale` runs it, and draws what it prints. Memory is what the allocator gave out and did not get
//! back; counting that makes times a little longer than they are in the program.

#[path = "../examples/fleet/stream.rs"]
mod stream;

use anyhow::Result;
use observer::ingest::batch::Batch;
use observer::ingest::decode;
use observer::metrics::exposition::{Format, encode};
use observer_model::fact::{Fact, Worker};
use observer_model::input::Input;
use observer_model::settings::WorkerLabel;
use observer_model::{Settings, State};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::fmt::Display;
use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;
use stream::{Fleet, S};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Apps of a fleet that grows, with ten workers and two hundred routes each: to a thousand workers.
const APPS: [u64; 7] = [1, 2, 5, 10, 20, 50, 100];
/// Workers of each of ten apps that grow: to as many as the kernel's table of processes has room for.
const WORKERS: [u64; 6] = [10, 50, 100, 200, 400, 800];
/// The fastest of so many is taken: what a machine does besides only makes things slower.
const TRIES: u32 = 5;

/// Of the simulated day.
const DAY: u64 = 86_400;
const FLEET: Fleet = Fleet {
    apps: 100,
    workers: 10,
    routes: 200,
};
const REQUESTS_A_SECOND: u64 = 100;
/// Each worker lives so long.
const LIFE_SECONDS: u64 = 3600;
const BEGIN: u64 = 1000;

fn main() -> Result<()> {
    for apps in APPS {
        let fleet = Fleet {
            apps,
            workers: 10,
            routes: 200,
        };
        size("apps", apps, fleet)?;
    }
    for workers in WORKERS {
        let fleet = Fleet {
            apps: 10,
            workers,
            routes: 20,
        };
        size("workers", 10 * workers, fleet)?;
    }
    day()?;
    hostile()
}

fn say(name: &str, values: &[(&str, &dyn Display)]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "{name}")?;
    for (name, value) in values {
        write!(out, " {name}={value}")?;
    }
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Bytes that are in use since then.
fn in_use(region: &Region<'_, System>) -> usize {
    let of = region.change();
    of.bytes_allocated.saturating_sub(of.bytes_deallocated)
}

/// Microseconds of the fastest of some, and what came of the last.
fn fastest<T>(mut work: impl FnMut() -> T) -> (f64, T) {
    let mut once = || {
        let begin = Instant::now();
        let done = black_box(work());
        (begin.elapsed().as_secs_f64() * 1e6, done)
    };
    let mut best = once();
    for _ in 1..TRIES {
        let (took, done) = once();
        best = (took.min(best.0), done);
    }
    best
}

fn begun(fleet: &Fleet) -> State {
    let mut state = State::new(Settings::default());
    for (time_ns, fact) in fleet.begin() {
        state.apply(&Input::Fact { time_ns, fact });
    }
    state
}

/// A fleet of which all was seen, and two minutes long.
fn size(axis: &str, x: u64, fleet: Fleet) -> Result<()> {
    let region = Region::new(ALLOCATOR);
    let mut state = begun(&fleet);
    let all = fleet.apps * fleet.routes.max(fleet.workers) * 4;
    let (seconds, mut number) = (150, 0);
    let mut now_ns = BEGIN * S;
    for second in 0..seconds {
        now_ns = (BEGIN + second) * S;
        while number * seconds < all * (second + 1) {
            state.apply(&decode::input(&fleet.request(number, now_ns)));
            number += 1;
        }
        let fact = fleet.in_flight(now_ns);
        state.apply(&Input::Fact {
            time_ns: now_ns,
            fact,
        });
        if second % 5 == 0 {
            let fact = fleet.gauges();
            state.apply(&Input::Fact {
                time_ns: now_ns,
                fact,
            });
        }
    }
    let memory = in_use(&region);

    let records: Vec<Vec<u8>> = (0..10_000)
        .map(|more| fleet.request(number + more, now_ns))
        .collect();
    let mut batch = Batch::default();
    let mut count = || {
        for record in &records {
            if let Some(input) = batch.decode(record, &mut state) {
                batch.apply(&input, &mut state);
            }
        }
        batch.flush(&mut state);
    };
    let before = Region::new(ALLOCATOR);
    count();
    let allocations = before.change().allocations as f64 / records.len() as f64;
    let (record, ()) = fastest(count);
    let mut second = 0;
    let (look, ()) = fastest(|| {
        second += 1;
        let time_ns = now_ns + second * S;
        let fact = fleet.in_flight(time_ns);
        state.apply(&Input::Fact { time_ns, fact });
    });
    let (snapshot_us, snapshot) = fastest(|| state.metrics_view(now_ns));
    let (encode_us, text) = fastest(|| encode(&snapshot, WorkerLabel::Pid, Format::OpenMetrics));
    let (view_us, view) = fastest(|| serde_json::to_vec(&state.live_view(now_ns)));
    say(
        axis,
        &[
            ("x", &x),
            ("record_ns", &(record * 1e3 / records.len() as f64)),
            ("allocations", &allocations),
            ("look_us", &look),
            ("memory_bytes", &memory),
            ("snapshot_us", &snapshot_us),
            ("encode_us", &encode_us),
            ("scrape_bytes", &text.len()),
            ("view_us", &view_us),
            ("view_bytes", &view?.len()),
        ],
    )
}

/// A day of the largest fleet: looks, scrapes, scanners and workers that are replaced each hour.
fn day() -> Result<()> {
    let region = Region::new(ALLOCATOR);
    let mut state = begun(&FLEET);
    let mut pids: Vec<u32> = workers().map(|worker| worker.pid).collect();
    let (mut number, mut next_pid) = (0, 10_000_000);
    let mut began = Instant::now();
    for second in 0..DAY {
        let now_ns = (BEGIN + second) * S;
        for _ in 0..REQUESTS_A_SECOND {
            let mut record = FLEET.request(number, now_ns);
            let at = usize::try_from(number).unwrap_or(0) % pids.len();
            stream::served_by(&mut record, pids[at]);
            if number % 50 == 0 {
                record = stream::scan(pids[at], number, now_ns);
            }
            state.apply(&decode::input(&record));
            number += 1;
        }
        // All of them within their life, one after the other.
        let due = |second: u64| second * pids.len() as u64 / LIFE_SECONDS;
        for at in due(second)..due(second + 1) {
            let at = usize::try_from(at).unwrap_or(0) % pids.len();
            let master = FLEET.master(at as u64 / FLEET.workers);
            for record in [
                stream::exit(now_ns, pids[at]),
                stream::fork(now_ns, master, next_pid),
            ] {
                state.apply(&decode::input(&record));
            }
            let fact = Fact::Worker(Worker {
                pid: next_pid,
                master_pid: master,
                started_ns: now_ns,
                age: Some(u64::from(next_pid)),
                class: "SyncWorker".to_owned(),
            });
            state.apply(&Input::Fact {
                time_ns: now_ns,
                fact,
            });
            pids[at] = next_pid;
            next_pid += 1;
        }
        let fact = FLEET.in_flight(now_ns);
        state.apply(&Input::Fact {
            time_ns: now_ns,
            fact,
        });
        if second % 15 == 0 {
            state.apply(&Input::Tick { now_ns });
        }
        if (second + 1) % 1800 == 0 {
            let (hours, took) = ((second + 1) as f64 / 3600.0, began.elapsed());
            say(
                "day",
                &[
                    ("x", &hours),
                    ("memory_bytes", &in_use(&region)),
                    ("seconds", &took.as_secs_f64()),
                ],
            )?;
            began = Instant::now();
        }
    }
    Ok(())
}

fn workers() -> impl Iterator<Item = Worker> {
    FLEET
        .begin()
        .into_iter()
        .filter_map(|(_, fact)| match fact {
            Fact::Worker(worker) => Some(worker),
            _ => None,
        })
}

/// One worker, and clients that never ask for the same twice, and are answered by any status.
fn hostile() -> Result<()> {
    let fleet = Fleet {
        apps: 1,
        workers: 1,
        routes: 1,
    };
    let region = Region::new(ALLOCATOR);
    let mut state = begun(&fleet);
    let pid = fleet.worker(0, 0);
    for number in 0..2_000_000 {
        let now_ns = BEGIN * S + number * S / 1000;
        state.apply(&decode::input(&stream::hostile(pid, number, now_ns)));
        if number % 1000 == 999 {
            let fact = fleet.in_flight(now_ns);
            state.apply(&Input::Fact {
                time_ns: now_ns,
                fact,
            });
        }
        if (number + 1) % 500_000 == 0 {
            let memory = in_use(&region);
            say(
                "hostile",
                &[("x", &(number + 1)), ("memory_bytes", &memory)],
            )?;
        }
    }
    Ok(())
}
