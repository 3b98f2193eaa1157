//! Other processes pay for a system-call tracepoint only while some Gunicorn needs one: at a Unix socket.

use anyhow::{Result, ensure};
use end_to_end::{
    backend,
    client::{Client, Request},
    gunicorn::{Builder, GunicornServer},
    metrics::Metrics,
    observer::{self, Observer},
    skip,
    venv::Venv,
};

const ATTACHMENTS: &str = "gunicorn_observer_program_attachments";

/// The attached programs on system calls, which have the names of their tracepoints.
fn on_system_calls(metrics: &Metrics) -> Vec<String> {
    let is_call = |name: &&str| name.starts_with("enter_") || name.starts_with("exit_");
    metrics
        .all(ATTACHMENTS, &[])
        .filter(|sample| sample.value > 0.0)
        .map(|sample| sample.label("program"))
        .filter(is_call)
        .map(str::to_owned)
        .collect()
}

/// Whether nothing can be shown here.
fn is_skipped() -> Result<bool> {
    if skip::privileged()? {
        return Ok(true);
    }
    if !backend::has_taps()? {
        skip::unless_ci("this kernel has no tracepoints of sockets")?;
        return Ok(true);
    }
    Ok(false)
}

fn served(server: &GunicornServer, observer: &Observer, count: usize) -> Result<Metrics> {
    let hello = Request::get("/hello").header("Connection", "close");
    let status = server.fetch(&hello)?.status;
    ensure!(status == 200 || status == 404, "{status}");
    observer.wait_for_requests(server.pid(), count)
}

#[test]
fn none_while_all_gunicorns_listen_on_tcp() -> Result<()> {
    if is_skipped()? {
        return Ok(());
    }
    let venv = Venv::debian()?;
    // The last ones are observed by their connections.
    let apps = [
        ("sync", "raw:app"),
        ("gthread", "raw:app"),
        ("gevent", "raw:app"),
        ("eventlet", "raw:app"),
        ("tornado", "raw:app"),
        ("uvicorn_worker.UvicornWorker", "asgi_shop:app"),
    ];
    let servers = apps.map(|(class, app)| {
        let server = Builder::new(&venv, app).class(class);
        server.threads(2).start()
    });
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let pids: Vec<_> = servers.iter().map(GunicornServer::pid).collect();
    let observer = Observer::run_for(&pids)?;
    for server in &servers {
        let attached = on_system_calls(&served(server, &observer, 1)?);
        ensure!(
            attached.is_empty(),
            "{}: {attached:?}",
            server.worker_class()
        );
    }
    observer.stop()?;
    Ok(())
}

#[test]
fn while_a_gunicorn_listens_at_a_unix_socket() -> Result<()> {
    if is_skipped()? {
        return Ok(());
    }
    let venv = Venv::debian()?;
    let tcp = Builder::new(&venv, "raw:app").start()?;
    let mut unix = Builder::new(&venv, "raw:app").unix().start()?;
    let observer = Observer::run_for(&[tcp.pid(), unix.pid()])?;
    observer.wait_until("programs on system calls", |metrics| {
        !on_system_calls(metrics).is_empty()
    })?;
    let answer = Client::connect_unix(&unix.unix_socket())?
        .request(&Request::get("/hello").header("Connection", "close"))?;
    ensure!(answer.status == 200);
    let metrics = observer.wait_for_requests(unix.pid(), 1)?;
    let queued = [("phase", "queue")];
    ensure!(metrics.sum("gunicorn_request_phase_seconds_count", &queued) == 1.0);
    ensure!(!on_system_calls(&metrics).is_empty());
    unix.end()?;
    observer.wait_until("none after it", |metrics| {
        on_system_calls(metrics).is_empty()
    })?;
    served(&tcp, &observer, 1)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn none_at_all_with_probes_at_entry_and_exit_only() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app").start()?;
    let arguments = [
        format!("--pid={}", server.pid()),
        "--probes=entry-exit".to_owned(),
    ];
    let observer = Observer::start_with(&observer::binary()?, false, arguments)?;
    let metrics = served(&server, &observer, 1)?;
    let attached = on_system_calls(&metrics);
    ensure!(attached.is_empty(), "{attached:?}");
    let is_socket = |name: &&str| name.starts_with("socket_") || name.starts_with("connection_");
    let on_sockets: Vec<_> = metrics
        .all(ATTACHMENTS, &[])
        .filter(|sample| sample.value > 0.0)
        .map(|sample| sample.label("program"))
        .filter(is_socket)
        .collect();
    ensure!(on_sockets.is_empty(), "{on_sockets:?}");
    observer.stop()?;
    Ok(())
}
