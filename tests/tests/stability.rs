//! The observer attaches, detaches and outlives its targets; nothing is left of either.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::{Request, fetch},
    compare, extent,
    gunicorn::Builder,
    kernel::Loaded,
    load::Background,
    metrics::Metrics,
    observer::Observer,
    process, skip,
    venv::Venv,
    wait,
};

/// In full, and in a quick run.
const MASTERS: [usize; 2] = [200, 40];
const ROUNDS: [usize; 2] = [20, 5];

/// As many processes at once as two cores bear.
const PARALLEL: usize = 4;

#[test]
fn attaching_and_detaching_under_load_fails_no_request_and_leaves_nothing() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .class("gthread")
        .workers(2)
        .threads(4)
        .start()?;
    let before = Loaded::now()?;
    let routes = ["/hello", "/chunked", "/not-modified"]
        .map(Request::get)
        .to_vec();
    let load = Background::start(server.port, 4, routes, || {});
    let [full, quick] = ROUNDS;
    for round in 0..extent::of(full, quick) {
        let observer = Observer::run_for(&[server.pid()])?;
        let answered = load.tally().answered();
        observer.wait_until("requests to be seen", |metrics| {
            metrics.sum("gunicorn_worker_requests_total", &[]) > 0.0
        })?;
        wait::until("load to go on", || {
            Ok((load.tally().answered() > answered + 10).then_some(()))
        })?;
        let stopped = observer.stop();
        stopped.with_context(|| format!("round {round}"))?;
    }
    let tally = load.stop();
    ensure!(
        tally.failures.is_empty(),
        "requests failed: {:?}",
        tally.failures
    );
    ensure!(
        tally
            .answers
            .keys()
            .all(|(status, _)| matches!(status, 200 | 304)),
        "{tally:?}"
    );
    nothing_is_left(&before)
}

#[test]
fn an_observer_of_an_idle_gunicorn_stops_as_fast_as_promised() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app").start()?;
    Observer::run_for(&[server.pid()])?.stop_as_promised()?;
    Ok(())
}

#[test]
fn a_killed_observer_leaves_nothing_and_harms_nothing() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app").start()?;
    let before = Loaded::now()?;
    let observer = Observer::run_for(&[server.pid()])?;
    ensure!(Loaded::now()? != before, "the observer loaded nothing");
    process::signal(observer.pid(), nix::sys::signal::Signal::SIGKILL)?;
    drop(observer);
    nothing_is_left(&before)?;
    ensure!(fetch(server.port, &Request::get("/hello"))?.status == 200);
    Ok(())
}

/// The kernel frees programs and maps a while after their last user is gone.
fn nothing_is_left(before: &Loaded) -> Result<()> {
    wait::until("every program and map to be gone", || {
        Ok(Loaded::is_gone_beyond(before)?.then_some(()))
    })
    .with_context(|| format!("left: {:?}", Loaded::now().map(|now| now.beyond(before))))
}

#[test]
fn many_masters_come_and_go_and_no_map_keeps_them() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let venv = Venv::debian()?;
    let observer = Observer::run()?;
    let before = entries(&observer.scrape()?);
    ensure!(!before.is_empty(), "no map has a count of entries");
    let next = AtomicUsize::new(0);
    let [full, quick] = MASTERS;
    let count = extent::of(full, quick);
    let masters = thread::scope(|scope| {
        let threads: Vec<_> = (0..PARALLEL)
            .map(|_| {
                scope.spawn(|| {
                    let mut masters = Vec::new();
                    while next.fetch_add(1, Ordering::Relaxed) < count {
                        let server = Builder::new(&venv, "raw:app").start()?;
                        let answer = fetch(server.port, &Request::get("/hello"))?;
                        ensure!(answer.status == 200, "answered {}", answer.status);
                        masters.push(server.pid().to_string());
                    }
                    Ok(masters)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread of this test panicked"))?
            })
            .collect::<Result<Vec<_>>>()
    })?;
    // Ours have all ended by now.
    let others = process::gunicorns();
    ensure!(others.is_empty(), "others run here: {others:?}");
    let metrics = observer
        .wait_until("the maps to hold no more than at the start", |metrics| {
            let now = entries(metrics);
            now.iter()
                .all(|(map, count)| before.get(map).is_some_and(|before| count <= before))
        })
        .with_context(|| format!("at the start: {before:?}"))?;
    let expected = compare::counted(masters.concat().into_iter().map(|master| vec![master]));
    let counted = metrics.sum_by("gunicorn_worker_requests_total", &[], &["master_pid"]);
    compare::equal("requests by master", &counted, &expected)?;
    compare::nothing_lost(&metrics)?;
    // `stop` fails if it panicked.
    observer.stop()?;
    Ok(())
}

/// Entries of each map, empty ones too.
fn entries(metrics: &Metrics) -> BTreeMap<String, f64> {
    metrics
        .all("gunicorn_observer_map_entries", &[])
        .map(|sample| (sample.label("map").to_owned(), sample.value))
        .collect()
}
