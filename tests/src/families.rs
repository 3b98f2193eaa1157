//! The metric families of an observer with all probes: a Gunicorn that gets every kind of request, and
//! its exposition.

use std::{collections::BTreeSet, process};

use anyhow::{Result, ensure};

use crate::{
    client::Request,
    gunicorn::{Builder, GunicornServer},
    load,
    metrics::Metrics,
    venv::Venv,
};

/// Families that each need another feature: (family, feature).
pub const CORE: [(&str, &str); 9] = [
    (
        "gunicorn_worker_requests_total",
        "the probe on datetime.now",
    ),
    (
        "gunicorn_worker_request_size_bytes_count",
        "the tracepoints of system calls",
    ),
    (
        "gunicorn_worker_failed_requests_total",
        "the probe on sys.exc_info, and the memory of a worker",
    ),
    (
        "gunicorn_request_phase_seconds_count",
        "the raw tracepoint of established connections",
    ),
    ("gunicorn_worker_memory_bytes", "/proc of a worker"),
    ("gunicorn_worker_open_fds", "/proc/<pid>/fd of a worker"),
    (
        "gunicorn_worker_heartbeat_age_seconds",
        "a file that a worker has open",
    ),
    (
        "gunicorn_listener_backlog_limit",
        "the network namespace of a master",
    ),
    ("gunicorn_app_info", "the memory of a master"),
];

/// The number of requests of [`ask`].
pub const REQUESTS: usize = 6;

/// A Gunicorn of another user than root, whose files and memory only its owner may read. Its name is
/// unique, because some families are labelled by application only.
pub fn server() -> Result<GunicornServer> {
    Builder::new(&Venv::debian()?, "raw:app")
        .argument("--user=65534")
        .argument("--name")
        .argument(&name())
        .start()
}

fn name() -> String {
    format!("families of {}", process::id())
}

/// Some requests that succeed, and one that fails.
pub fn ask(server: &GunicornServer) -> Result<()> {
    load::ask(server, "/hello", REQUESTS - 1)?;
    let answer = server.fetch(&Request::get("/raises"))?;
    ensure!(answer.status == 500, "answered {}", answer.status);
    Ok(())
}

/// The core families without a series of [`server`].
#[must_use]
pub fn missing(metrics: &Metrics) -> BTreeSet<&'static str> {
    let name = name();
    let labels = [("app", name.as_str())];
    let is_missing = |family: &&str| metrics.all(family, &labels).next().is_none();
    CORE.iter()
        .map(|(family, _)| *family)
        .filter(is_missing)
        .collect()
}
