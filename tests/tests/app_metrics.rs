//! Metrics that an application keeps with `prometheus_client`, against what it would print itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::chown,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::{self, Request},
    compare,
    container::Container,
    gunicorn::{Builder, GunicornServer},
    metrics::Metrics,
    observer::{self, Observer},
    process, skip,
    venv::Venv,
    wait,
};
use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};
use tempfile::TempDir;

const VARIABLE: &str = "PROMETHEUS_MULTIPROC_DIR";
const WORKERS: usize = 3;
/// The observer has this family itself.
const EXPORTERS: &str = "gunicorn_worker_requests_total";
const ERRORS: &str = "gunicorn_observer_app_metrics_errors_total";

/// Each series by name and labels.
type Series = BTreeMap<(String, BTreeMap<String, String>), f64>;

fn series(text: &str) -> Result<Series> {
    let samples = Metrics::parse(text)?.samples.into_iter();
    let samples = samples.filter(|sample| sample.name != EXPORTERS);
    let series = samples.map(|sample| ((sample.name, sample.labels), sample.value));
    Ok(series.collect())
}

/// What the observer serves of the app, without the label that it adds.
fn served(observer: &Observer) -> Result<Series> {
    let response = client::fetch(observer.port, &Request::get("/app-metrics"))?;
    let text = String::from_utf8(response.body)?;
    ensure!(response.status == 200, "{}: {text}", response.status);
    ensure!(!text.contains(EXPORTERS), "{text}");
    let mut found = Series::new();
    for ((name, mut labels), value) in series(&text)? {
        ensure!(
            labels.remove("app").as_deref() == Some("counted:app"),
            "{text}"
        );
        if let Some(own) = labels.remove("exported_app") {
            labels.insert("app".to_owned(), own);
        }
        found.insert((name, labels), value);
    }
    Ok(found)
}

/// What the app would say itself, of these processes being dead.
fn own(server: &GunicornServer, dead: &[u32]) -> Result<Series> {
    let dead: Vec<_> = dead.iter().map(ToString::to_string).collect();
    let response = server.fetch(&Request::get(&format!("/own?{}", dead.join(","))))?;
    let text = String::from_utf8(response.body)?;
    ensure!(text.contains(EXPORTERS), "{text}");
    series(&text)
}

/// Sends requests until every worker has served one; returns the PIDs that they have for themselves.
fn hit(server: &GunicornServer) -> Result<BTreeSet<u32>> {
    let mut seen = BTreeSet::new();
    wait::until("a request of each worker", || {
        for path in ["/", "/a\"quoted\\path"] {
            let response = server.fetch(&Request::get(path))?;
            seen.insert(String::from_utf8(response.body)?.parse::<u32>()?);
        }
        Ok((seen.len() >= WORKERS).then_some(()))
    })?;
    Ok(seen)
}

fn observe(server: &GunicornServer) -> Result<Observer> {
    let arguments = [
        "--app-metrics".to_owned(),
        format!("--pid={}", server.pid()),
    ];
    Observer::start_with(&observer::binary()?, false, arguments)
}

/// Compares before and after a worker is killed; returns the PID that it had for itself.
fn equals_what_the_app_says(server: &mut GunicornServer, observer: &Observer) -> Result<u32> {
    hit(server)?;
    compare::equal("with all workers", &served(observer)?, &own(server, &[])?)?;
    let victim = *server.workers().first().context("no worker")?;
    let dead = process::own_pid(victim).context("no PID of its own")?;
    let booted = server.booted()?.len();
    process::signal(victim, Signal::SIGKILL)?;
    wait::until("another worker", || {
        let is_there = server.booted()?.len() > booted && !process::is_alive(victim);
        Ok(is_there.then_some(()))
    })?;
    hit(server)?;
    let expected = own(server, &[dead])?;
    ensure!(
        expected != own(server, &[])?,
        "the dead worker had no live gauge"
    );
    compare::equal("without the killed worker", &served(observer)?, &expected)?;
    Ok(dead)
}

fn errors(observer: &Observer) -> Result<BTreeMap<Vec<String>, f64>> {
    Ok(observer.scrape()?.sum_by(ERRORS, &[], &["reason"]))
}

#[test]
fn the_observer_serves_what_the_application_would_and_knows_which_workers_live() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for venv in Venv::all()? {
        let folder = TempDir::new()?;
        let builder = Builder::new(&venv, "counted:app").workers(WORKERS);
        let path = folder.path().display().to_string();
        let mut server = builder.variable(VARIABLE, &path).start()?;
        let observer = observe(&server)?;
        equals_what_the_app_says(&mut server, &observer)?;
        ensure!(errors(&observer)?.is_empty());
        traps_cost_only_themselves(&server, &observer, folder.path())?;
        observer.stop()?;
    }
    Ok(())
}

/// Files that the application itself could not read.
fn traps_cost_only_themselves(
    server: &GunicornServer,
    observer: &Observer,
    folder: &Path,
) -> Result<()> {
    let before = served(observer)?;
    ensure!(before.len() > 20, "{before:?}");
    fs::write(folder.join("counter_999.db"), [0xff; 4096])?;
    mkfifo(&folder.join("gauge_all_999.db"), Mode::S_IRWXU)?;
    std::os::unix::fs::symlink("/etc/shadow", folder.join("summary_999.db"))?;
    let foreign = folder.join("histogram_999.db");
    let ours = process::own_pid(server.workers()[0]).context("no PID of its own")?;
    fs::copy(folder.join(format!("histogram_{ours}.db")), &foreign)?;
    chown(&foreign, Some(65534), None)?;
    compare::equal("beside traps", &served(observer)?, &before)?;
    let counted = observer.wait_until("errors", |metrics| {
        metrics.sum(ERRORS, &[("reason", "file")]) == 2.0
    })?;
    for reason in ["malformed", "owner"] {
        let count = counted.sum(ERRORS, &[("reason", reason)]);
        ensure!(count == 1.0, "{reason}: {count}");
    }
    Ok(())
}

#[test]
fn a_folder_that_the_configuration_names_is_found_by_mapped_files() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let variable = format!("{VARIABLE}={}", folder.path().display());
    let mut server = Builder::new(&Venv::debian()?, "counted:app")
        .workers(WORKERS)
        .argument("--env")
        .argument(&variable)
        .start()?;
    let environment = fs::read(format!("/proc/{}/environ", server.pid()))?;
    ensure!(!String::from_utf8_lossy(&environment).contains(&format!("\0{VARIABLE}=")));
    let observer = observe(&server)?;
    equals_what_the_app_says(&mut server, &observer)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn a_folder_in_a_container_is_read_by_the_pids_of_its_namespace() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for container in [Container::Namespaces, Container::Runc] {
        let mut server = Builder::new(&Venv::debian()?, "counted:app")
            .workers(WORKERS)
            .variable(VARIABLE, "/tmp/own-metrics")
            .in_container(container)
            .start()?;
        ensure!(!Path::new("/tmp/own-metrics").exists());
        let observer = observe(&server)?;
        let dead = equals_what_the_app_says(&mut server, &observer)?;
        ensure!(dead < 1000, "{dead} is no PID of a namespace");
        observer.stop()?;
    }
    Ok(())
}

#[test]
fn without_the_option_there_is_nothing_at_that_path() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app").start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let response = client::fetch(observer.port, &Request::get("/app-metrics"))?;
    ensure!(response.status == 404, "{}", response.status);
    let metrics = observer.scrape()?;
    ensure!(metrics.all(ERRORS, &[]).next().is_none());
    observer.stop()?;
    Ok(())
}
