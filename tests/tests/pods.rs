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
    api_server::{ApiServer, NODE},
    compare,
    container::{Container, Identity, OWN_NAME, pod_names},
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

/// The pod's own root does not have the name of its container.
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
fn the_links_of_a_nodes_logs_have_the_name_of_a_container() -> Result<()> {
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

/// The container whose id has this digit only, in a pod.
fn in_pod(pod_uid: &'static str, digit: &str) -> Result<GunicornServer> {
    let container_id: &'static str = Box::leak(digit.repeat(64).into_boxed_str());
    let identity = Identity {
        pod_uid,
        container_id,
    };
    Builder::new(&Venv::debian()?, "raw:app")
        .in_container(Container::PodOf(identity))
        .start()
}

/// Waits until a master's series have these labels, and its container this workload.
fn is_called(
    observer: &Observer,
    server: &GunicornServer,
    labels: &[(&str, &str)],
    workload: (&str, &str),
) -> Result<()> {
    let pid = server.pid().to_string();
    let master = [("master_pid", pid.as_str())];
    let all = [&master, labels].concat();
    let kind = [("workload_kind", workload.0), ("workload", workload.1)];
    let info = [&all[..], &kind].concat();
    observer.wait_until(&format!("{all:?} of {workload:?}"), |metrics| {
        metrics
            .all("gunicorn_master_workers", &all)
            .next()
            .is_some()
            && metrics
                .all("gunicorn_master_container_info", &info)
                .next()
                .is_some()
    })?;
    Ok(())
}

#[test]
fn the_api_server_says_what_pods_are_called_and_whose_they_are() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let cluster = ApiServer::play_node()?;
    let web = in_pod(cluster.uid("web-")?, "1")?;
    let reports = in_pod(cluster.uid("reports-")?, "2")?;
    // kubelet knows a static pod by a hash, which the API server has in an annotation.
    let mirrored = in_pod("0f3c5b7de1a94c2f8e6d10325476ba98", "3")?;
    let observer = Observer::run_in_cluster(NODE, &cluster.config()?, &[])?;

    let known = [
        ("namespace", "shop"),
        ("node", NODE),
        ("container", "gunicorn"),
    ];
    is_called(&observer, &web, &known, ("Deployment", "web"))?;
    let named = [("pod", "mirrored-node-1")];
    is_called(
        &observer,
        &mirrored,
        &[&known[..], &named].concat(),
        ("", ""),
    )?;
    // Its container is not known yet; then it is.
    let named = [("pod", "reports-0"), ("container", "")];
    let reports_is = ("StatefulSet", "reports");
    is_called(
        &observer,
        &reports,
        &[&known[..2], &named].concat(),
        reports_is,
    )?;
    // What happened first came in two pieces.
    cluster.go_on(2);
    is_called(
        &observer,
        &reports,
        &[&known[..], &named[..1]].concat(),
        reports_is,
    )?;
    for server in [&web, &reports, &mirrored] {
        ask(server, "/hello", REQUESTS)?;
        let metrics = observer.wait_for_requests(server.pid(), REQUESTS)?;
        let own: Vec<_> = metrics
            .all(FAMILIES[0], &[("namespace", OWN_NAME)])
            .collect();
        ensure!(own.is_empty(), "{own:?}");
    }
    // The first pod was deleted and its Deployment made another: all that was recorded.
    cluster.go_on(100);
    observer.wait_until("the pods that there are", |metrics| {
        let pods = metrics.sum("gunicorn_observer_kubernetes_pods", &[]);
        (pods - 3.0).abs() < 0.5
    })?;
    cluster.check()?;
    let said = observer.stop()?.stderr;
    ensure!(!said.contains("WARN"), "{said}");
    Ok(())
}

#[test]
fn an_api_server_that_refuses_is_logged_once_and_harms_nothing() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let cluster = ApiServer::play_denied()?;
    let server = pod(78)?;
    let observer = Observer::run_in_cluster(NODE, &cluster.config()?, &[])?;
    observer.wait_until("two refusals", |metrics| {
        metrics.sum("gunicorn_observer_kubernetes_errors_total", &[]) > 1.5
    })?;
    ask(&server, "/hello", REQUESTS)?;
    // As the node reports it.
    named(&observer, 78, &server)?;
    cluster.check()?;
    let said = observer.stop()?.stderr;
    let logged = said.matches("may not list and watch pods").count();
    ensure!(logged == 1, "logged {logged} times:\n{said}");
    Ok(())
}
