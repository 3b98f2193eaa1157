//! Fifty apps with twenty workers and two hundred routes each: cost of a scrape and of the API.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use end_to_end::{
    client::{self, Request},
    observer::{self, Observer},
    process,
};
use tempfile::TempDir;

const APPS: u32 = 50;
const WORKERS: u32 = 20;
const ROUTES: u32 = 200;
/// Far above what is measured: a machine may be busy with something else.
const SCRAPE: Duration = Duration::from_secs(5);
const MEMORY: u64 = 400 << 20;

/// Also when it is well: `println!` is shown of failed tests only.
fn say(line: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// How long the fastest of three took, and what was answered.
fn timed(observer: &Observer, path: &str, accept: &str) -> Result<(Duration, Vec<u8>)> {
    let mut fastest = None;
    let mut body = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let response = client::fetch(observer.port, &Request::get(path).header("Accept", accept))?;
        let took = start.elapsed();
        ensure!(
            response.status == 200,
            "{path} answered {}",
            response.status
        );
        fastest = fastest.min(Some(took)).or(Some(took));
        body = response.body;
    }
    let took = fastest.unwrap_or_default();
    say(&format!(
        "{path} as {accept}: {took:?}, {} bytes",
        body.len()
    ))?;
    Ok((took, body))
}

#[test]
fn a_large_fleet_is_shown_in_time_and_in_bounded_memory() -> Result<()> {
    let folder = TempDir::new()?;
    let recording = folder.path().join("fleet.rec");
    observer::fleet(&recording, APPS, WORKERS, ROUTES)?;
    let observer = Observer::show(&recording)?;
    let (took, _) = timed(&observer, "/metrics", "application/openmetrics-text")?;
    ensure!(took < SCRAPE, "a scrape took {took:?}");
    let (took, body) = timed(&observer, "/metrics", "text/plain")?;
    ensure!(took < SCRAPE, "a scrape took {took:?}");
    let metrics = String::from_utf8(body)?;
    let count = |name: &str| {
        metrics
            .lines()
            .filter(|line| line.starts_with(name))
            .count()
    };
    let routes = count("http_server_request_duration_seconds_count{");
    ensure!(routes >= (APPS * ROUTES) as usize, "{routes} routes");
    let workers = count("gunicorn_worker_info{");
    ensure!(workers == (APPS * WORKERS) as usize, "{workers} workers");
    let (took, body) = timed(&observer, "/api/v1/snapshot", "application/json")?;
    ensure!(took < SCRAPE, "a view took {took:?}");
    // It is sent each second.
    ensure!(body.len() < 4 << 20, "a view has {} bytes", body.len());
    let view: serde_json::Value = serde_json::from_slice(&body)?;
    let app = &view["apps"][0];
    let of = |name: &str| app[name].as_array().map_or(0, Vec::len);
    ensure!(of("workers") == WORKERS as usize && of("routes") == 50);
    ensure!(
        app["routes_left_off"] == ROUTES - 50,
        "{}",
        app["routes_left_off"]
    );
    ensure!(app["requests_total"] == 1000, "{}", app["requests_total"]);
    let peak = process::peak_memory(observer.pid())?;
    say(&format!("{} MiB at the most", peak >> 20))?;
    ensure!(peak < MEMORY, "it used {peak} bytes");
    observer.stop()?;
    Ok(())
}
