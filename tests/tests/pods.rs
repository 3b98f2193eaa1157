//! Gunicorns in pods, as kubelet and containerd start them on a node.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use end_to_end::{
    compare,
    container::{Container, pod_names},
    gunicorn::{Builder, GunicornServer},
    load::ask,
    metrics::Metrics,
    observer::{self, Observer},
    skip,
    venv::Venv,
};

const PODS: u32 = 10;
const REQUESTS: usize = 5;
/// Where kubelet links the logs of containers.
const LINKS: &str = "/var/log/containers";

/// The family of each kind: of workers, of an app, and of a master.
const FAMILIES: [&str; 3] = [
    "gunicorn_worker_requests_total",
    "gunicorn_request_phase_seconds_count",
    "gunicorn_master_workers",
];

fn pod(number: u32) -> Result<GunicornServer> {
    Builder::new(&Venv::debian()?, "raw:app")
        .in_container(Container::Pod(number))
        .start()
}

#[test]
fn each_series_of_a_pod_names_it_also_while_pods_come_and_go() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let observer = Observer::run()?;
    let mut pods = (0..PODS).map(pod).collect::<Result<Vec<_>>>()?;
    for server in &pods {
        ask(server, "/hello", REQUESTS)?;
    }
    for (number, server) in (0..).zip(&pods) {
        named(&observer, number, server)?;
    }
    // Those that stay are busy while others are deleted, and others come in their place.
    let stays = pods.remove(0);
    let is_over = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut times = 1;
            while !is_over.load(Ordering::Relaxed) {
                ask(&stays, "/hello", REQUESTS)?;
                times += 1;
            }
            anyhow::Ok(times)
        });
        let replaced = (0..3).try_for_each(|number| {
            drop(pods.pop());
            let new = pod(PODS + number)?;
            ask(&new, "/hello", REQUESTS)?;
            named(&observer, PODS + number, &new)?;
            pods.insert(0, new);
            anyhow::Ok(())
        });
        is_over.store(true, Ordering::Relaxed);
        let times = busy.join().map_err(|_| anyhow!("the load panicked"))??;
        replaced.map(|()| times)
    })?;
    let metrics = observer.wait_for_requests(stays.pid(), times * REQUESTS)?;
    compare::nothing_lost(&metrics)?;
    observer.stop()?;
    Ok(())
}

/// The pod's own root does not tell what its container is called.
fn named(observer: &Observer, number: u32, server: &GunicornServer) -> Result<()> {
    let metrics = observer.wait_for_requests(server.pid(), REQUESTS)?;
    let (namespace, name) = pod_names(number);
    let pod = [("namespace", namespace.as_str()), ("pod", name.as_str())];
    for family in FAMILIES {
        let series: Vec<_> = metrics.all(family, &pod).collect();
        ensure!(!series.is_empty(), "no {family} of {pod:?}");
    }
    let master = server.pid().to_string();
    let its = [("master_pid", master.as_str()), pod[0], pod[1]];
    let count = |labels: &[(&str, &str)]| metrics.sum(FAMILIES[0], labels);
    let (of_pod, of_master) = (count(&its), count(&its[..1]));
    ensure!(
        (of_pod - of_master).abs() < 0.5 && of_pod > 0.5,
        "{of_pod} of {of_master} requests name the pod {name}"
    );
    Ok(())
}

/// The link of a container's log; removed when dropped.
struct Link(PathBuf);

impl Link {
    fn make(number: u32, container_id: &str) -> Result<Self> {
        fs::create_dir_all(LINKS).with_context(|| format!("cannot make {LINKS}"))?;
        let (namespace, name) = pod_names(number);
        let link = format!("{name}_{namespace}_web-{container_id}.log");
        let path = Path::new(LINKS).join(link);
        symlink("/var/log/pods/nowhere", &path).context("cannot link a log")?;
        Ok(Self(path))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn the_links_of_a_nodes_logs_tell_what_a_container_is_called() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = pod(77)?;
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", server.pid()))?;
    let id = cgroup.trim_end().rsplit(':').next().context("no id")?;
    let _link = Link::make(77, id)?;
    let (namespace, name) = pod_names(77);

    let listed = observer::output(["list", "--json"])?;
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed.stdout)?;
    let row = listed.iter().find(|row| row["pid"] == server.pid());
    let row = row.context("the pod is not listed")?;
    ensure!(
        row["namespace"] == namespace && row["pod"] == name && row["container"] == "web",
        "{row:#}"
    );
    let shown = String::from_utf8(observer::output(["list"])?.stdout)?;
    ensure!(
        shown.contains(&format!("in pod {namespace}/{name}/web\n")),
        "{shown}"
    );

    let observer = Observer::run()?;
    ask(&server, "/hello", REQUESTS)?;
    let metrics: Metrics = observer.wait_for_requests(server.pid(), REQUESTS)?;
    let labels = [
        ("namespace", &*namespace),
        ("pod", &*name),
        ("container", "web"),
    ];
    for family in FAMILIES {
        ensure!(metrics.all(family, &labels).next().is_some(), "no {family}");
    }
    observer.stop()?;
    Ok(())
}
