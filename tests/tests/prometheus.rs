//! A real Prometheus scrapes the observer while Gunicorns have every problem that an operator may query:
//! it must take every sample, and answer every query of docs/METRICS.md.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    api_server::{ApiServer, NODE},
    client::Request,
    compare,
    container::Container,
    dirty_pool,
    gunicorn::{Builder, GunicornServer},
    kernel::RunTimes,
    load::Background,
    observer::Observer,
    operated, process,
    prometheus::{self, Prometheus},
    skip,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;

const DOCS: &str = include_str!("../../docs/METRICS.md");

/// All queries have to be answered within this of the last thing that is brought about.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// What Prometheus counts of samples that it does not take.
const NOT_TAKEN: [&str; 5] = [
    "prometheus_target_scrapes_sample_duplicate_timestamp_total",
    "prometheus_target_scrapes_sample_out_of_bounds_total",
    "prometheus_target_scrapes_sample_out_of_order_total",
    "prometheus_target_scrapes_exceeded_body_size_limit_total",
    "prometheus_target_scrapes_exceeded_sample_limit_total",
];

/// The queries, in the tables `| question | PromQL |`.
fn queries() -> Vec<&'static str> {
    let rows = DOCS.split("| question | PromQL |\n|---|---|\n").skip(1);
    let lines = rows.flat_map(|rows| rows.lines().take_while(|line| line.starts_with('|')));
    lines
        .filter_map(|line| line.split('`').nth_back(1))
        .collect()
}

#[test]
fn prometheus_takes_every_sample_and_answers_every_query_of_the_document() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let _run_times = RunTimes::measured()?;
    let image = Builder::new(&Venv::debian()?, "operated:app");
    let mut sync = image.clone().workers(2).timeout(2).start()?;
    let contained = image.clone().in_container(Container::Runc).start()?;
    let mut threaded = image.class("gthread").threads(4).start()?;
    let pool = dirty_pool::builder()?.start_listening()?;
    let dirty_workers = process::children(dirty_pool::arbiter(&pool)?);
    let masters = [&sync, &threaded, &contained, &pool];
    let mut arguments = masters
        .map(|server| format!("--pid={}", server.pid()))
        .to_vec();
    let settings = ["--app-metrics", "--gil", "--finding=restarts=1"];
    arguments.extend(settings.map(str::to_owned));
    let cluster = ApiServer::play_node()?;
    let observer = Observer::run_in_cluster(NODE, &cluster.config()?, &arguments)?;
    let prometheus = Prometheus::start(observer.port)?;

    let loads = [
        operated::load(&sync, &operated::SYNC_PATHS),
        operated::load(&threaded, &operated::THREADED_PATHS),
    ];
    happens(&mut sync, &mut threaded, &contained)?;
    let victim = dirty_workers.first().context("no dirty worker")?;
    process::signal(*victim, Signal::SIGKILL)?;
    let answered = every_query_is_answered(&prometheus, || {
        contained.fetch(&Request::get("/ok"))?;
        threaded.fetch(&Request::get("/streams")).map(|_| ())
    });
    let tallies = loads.map(Background::stop);
    ensure!(
        tallies.iter().all(|tally| tally.answered() > 100),
        "{tallies:?}"
    );
    compare::all([
        answered,
        clean(&observer),
        scraped_without_an_error(&prometheus),
        as_openmetrics(&prometheus),
        stored_as_logged(&prometheus, &threaded),
        stored_as_logged(&prometheus, &contained),
    ])
    .with_context(|| format!("observer:\n{}", observer.stderr().unwrap_or_default()))?;
    observer.stop()?;
    Ok(())
}

/// All that happens to the others, and a collection in the container.
fn happens(
    sync: &mut GunicornServer,
    threaded: &mut GunicornServer,
    contained: &GunicornServer,
) -> Result<()> {
    operated::trouble(sync, threaded)?;
    contained.fetch(&Request::get("/collects"))?;
    Ok(())
}

/// Each has a number in its answer, while `more` goes on to happen.
fn every_query_is_answered(prometheus: &Prometheus, more: impl Fn() -> Result<()>) -> Result<()> {
    let mut open = queries();
    ensure!(open.len() > 60, "the document has only {open:?}");
    let start = Instant::now();
    while !open.is_empty() && start.elapsed() < ANSWERED_WITHIN {
        more()?;
        let mut unanswered = Vec::new();
        for query in open {
            let answer = prometheus.query(query)?;
            if answer.iter().all(|series| series.number().is_none()) {
                unanswered.push(query);
            }
        }
        open = unanswered;
    }
    ensure!(open.is_empty(), "no answer to:\n{}", open.join("\n"));
    Ok(())
}

/// `promtool` has nothing to say against the text format.
fn clean(observer: &Observer) -> Result<()> {
    let objections = prometheus::objections(&observer.scrape_text()?)?;
    ensure!(objections.is_empty(), "{objections:#?}");
    Ok(())
}

fn scraped_without_an_error(prometheus: &Prometheus) -> Result<()> {
    let targets = prometheus.targets()?;
    let [target] = targets.as_slice() else {
        anyhow::bail!("not one target: {targets:?}");
    };
    ensure!(
        target.health == "up" && target.last_error.is_empty(),
        "{target:?}"
    );
    let always_up = prometheus.query("min_over_time(up[1h]) == 1")?;
    ensure!(always_up.len() == 1, "it was not always up");
    let log = prometheus.log()?;
    let complaints: Vec<_> = log
        .lines()
        .filter(|line| {
            line.contains("level=warn") || line.contains("level=error") || of_scrape(line)
        })
        .collect();
    ensure!(complaints.is_empty(), "{complaints:#?}");
    let metrics = end_to_end::metrics::Metrics::parse(&prometheus.metrics()?)?;
    for name in NOT_TAKEN {
        let counted: Vec<_> = metrics.all(name, &[]).map(|sample| sample.value).collect();
        ensure!(counted == [0.0], "{name}: {counted:?}");
    }
    Ok(())
}

/// What Prometheus says of a scrape that it could not take, or not all of it.
fn of_scrape(line: &str) -> bool {
    [
        "Scrape failed",
        "Append failed",
        "Duplicate sample",
        "Out of order",
        "Out of bounds",
    ]
    .iter()
    .any(|words| line.contains(words))
}

/// Only in that format do all limits of buckets have a fraction.
fn as_openmetrics(prometheus: &Prometheus) -> Result<()> {
    for (limit, expected) in [("1.0", true), ("1", false)] {
        let query = format!("http_server_request_duration_seconds_bucket{{le=\"{limit}\"}}");
        let is_there = !prometheus.query(&query)?.is_empty();
        ensure!(is_there == expected, "le={limit}: {is_there}");
    }
    Ok(())
}

/// What Prometheus has in the end is what the access log has, over a reload.
fn stored_as_logged(prometheus: &Prometheus, server: &GunicornServer) -> Result<()> {
    let query = format!(
        "sum(gunicorn_worker_requests_total{{master_pid=\"{}\"}})",
        server.pid()
    );
    let logged = server.access_log()?.len().to_string();
    let mut stored = String::new();
    let waited = wait::until("what is logged to be in Prometheus", || {
        let series = prometheus.query(&query)?;
        let number = series.first().and_then(prometheus::Series::number);
        stored = number.unwrap_or_default().to_string();
        Ok((stored == logged).then_some(()))
    });
    waited.with_context(|| format!("{logged} are logged, {stored} stored"))?;
    Ok(())
}
