//! The phases of a request, and metrics of the application as a whole.

use std::thread;

use anyhow::{Result, ensure};
use end_to_end::{
    client::{Request, fetch},
    gunicorn::Builder,
    observer::Observer,
    process, skip,
    venv::Venv,
    wait,
};

/// How long the one worker is held.
const HELD_SECONDS: f64 = 1.0;

#[test]
fn a_request_that_waits_for_a_busy_worker_has_waited_in_the_queue() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app").start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let port = server.port;
    let holding = thread::spawn(move || {
        let request = Request::get(&format!("/slow?seconds={HELD_SECONDS}"));
        fetch(port, &request)
    });
    let worker = server.workers()[0];
    wait::until("the worker to sleep in a request", || {
        Ok(process::sleeps(worker).then_some(()))
    })?;
    ensure!(fetch(port, &Request::get("/hello"))?.status == 200);
    ensure!(
        holding
            .join()
            .is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200)),
        "the slow request was not answered"
    );

    let metrics = observer.wait_for_requests(server.pid(), 2)?;
    let phase = |part: &str, phase: &str| {
        let labels = [("worker_class", "SyncWorker"), ("phase", phase)];
        metrics.sum(&format!("gunicorn_request_phase_seconds_{part}"), &labels)
    };
    ensure!(phase("count", "queue") == 2.0, "{metrics:#?}");
    ensure!(phase("sum", "queue") >= HELD_SECONDS / 2.0, "{metrics:#?}");
    ensure!(phase("count", "app") == 2.0, "{metrics:#?}");
    ensure!(phase("sum", "app") >= HELD_SECONDS, "{metrics:#?}");
    observer.stop()?;
    Ok(())
}

#[test]
fn an_application_is_described() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .class("gthread")
        .threads(3)
        .workers(2)
        .argument("--timeout")
        .argument("47")
        .start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let master = server.pid().to_string();
    let bind = format!("127.0.0.1:{}", server.port);
    let about = [
        ("app", "raw:app"),
        ("master_pid", master.as_str()),
        ("gunicorn_version", "23.0.0"),
        ("worker_class", "ThreadWorker"),
        ("workers", "2"),
        ("threads", "3"),
        ("timeout", "47"),
    ];
    let metrics = observer.wait_until("the workers to be known", |metrics| {
        metrics.sum("gunicorn_master_workers", &about[..2]) == 2.0
    })?;
    let info: Vec<_> = metrics.all("gunicorn_app_info", &about).collect();
    ensure!(
        info.len() == 1 && info[0].value == 1.0,
        "{:#?}",
        metrics.all("gunicorn_app_info", &[]).collect::<Vec<_>>()
    );
    ensure!(
        info[0].label("python_version").starts_with("3.11"),
        "{info:?}"
    );
    ensure!(
        info[0].label("bind").starts_with("127.0.0.1:"),
        "bound to {bind}: {info:?}"
    );
    ensure!(metrics.sum("gunicorn_master_timeout_seconds", &about[..2]) == 47.0);
    observer.stop()?;
    Ok(())
}
