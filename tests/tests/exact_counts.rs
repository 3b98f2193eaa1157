//! Under concurrent load every request is counted once, for the right worker, route and status,
//! with the duration the access log has; for each worker class, under each shape of interpreter.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::Request,
    compare,
    gunicorn::Builder,
    load::Load,
    observer::{self, Observer},
    skip,
    venv::Venv,
};

const REQUESTS: usize = 2000;

/// Differences allowed between two clocks read a few instructions apart. The largest are those
/// where the scheduler came between.
const MEDIAN_US: u64 = 100;
const P99_US: u64 = 1000;

#[test]
fn sync_workers() -> Result<()> {
    in_every_venv("sync", 1)
}

#[test]
fn gthread_workers() -> Result<()> {
    in_every_venv("gthread", 4)
}

#[test]
fn gevent_workers() -> Result<()> {
    in_every_venv("gevent", 1)
}

#[test]
fn eventlet_workers() -> Result<()> {
    in_every_venv("eventlet", 1)
}

fn in_every_venv(class: &str, threads: usize) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for venv in Venv::all()? {
        let server = Builder::new(&venv, "shop:app")
            .class(class)
            .workers(2)
            .threads(threads);
        counts_are_exact(&server).with_context(|| format!("{class} under {}", venv.name()))?;
    }
    Ok(())
}

/// Every kind of request in turn, each with a path of its own.
fn requests() -> Vec<Request> {
    let kinds = [
        Request::get("/welcome"),
        Request::get("/products"),
        Request::get("/products/7"),
        Request::get("/products/1007"),
        Request::new("HEAD", "/products"),
        Request::new("POST", "/orders").body(vec![b'o'; 2000]),
        Request::get("/search?seconds=0.01"),
        Request::get("/export"),
        Request::new("DELETE", "/cart"),
        Request::get("/checkout"),
        Request::get("/crash"),
    ];
    (0..REQUESTS)
        .zip(kinds.iter().cycle())
        .map(|(number, kind)| kind.clone().under(&format!("/{number}")))
        .collect()
}

fn counts_are_exact(server: &Builder) -> Result<()> {
    let server = server.start()?;
    let observer = Observer::record_for(&[server.pid()])?;
    let load = Load {
        requests: REQUESTS,
        concurrency: 8,
        routes: requests(),
    };
    let tally = load.run(server.port);
    ensure!(
        tally.failures.is_empty(),
        "requests failed: {:?}",
        tally.failures
    );

    let logged = server.wait_for_access_log(REQUESTS)?;
    let answered: BTreeMap<_, _> = tally
        .answers
        .iter()
        .map(|(key, count)| (key.clone(), *count))
        .collect();
    let logged_answers = logged.iter().fold(BTreeMap::new(), |mut counts, line| {
        *counts.entry((line.status, line.path.clone())).or_insert(0) += 1;
        counts
    });
    ensure!(
        answered == logged_answers,
        "the access log is not what the client saw"
    );

    let metrics = observer.wait_for_requests(server.pid(), REQUESTS)?;
    compare::workers(&metrics, &server, &logged)?;
    compare::routes(&metrics, &server, &logged)?;
    compare::nothing_lost(&metrics)?;

    let recording = observer.stop()?;
    let facts = observer::replay_requests(&recording.recording())?;
    compare::facts(&facts, &logged)?;
    compare::response_bytes(&metrics, &facts, &tally)?;
    let is_kept = facts.iter().any(|fact| fact.ordinal > 0);
    ensure!(
        is_kept == (server.worker_class() != "SyncWorker"),
        "connections were kept: {is_kept}"
    );
    let differences = compare::duration_differences_us(&facts, &logged)?;
    ensure!(!differences.is_empty(), "no duration was compared");
    let median = differences[differences.len() / 2];
    let p99 = differences[differences.len() * 99 / 100];
    let last = differences[differences.len() - 1];
    println!("durations are off by {median} µs in the median, {p99} at p99, {last} at most");
    ensure!(
        median <= MEDIAN_US,
        "durations are off by {median} µs in the median"
    );
    ensure!(
        p99 <= P99_US,
        "durations are off by {p99} µs at the 99th percentile"
    );
    Ok(())
}
