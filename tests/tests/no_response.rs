//! Requests that end without a response, or in the middle of one: each is recorded when its connection
//! closes, though no other request follows.

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    backend::Backend,
    client::{Client, Request},
    compare,
    facts::Fact,
    gunicorn::{Builder, GunicornServer},
    observer::{self, Observer},
    skip,
    venv::Venv,
    wait,
};
use nix::time::{ClockId, clock_gettime};

/// The end of a connection reaches the client a little earlier than the observer.
const LATE_NS: u64 = 100_000_000;

/// The routes of `tests/apps/raw.py`, and the status that clients see.
const CUT: [(&str, Option<u16>); 4] = [
    ("/os-error", None),
    ("/reset", None),
    ("/raises-late", Some(200)),
    ("/cut-chunks", Some(200)),
];

#[test]
fn sync_workers() -> Result<()> {
    each_is_recorded_at_its_end("sync")
}

#[test]
fn gthread_workers() -> Result<()> {
    each_is_recorded_at_its_end("gthread")
}

#[test]
fn gevent_workers() -> Result<()> {
    each_is_recorded_at_its_end("gevent")
}

fn each_is_recorded_at_its_end(class: &str) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for backend in observer::backends()? {
        recorded_at_its_end(class, backend).with_context(|| format!("{backend:?}"))?;
    }
    Ok(())
}

fn recorded_at_its_end(class: &str, backend: Backend) -> Result<()> {
    let server = server(class)?;
    let observer = Observer::record_by(backend, &[server.pid()])?;
    let mut expected = Vec::new();
    for (path, status) in CUT {
        let begun = now_ns()?;
        let mut client = Client::connect(server.port)?;
        client.ask(&Request::get(path))?;
        client.rest()?;
        expected.push((path, status, begun..now_ns()? + LATE_NS));
        observer.wait_for_requests(server.pid(), expected.len())?;
    }
    compare::nothing_lost(&observer.scrape()?)?;
    for (fact, (path, status, period)) in observer.stop()?.requests()?.iter().zip(expected) {
        let seen = (fact.path.as_deref(), fact.status);
        ensure!(seen == (Some(path), status), "{path}: {fact:#?}");
        let times = [fact.entered_ns, fact.exited_ns];
        let is_within = |time: &Option<u64>| time.is_some_and(|ns| period.contains(&ns));
        ensure!(times.iter().all(is_within), "{path}, {period:?}: {fact:#?}");
    }
    Ok(())
}

#[test]
fn a_worker_that_exits_in_a_request_ends_it() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for backend in observer::backends()? {
        for class in ["sync", "gthread", "gevent"] {
            ended_by_exit(class, backend).with_context(|| format!("{class}, {backend:?}"))?;
        }
    }
    Ok(())
}

fn ended_by_exit(class: &str, backend: Backend) -> Result<()> {
    let mut server = server(class)?;
    let observer = Observer::record_by(backend, &[server.pid()])?;
    let hello = Request::get("/hello").header("Connection", "close");
    ensure!(server.fetch(&hello)?.status == 200);
    let first = server.workers();
    let mut client = Client::connect(server.port)?;
    client.ask(&Request::get("/gone"))?;
    client.wait_for_close()?;
    wait::until("another worker", || {
        Ok((server.booted()?.len() > 1).then_some(()))
    })?;
    let second = server.wait_for_workers(1)?;
    ensure!(server.fetch(&hello)?.status == 200);
    let metrics = observer.wait_for_requests(server.pid(), 3)?;
    let in_flight = metrics.sum("gunicorn_worker_requests_in_flight", &[]);
    ensure!(in_flight == 0.0, "{in_flight} requests in flight");
    let errors = metrics.sum(
        "gunicorn_http_errors_total",
        &[("error_type", "worker_crash"), ("status", "")],
    );
    ensure!(errors == 1.0, "{errors} errors by a crash");
    compare::nothing_lost(&metrics)?;
    let facts = observer.stop()?.requests()?;
    let seen: Vec<_> = facts.iter().map(by_worker).collect();
    let expected = [
        (first[0], Some("/hello"), false),
        (first[0], Some("/gone"), true),
        (second[0], Some("/hello"), false),
    ];
    ensure!(seen == expected, "{facts:#?}");
    Ok(())
}

fn by_worker(fact: &Fact) -> (u32, Option<&str>, bool) {
    (fact.pid, fact.path.as_deref(), fact.worker_exited)
}

fn server(class: &str) -> Result<GunicornServer> {
    let threads = if class == "gthread" { 2 } else { 1 };
    Builder::new(&Venv::debian()?, "raw:app")
        .class(class)
        .threads(threads)
        .start()
}

/// Nanoseconds of the clock of records.
fn now_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(u64::try_from(now.tv_sec() * 1_000_000_000 + now.tv_nsec())?)
}
