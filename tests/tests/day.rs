//! A day of traffic in a minute: workers are recycled, aborted, killed and reloaded under load. Each request
//! that a client sent is counted, or lost, but for at most one in a thousand, of workers that are killed; none
//! is counted twice.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::{Client, Request},
    compare, extent,
    gunicorn::{Builder, GunicornServer},
    metrics::Metrics,
    observer::Observer,
    skip,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;

/// Class, threads, and a request that makes its master give the worker up, if there is one.
const KINDS: [(&str, usize, Option<&str>); 4] = [
    ("sync", 1, Some("/sleep?s=600")),
    ("gthread", 4, None),
    ("gevent", 1, Some("/loop")),
    ("eventlet", 1, Some("/loop")),
];
/// Masters of each kind, and the time they are under load: in full, and in a quick run.
const MASTERS: [usize; 2] = [5, 2];
const DAY: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(20)];
const CLIENTS: usize = 2;
/// Of the requests to one master, so that all of them together leave the two cores time.
const PAUSE: Duration = Duration::from_millis(80);
const TIMEOUT_SECONDS: u32 = 3;
const MAX_REQUESTS: usize = 40;
/// Each run makes the same choices.
const SEED: u64 = 2718;

#[test]
fn each_request_of_a_day_is_counted_or_lost() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let [full, quick] = MASTERS;
    let mut servers = Vec::new();
    for (class, threads, abort) in KINDS {
        for number in 0..extent::of(full, quick) {
            let name = format!("{class}-{number}");
            let server = Builder::new(&Venv::debian()?, "hangs:app")
                .class(class)
                .workers(2)
                .threads(threads)
                .timeout(TIMEOUT_SECONDS)
                .max_requests(MAX_REQUESTS)
                .argument(&format!("--name={name}"))
                .start_listening()
                .context(name.clone())?;
            servers.push((name, server, abort));
        }
    }
    let masters: Vec<u32> = servers.iter().map(|(_, server, _)| server.pid()).collect();
    let observer = Observer::run_for(&masters)?;
    let [full, quick] = DAY;
    let end = Instant::now() + extent::of(full, quick);
    let sent: Vec<usize> = thread::scope(|scope| {
        let days: Vec<_> = servers
            .iter()
            .zip(SEED..)
            .map(|((_, server, abort), seed)| scope.spawn(move || day(server, *abort, seed, end)))
            .collect();
        let joined = days.into_iter().map(|day| day.join().unwrap_or(0));
        joined.collect()
    });
    /// Of how many requests one may be missed: see docs/LIMITATIONS.md.
    const MISSED_OF: usize = 1000;
    let names = servers.iter().map(|(name, ..)| name.as_str());
    let sent: Vec<(&str, usize)> = names.zip(sent).collect();
    let is_counted = |metrics: &Metrics, of: &(&str, usize)| {
        answered_or_lost(metrics, of.0).to_string() == of.1.to_string()
    };
    // Differences are reported below.
    let _ = wait::until("every request", || {
        let metrics = observer.scrape()?;
        Ok(sent.iter().all(|of| is_counted(&metrics, of)).then_some(()))
    });
    let metrics = observer.scrape()?;
    compare::nothing_lost(&metrics)?;
    let (mut wrong, mut missed, mut all) = (Vec::new(), 0.0, 0);
    for &(name, sent) in sent.iter().filter(|of| !is_counted(&metrics, of)) {
        let counted = answered_or_lost(&metrics, name);
        ensure!(
            counted < sent as f64,
            "{name}: {sent} sent, {counted} counted or lost"
        );
        missed += sent as f64 - counted;
        wrong.push(format!("{name}: {sent} sent, {counted} counted or lost"));
    }
    for (_, sent) in &sent {
        all += sent;
    }
    let is_rare = missed * MISSED_OF as f64 <= all as f64;
    ensure!(is_rare, "of {all}:\n{}", wrong.join("\n"));
    let ends = |reason| {
        metrics.sum(
            "gunicorn_master_worker_restart_total",
            &[("reason", reason)],
        )
    };
    for reason in ["max_requests", "timeout", "crash", "reload"] {
        ensure!(ends(reason) > 0.0, "no worker ended by {reason}");
    }
    Ok(())
}

/// The requests of an app that the observer has counted, and those that it knows to be lost.
fn answered_or_lost(metrics: &Metrics, app: &str) -> f64 {
    let of_app = [("app", app)];
    metrics.sum("gunicorn_worker_requests_total", &of_app)
        + metrics.sum("gunicorn_requests_lost_total", &of_app)
}

/// Returns how many requests the clients of one master sent.
fn day(server: &GunicornServer, abort: Option<&str>, seed: u64, end: Instant) -> usize {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS as u64)
            .map(|number| scope.spawn(move || client(server, abort, seed * 31 + number, end)))
            .collect();
        while Instant::now() < end {
            thread::sleep(Duration::from_secs(7));
            // One that exits meanwhile gets the signal too late: no matter.
            let _ = server.signal(Signal::SIGHUP);
        }
        let sent = clients.into_iter().map(|client| client.join().unwrap_or(0));
        sent.sum()
    })
}

fn client(server: &GunicornServer, abort: Option<&str>, seed: u64, end: Instant) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sent = 0;
    while Instant::now() < end {
        let target = match (random.u8(..60), abort) {
            (0, Some(abort)) => abort,
            (1..=2, _) => "/segv",
            (3, _) => "/exit/7",
            _ => "/ok",
        };
        let request = Request::get(target).header("Connection", "close");
        let asked = Client::connect(server.port).and_then(|mut client| {
            client.ask(&request)?;
            Ok(client)
        });
        if let Ok(mut client) = asked {
            sent += 1;
            // A worker that exits answers nothing.
            let _ = client.response("GET");
        }
        thread::sleep(PAUSE);
    }
    sent
}
