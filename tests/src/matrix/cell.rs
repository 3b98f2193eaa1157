//! One cell, tried: a real Gunicorn so run, and what the observer says of it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::{place::Place, product::Cell};
use crate::{
    access_log::Line,
    client::Request,
    compare,
    facts::Fact,
    gunicorn::{Builder, GunicornServer},
    load::Load,
    metrics::Metrics,
    observer::Observer,
};

/// Requests to each cell; enough for a 99th percentile.
pub const REQUESTS: usize = 300;
const WORKERS: usize = 2;

/// A bound on the difference of durations from the log's at the 99th percentile. Both clocks are read a
/// few instructions apart; the scheduler may come between.
const P99_US: u64 = 1000;

/// The result of a cell.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// `full`, `socket` or `none`.
    pub level: String,
    /// Why not `full`.
    pub reason: String,
    /// Whether class and age of each worker were right before the first request.
    pub known_before: bool,
    pub counted: f64,
    pub sent: usize,
    /// Difference of durations from the access log's at the 99th percentile.
    pub p99_us: Option<u64>,
    /// Every mistake.
    pub wrong: Vec<String>,
}

/// A tried cell whose single requests are still to be compared.
pub struct Tried {
    outcome: Outcome,
    logged: Vec<Line>,
    pids: Vec<u32>,
}

/// Runs a cell under an observer of the whole host.
pub fn try_one(place: &Place, cell: &Cell, observer: &Observer) -> Result<Tried> {
    let threads = if cell.class == "gthread" { 4 } else { 1 };
    let mut server = Builder::new(place.python(cell)?, "cell:app")
        .class(cell.class)
        .workers(WORKERS)
        .threads(threads)
        .start()?;
    let mut outcome = Outcome::default();
    (outcome.level, outcome.reason) = level(observer, &server)?;
    let lost = losses(&observer.scrape()?);
    let identities = |metrics: &Metrics| compare::identities(metrics, server.as_master(), 1);
    match observer.wait_until("class and age of each worker", |metrics| {
        identities(metrics).is_ok()
    }) {
        Ok(_) => outcome.known_before = true,
        Err(_) => outcome.wrong.extend(
            identities(&observer.scrape()?)
                .err()
                .map(|error| format!("before the first request: {error:#}")),
        ),
    }
    let tally = Load {
        requests: REQUESTS,
        concurrency: 4,
        routes: requests(),
    }
    .run(server.port);
    ensure!(
        tally.failures.is_empty(),
        "requests failed: {:?}",
        tally.failures
    );
    outcome.sent = REQUESTS;
    let logged = server.wait_for_access_log(REQUESTS)?;
    let counted = observer.wait_for_requests(server.pid(), REQUESTS);
    let metrics = observer.scrape()?;
    outcome.counted = metrics.sum(
        "gunicorn_worker_requests_total",
        &[("master_pid", &server.pid().to_string())],
    );
    if let Err(error) = compare::workers(&metrics, &server, &logged) {
        outcome.wrong.push(format!("{error:#}"));
    } else if counted.is_err() {
        outcome
            .wrong
            .push("not all requests are counted".to_owned());
    }
    if let Err(error) = compare::equal("losses", &losses(&metrics), &lost) {
        outcome.wrong.push(format!("{error:#}"));
    }
    // Known while they live, to distinguish their records from those of others.
    let pids = server.wait_for_workers(WORKERS)?;
    Ok(Tried {
        outcome,
        logged,
        pids,
    })
}

impl Tried {
    /// Compares its requests one by one, among all records of the observer.
    #[must_use]
    pub fn judge(self, facts: &[Fact]) -> Outcome {
        let Self {
            mut outcome,
            logged,
            pids,
        } = self;
        let is_ours = |fact: &&Fact| pids.contains(&fact.pid);
        let facts: Vec<_> = facts.iter().filter(is_ours).cloned().collect();
        if let Err(error) = compare::facts(&facts, &logged) {
            outcome.wrong.push(format!("{error:#}"));
        }
        match compare::duration_differences_us(&facts, &logged) {
            Ok(differences) if differences.is_empty() => {
                outcome.wrong.push("no duration was compared".to_owned());
            }
            Ok(differences) => {
                let p99 = differences[differences.len() * 99 / 100];
                outcome.p99_us = Some(p99);
                if p99 > P99_US {
                    outcome
                        .wrong
                        .push(format!("durations are off by {p99} µs at p99"));
                }
            }
            Err(error) => outcome.wrong.push(format!("{error:#}")),
        }
        if outcome.level != "full" {
            let Outcome { level, reason, .. } = &outcome;
            outcome.wrong.push(format!("level {level}: {reason}"));
        }
        outcome
    }
}

/// Every kind of request in turn, each with a path of its own.
fn requests() -> Vec<Request> {
    let kinds = [
        Request::get("/hello"),
        Request::new("HEAD", "/hello"),
        Request::new("POST", "/upload").body(vec![b'u'; 2000]),
        Request::get("/chunked"),
        Request::get("/slow?seconds=0.005"),
        Request::get("/no-content"),
        Request::get("/nowhere"),
        Request::get("/raises"),
    ];
    (0..REQUESTS)
        .zip(kinds.iter().cycle())
        .map(|(number, kind)| kind.clone().under(&format!("/{number}")))
        .collect()
}

/// Waits until the observer has found the master and set its level.
fn level(observer: &Observer, server: &GunicornServer) -> Result<(String, String)> {
    const FAMILY: &str = "gunicorn_observer_target_level";
    let pid = server.pid().to_string();
    let labels = [("master_pid", pid.as_str())];
    let metrics = observer.wait_until("the master to be found", |metrics| {
        metrics.sum(FAMILY, &labels) > 0.0
    })?;
    let level = metrics.all(FAMILY, &labels).next();
    let level = level.context("the level just seen is gone")?;
    Ok((level.label("level").into(), level.label("reason").into()))
}

fn losses(metrics: &Metrics) -> BTreeMap<Vec<String>, f64> {
    metrics.sum_by("gunicorn_observer_lost_total", &[], &["cause"])
}
