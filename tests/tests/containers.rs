//! Gunicorns in containers: in roots and namespaces of their own.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    compare,
    container::Container,
    gunicorn::{Builder, GunicornServer},
    load::ask,
    metrics::Metrics,
    observer::{self, Observer},
    process, skip,
    venv::Venv,
};

const REQUESTS: usize = 10;

/// Overlay mounts of one image have one interpreter file below them, which the kernel probes once
/// for each attachment.
#[test]
fn containers_of_one_image_share_a_probe_and_are_counted_once() -> Result<()> {
    every_request_is_counted_once(Container::Overlay)
}

#[test]
fn workers_in_namespaces_of_their_own_are_known_by_the_hosts_pids() -> Result<()> {
    every_request_is_counted_once(Container::Namespaces)
}

#[test]
fn workers_in_containers_of_runc_are_known_by_the_hosts_pids() -> Result<()> {
    every_request_is_counted_once(Container::Runc)
}

/// Two containers of each environment, found and started before and after the observer.
fn every_request_is_counted_once(container: Container) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for venv in Venv::all()? {
        let image = Builder::new(&venv, "raw:app")
            .workers(2)
            .in_container(container);
        let before = image.start()?;
        let observer = Observer::run()?;
        let after = image.start()?;
        for server in [&before, &after] {
            ask(server, "/hello", REQUESTS)
                .and_then(|()| counted(&observer, server, container))
                .with_context(|| format!("{container:?} on {}", venv.name()))?;
        }
        observer.stop()?;
    }
    Ok(())
}

/// The files of a container that are not its own are those of its host's: one attachment is for both.
#[test]
fn a_gunicorn_over_the_interpreter_of_its_host_is_counted_once() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let outside = Builder::new(&Venv::debian()?, "raw:app").workers(2);
    let inside = outside.clone().in_container(Container::Runc);
    let (outside, inside) = (outside.start()?, inside.start()?);
    let observer = Observer::run()?;
    for server in [&outside, &inside] {
        ask(server, "/hello", REQUESTS)?;
        let logged = server.wait_for_access_log(REQUESTS)?;
        let metrics = observer.wait_for_requests(server.pid(), REQUESTS)?;
        compare::workers(&metrics, server, &logged)?;
        attached_once(&metrics)?;
    }
    observer.stop()?;
    Ok(())
}

fn counted(observer: &Observer, server: &GunicornServer, container: Container) -> Result<()> {
    let is_apart = process::own_pid(server.pid()) != Some(server.pid());
    ensure!(
        is_apart == (container != Container::Overlay),
        "the master has the pids {:?} and {}",
        process::own_pid(server.pid()),
        server.pid()
    );
    let logged = server.wait_for_access_log(REQUESTS)?;
    let metrics = observer.wait_for_requests(server.pid(), REQUESTS)?;
    compare::workers(&metrics, server, &logged)?;
    let expected = started_in_order(server);
    let metrics = observer.wait_until("ages of workers", |metrics| {
        compare::equal("ages of workers", &ages(metrics, server), &expected).is_ok()
    })?;
    compare::nothing_lost(&metrics)?;
    attached_once(&metrics)
}

fn attached_once(metrics: &Metrics) -> Result<()> {
    let places = [("program", "datetime_now")];
    let attached = metrics.sum("gunicorn_observer_program_attachments", &places);
    ensure!(attached.to_string() == "1", "attached at {attached} places");
    Ok(())
}

/// Age of each worker by its pid, of `worker_<age>_<start>`.
fn ages(metrics: &Metrics, server: &GunicornServer) -> BTreeMap<String, f64> {
    let master = server.pid().to_string();
    let labels = [("master_pid", master.as_str())];
    let age = |id: &str| id.split('_').nth(1)?.parse().ok();
    metrics
        .all("gunicorn_worker_info", &labels)
        .map(|sample| {
            let age = age(sample.label("worker_id")).unwrap_or(f64::NAN);
            (sample.label("worker_pid").to_owned(), age)
        })
        .collect()
}

/// A master forks its workers one after the other, so later ones have higher pids.
fn started_in_order(server: &GunicornServer) -> BTreeMap<String, f64> {
    let mut workers = server.workers();
    workers.sort_unstable();
    let ages = [1.0, 2.0].into_iter();
    workers.iter().map(ToString::to_string).zip(ages).collect()
}

#[test]
fn the_container_of_a_master_is_in_list_and_metrics() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let builder = Builder::new(&Venv::debian()?, "raw:app");
    let inside = builder.clone().in_container(Container::Runc).start()?;
    let outside = builder.start()?;
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", inside.pid()))?;
    let id = cgroup
        .split_once("/docker-")
        .and_then(|(_, rest)| rest.split_once(".scope"))
        .with_context(|| format!("runc made other control groups: {cgroup}"))?
        .0;

    let listed = observer::output(["list", "--json"])?;
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed.stdout)?;
    let of = |server: &GunicornServer| {
        let row = listed.iter().find(|row| row["pid"] == server.pid());
        row.map(|row| {
            (
                row["container_id"].clone(),
                row["container_runtime"].clone(),
            )
        })
    };
    let (found_id, runtime) = of(&inside).context("the container is not listed")?;
    ensure!(
        found_id == id && runtime == "docker",
        "{found_id} {runtime}"
    );
    let (none, _) = of(&outside).context("the master outside is not listed")?;
    ensure!(none.is_null(), "outside of a container: {none}");
    let shown = String::from_utf8(observer::output(["list"])?.stdout)?;
    ensure!(
        shown.contains(&format!("container docker {id}\n")),
        "{shown}"
    );

    let observer = Observer::run()?;
    let metrics = observer.scrape()?;
    let info = metrics.sum_by(
        "gunicorn_master_container_info",
        &[],
        &["master_pid", "container_id", "container_runtime", "pod_uid"],
    );
    let pid = inside.pid().to_string();
    let expected = [pid.as_str(), id, "docker", ""].map(str::to_owned).to_vec();
    compare::equal("containers", &info, &compare::counted([expected]))?;
    observer.stop()?;
    Ok(())
}
