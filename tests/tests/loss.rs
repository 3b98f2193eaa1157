//! Requests that do not fit into the ring buffer are counted one by one, and every view says so.

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    browser::Browser,
    client::{self, Request},
    compare, flood,
    gunicorn::{Builder, GunicornServer},
    load::Load,
    metrics::Metrics,
    observer::Observer,
    process, skip,
    venv::Venv,
};
use nix::sys::signal::Signal;

/// Before it stands still.
const BEFORE: usize = 1000;
/// While it stands still: more than the ring buffer has room for, about twenty thousand.
const MEANWHILE: usize = 32_000;

#[test]
fn requests_that_an_observer_at_a_standstill_misses_are_counted_exactly() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    // Read by its Python.
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .class("gthread")
        .threads(4)
        .start()?;
    let load = |requests| {
        let tally = Load {
            requests,
            concurrency: 4,
            routes: vec![Request::get("/hello")],
        }
        .run(server.port);
        ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
        ensure!(tally.answered() == requests, "{tally:?}");
        Ok(())
    };
    overloaded(&server, load)
}

#[test]
fn the_same_where_only_system_calls_are_observed() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = flood::server(&Venv::debian()?)?;
    overloaded(&server, |requests| {
        flood::send(server.port, requests, None).map(|_| ())
    })
}

fn overloaded(server: &GunicornServer, load: impl Fn(usize) -> Result<()>) -> Result<()> {
    let observer = Observer::run_for(&[server.pid()])?;
    load(BEFORE)?;
    let metrics = observer.wait_for_requests(server.pid(), BEFORE)?;
    compare::nothing_lost(&metrics)?;

    process::signal(observer.pid(), Signal::SIGSTOP)?;
    let loaded = load(MEANWHILE);
    process::signal(observer.pid(), Signal::SIGCONT)?;
    loaded?;

    let sent = BEFORE + MEANWHILE;
    let metrics = observer.wait_until("each request to be counted or lost", |metrics| {
        compare::all_counted_or_lost(metrics, sent).is_ok()
    })?;
    let lost = compare::all_counted_or_lost(&metrics, sent)?.lost;
    ensure!(lost > 0.0, "there was room for all of them");
    every_view_says_so(&observer, server, &metrics, lost)?;

    // From then on as before.
    load(BEFORE)?;
    let accounted = |metrics: &Metrics| compare::all_counted_or_lost(metrics, sent + BEFORE);
    let metrics = observer.wait_until("those that came later to be counted", |metrics| {
        accounted(metrics).is_ok()
    })?;
    let after = accounted(&metrics)?.lost;
    ensure!(
        after.to_string() == lost.to_string(),
        "{after} were lost, and {lost} before"
    );
    observer.stop()?;
    Ok(())
}

/// Metrics, API and page say how many, and that totals are lower bounds.
fn every_view_says_so(
    observer: &Observer,
    server: &GunicornServer,
    metrics: &Metrics,
    lost: f64,
) -> Result<()> {
    let text = observer.scrape_text()?;
    let help = text
        .lines()
        .find(|line| line.starts_with("# HELP gunicorn_observer_lost_total"))
        .context("what is lost has no family")?;
    ensure!(help.ends_with("other totals are lower bounds."), "{help}");
    let response = client::fetch(observer.port, &Request::get("/api/v1/snapshot"))?;
    let view: serde_json::Value = serde_json::from_slice(&response.body)?;
    let shown = &view["observer"]["lost"]["ring_full"];
    ensure!(
        shown.as_f64() == Some(lost),
        "{shown} in the API, {lost} in metrics"
    );
    let counted = metrics.sum("gunicorn_worker_requests_total", &[]);
    ensure!(view["apps"][0]["requests_total"].as_f64() == Some(counted));
    let browser = Browser::start(1280, 900)?;
    let master = server.pid();
    browser.open(&format!("http://127.0.0.1:{}/#/{master}", observer.port))?;
    browser.wait_for(
        "document.querySelector('#coverage').innerText.includes('(ring_full); totals are lower bounds')",
        "the page to say that totals are lower bounds",
    )?;
    Ok(())
}
