//! An observer of a Gunicorn without requests sleeps, and the first request wakes it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::{Request, fetch},
    gunicorn::Builder,
    metrics::Metrics,
    observer::Observer,
    process, skip,
    tracer::Tracer,
    venv::Venv,
    wait,
};

/// Until an observer without requests sleeps.
const SETTLES: Duration = Duration::from_secs(4);
const SECONDS: usize = 10;
/// Wake-ups in the quietest of so many seconds: each program that starts on the host makes two. Two
/// are expected in the long run.
const MOST: u64 = 6;
/// Sleeping observers read everything every two seconds: what is seen sooner, each time, woke them.
const ROUNDS: usize = 4;
const AT_ONCE: Duration = Duration::from_millis(700);

#[test]
fn an_observer_hardly_wakes_while_there_are_no_requests() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .workers(2)
        .start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    observer.wait_until("every program", Metrics::has_all_features)?;
    // Measurements, which take their time; nothing is waited for.
    thread::sleep(SETTLES);
    let mut woken = Vec::new();
    for _ in 0..SECONDS {
        let before = process::wakeups(observer.pid())?;
        thread::sleep(Duration::from_secs(1));
        // None in a second in which a thread ended, and took its count along.
        woken.extend(process::wakeups(observer.pid())?.checked_sub(before));
    }
    let least = woken.iter().min().context("no second")?;
    ensure!(*least <= MOST, "wake-ups in each second: {woken:?}");
    observer.stop()?;
    Ok(())
}

#[test]
fn the_first_request_after_a_pause_is_seen_at_once() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app").start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let tracer = Tracer::start(server.pid(), &["--json"])?;
    for round in 1..=ROUNDS {
        thread::sleep(SETTLES);
        ensure!(fetch(server.port, &Request::get("/hello"))?.status == 200);
        let answered = Instant::now();
        wait::until("the line of the request", || {
            Ok((tracer.lines()?.len() >= round).then_some(()))
        })?;
        let traced = answered.elapsed();
        ensure!(traced < AT_ONCE, "round {round}: its line took {traced:?}");
        // The line came first, so the request is over.
        let metrics = observer.scrape()?;
        let counted = metrics.sum("gunicorn_worker_requests_total", &[]);
        ensure!(counted == round as f64, "{counted} of {round} requests");
    }
    tracer.finish(ROUNDS)?;
    observer.stop()?;
    Ok(())
}
