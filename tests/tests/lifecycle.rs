//! Masters and workers come and go; no request is missed, not even a worker's first.

use std::{fs, thread};

use anyhow::{Result, ensure};
use end_to_end::{
    client::{Request, fetch},
    compare,
    gunicorn::{Builder, GunicornServer},
    load::Load,
    metrics::Metrics,
    observer::{self, Observer},
    process,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;

fn hello(requests: usize) -> Load {
    Load {
        requests,
        concurrency: 4,
        routes: vec![Request::get("/hello")],
    }
}

/// Everything the server logged was counted, for the right worker.
fn check(observer: &Observer, server: &GunicornServer, requests: usize) -> Result<()> {
    let logged = server.wait_for_access_log(requests)?;
    ensure!(
        logged.len() == requests,
        "{} requests logged, not {requests}",
        logged.len()
    );
    let metrics = observer.wait_for_requests(server.pid(), requests)?;
    compare::workers(&metrics, server.pid(), &logged)
}

fn send(server: &GunicornServer, requests: usize) -> Result<()> {
    let tally = hello(requests).run(server.port);
    ensure!(
        tally.failures.is_empty(),
        "requests failed: {:?}",
        tally.failures
    );
    Ok(())
}

#[test]
fn an_observer_started_first_finds_a_new_master() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    let observer = Observer::run()?;
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .workers(2)
        .start()?;
    observer.wait_until("the master to be found", |metrics| {
        metrics.knows_master(server.pid())
    })?;
    send(&server, 50)?;
    check(&observer, &server, 50)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn an_observer_started_last_counts_from_then_on() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .workers(2)
        .start()?;
    send(&server, 20)?;
    let before = server.wait_for_access_log(20)?.len();
    let observer = Observer::run_for(&[server.pid()])?;
    send(&server, 50)?;
    let logged = server.wait_for_access_log(before + 50)?;
    let metrics = observer.wait_for_requests(server.pid(), 50)?;
    compare::workers(&metrics, server.pid(), &logged[before..])?;
    observer.stop()?;
    Ok(())
}

#[test]
fn a_worker_named_on_the_command_line_means_its_master() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .workers(2)
        .start()?;
    let observer = Observer::run_for(&server.workers()[..1])?;
    send(&server, 50)?;
    check(&observer, &server, 50)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn two_masters_are_told_apart() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    let mut servers = Vec::new();
    for venv in Venv::all()? {
        servers.push(Builder::new(&venv, "raw:app").start()?);
    }
    servers.push(
        Builder::new(&Venv::debian()?, "raw:app")
            .class("gthread")
            .threads(2)
            .start()?,
    );
    let masters: Vec<_> = servers.iter().map(GunicornServer::pid).collect();
    let observer = Observer::run_for(&masters)?;
    for (number, server) in servers.iter().enumerate() {
        send(server, 10 * (number + 1))?;
    }
    for (number, server) in servers.iter().enumerate() {
        check(&observer, server, 10 * (number + 1))?;
    }
    observer.stop()?;
    Ok(())
}

#[test]
fn the_first_request_after_a_reload_is_counted() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    let mut server = Builder::new(&Venv::debian()?, "raw:app")
        .workers(2)
        .start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let mut sent = 0;
    for _ in 0..5 {
        let old = server.workers();
        server.signal(Signal::SIGHUP)?;
        // The first request comes as soon as a new worker can take it. Until then it may reach an
        // old one; either way it is counted.
        let mut renewed = false;
        while !renewed {
            ensure!(sent < 100_000, "the workers are not replaced");
            let answer = fetch(server.port, &Request::get("/hello"))?;
            ensure!(answer.status == 200, "answered {}", answer.status);
            sent += 1;
            renewed = !server.workers().iter().any(|worker| old.contains(worker));
        }
        server.wait_for_workers(2)?;
    }
    check(&observer, &server, sent)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn workers_that_are_added_and_removed_are_counted() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    let mut server = Builder::new(&Venv::debian()?, "raw:app")
        .workers(1)
        .start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    send(&server, 20)?;
    server.signal(Signal::SIGTTIN)?;
    server.wait_for_workers(2)?;
    send(&server, 40)?;
    server.signal(Signal::SIGTTOU)?;
    server.wait_for_workers(1)?;
    send(&server, 20)?;
    check(&observer, &server, 80)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn workers_that_end_after_max_requests_are_counted_whole() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .workers(2)
        .max_requests(5)
        .start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    for _ in 0..100 {
        ensure!(fetch(server.port, &Request::get("/hello"))?.status == 200);
    }
    check(&observer, &server, 100)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn a_worker_killed_in_a_request_is_replaced_and_counting_goes_on() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    let mut server = Builder::new(&Venv::debian()?, "raw:app").start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    send(&server, 5)?;
    let metrics = observer.wait_for_requests(server.pid(), 5)?;
    let entries =
        |metrics: &Metrics| metrics.sum_by("gunicorn_observer_map_entries", &[], &["map"]);
    let before = entries(&metrics);
    let worker = server.workers()[0];
    let port = server.port;
    let slow = thread::spawn(move || fetch(port, &Request::get("/slow?seconds=20")));
    wait::until("the worker to sleep in a request", || {
        // clock_nanosleep, on x86-64 and aarch64.
        let call = fs::read_to_string(format!("/proc/{worker}/syscall")).unwrap_or_default();
        Ok((call.starts_with("230 ") || call.starts_with("115 ")).then_some(()))
    })?;
    process::signal(worker, Signal::SIGKILL)?;
    ensure!(
        slow.join().is_ok_and(|answer| answer.is_err()),
        "the killed worker answered"
    );
    wait::until("the killed worker to be replaced", || {
        Ok((!server.workers().contains(&worker)).then_some(()))
    })?;
    server.wait_for_workers(1)?;
    send(&server, 5)?;
    check(&observer, &server, 10)?;
    observer.wait_until("the killed worker's state to be freed", |metrics| {
        entries(metrics) == before
    })?;
    observer.stop()?;
    Ok(())
}
