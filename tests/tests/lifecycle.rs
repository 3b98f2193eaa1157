//! Masters and workers start and exit; no request is missed, not even a worker's first.

use std::{collections::BTreeMap, thread};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    access_log::Line,
    client::{Request, fetch},
    compare,
    gunicorn::{Builder, GunicornServer},
    load::Load,
    metrics::Metrics,
    observer::Observer,
    process, skip,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;

/// Requests after which every worker must have had one.
const FAIR: usize = 5000;

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
    compare::workers(&metrics, server, &logged)?;
    compare::nothing_lost(&metrics)
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

/// Sends until each of these workers has logged a request, its first among them.
fn send_until_each_served(server: &GunicornServer, workers: &[u32]) -> Result<usize> {
    let mut sent = 0;
    loop {
        let logged = server.wait_for_access_log(sent)?;
        let served = |worker: &u32| logged.iter().any(|line: &Line| line.pid == *worker);
        if workers.iter().all(served) {
            return Ok(sent);
        }
        ensure!(sent < FAIR, "of {workers:?} some served none of {sent}");
        send(server, 20)?;
        sent = logged.len() + 20;
    }
}

#[test]
fn an_observer_started_first_finds_a_new_master() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let observer = Observer::run()?;
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .workers(2)
        .start_listening()?;
    // The first of these come before there is a worker.
    send(&server, 50)?;
    check(&observer, &server, 50)?;
    observer.stop()?;
    Ok(())
}

/// The interpreter has been read before, for another master: nothing is left to be late with.
#[test]
fn a_new_master_under_a_known_interpreter_is_counted_from_its_first_request() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let venv = Venv::debian()?;
    let known = Builder::new(&venv, "raw:app").start()?;
    let observer = Observer::run()?;
    observer.wait_until("the first master to be found", |metrics| {
        metrics.knows_master(known.pid())
    })?;
    let server = Builder::new(&venv, "raw:app")
        .workers(2)
        .start_listening()?;
    send(&server, 50)?;
    check(&observer, &server, 50)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn an_observer_started_last_counts_from_then_on() -> Result<()> {
    if skip::privileged()? {
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
    compare::workers(&metrics, &server, &logged[before..])?;
    observer.stop()?;
    Ok(())
}

#[test]
fn a_worker_named_on_the_command_line_means_its_master() -> Result<()> {
    if skip::privileged()? {
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
fn two_masters_are_distinguished() -> Result<()> {
    if skip::privileged()? {
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
fn sync_workers_are_counted_from_their_first_request_after_a_reload() -> Result<()> {
    reloads("sync", 5)
}

#[test]
fn gthread_workers_are_counted_from_their_first_request_after_a_reload() -> Result<()> {
    reloads("gthread", 2)
}

#[test]
fn gevent_workers_are_counted_from_their_first_request_after_a_reload() -> Result<()> {
    reloads("gevent", 2)
}

fn reloads(class: &str, times: usize) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut server = two_workers(class)?.start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let mut answered = 0;
    for _ in 0..times {
        let old = server.workers();
        server.signal(Signal::SIGHUP)?;
        // Requests come while the workers are replaced: to a new one from the moment it can take
        // one. An old one that takes its leave may close a connection it has accepted.
        wait::until("every worker to be a new one and to have served", || {
            answered += hello(4).run(server.port).answered();
            let workers = server.workers();
            let is_renewed =
                workers.len() == old.len() && !workers.iter().any(|worker| old.contains(worker));
            let logged = server.access_log()?;
            let served = |worker: &u32| logged.iter().any(|line| line.pid == *worker);
            Ok((is_renewed && workers.iter().all(served)).then_some(()))
        })?;
        server.wait_for_workers(2)?;
    }
    server.wait_for_access_log(answered)?;
    compare::all_logged(&observer, &server, &[server.as_master()])?;
    observer.stop()?;
    Ok(())
}

fn two_workers(class: &str) -> Result<Builder> {
    let threads = if class == "gthread" { 2 } else { 1 };
    Ok(Builder::new(&Venv::debian()?, "raw:app")
        .class(class)
        .threads(threads)
        .workers(2))
}

#[test]
fn workers_that_are_added_and_removed_are_counted() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut server = Builder::new(&Venv::debian()?, "raw:app")
        .workers(1)
        .start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    send(&server, 20)?;
    server.signal(Signal::SIGTTIN)?;
    let workers = server.wait_for_workers(2)?;
    let sent = send_until_each_served(&server, &workers)?;
    server.signal(Signal::SIGTTOU)?;
    server.wait_for_workers(1)?;
    send(&server, 20)?;
    check(&observer, &server, sent + 20)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn sync_workers_that_end_after_max_requests_are_counted_whole() -> Result<()> {
    max_requests("sync", &[])
}

#[test]
fn gthread_workers_that_end_after_max_requests_are_counted_whole() -> Result<()> {
    max_requests("gthread", &[])
}

#[test]
fn gevent_workers_that_end_after_max_requests_are_counted_whole() -> Result<()> {
    max_requests("gevent", &[])
}

#[test]
fn workers_forked_with_the_application_in_them_are_counted_whole_too() -> Result<()> {
    max_requests("sync", &["--preload"])
}

fn max_requests(class: &str, arguments: &[&str]) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let builder = two_workers(class)?.max_requests(5);
    let builder = arguments.iter().copied().fold(builder, Builder::argument);
    let server = builder.start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let mut answered = 0;
    wait::until("six workers to have come and served", || {
        let tally = hello(20).run(server.port);
        // A worker that takes its leave may close a connection it has accepted; a sync worker
        // answers it first.
        ensure!(
            class != "sync" || tally.failures.is_empty(),
            "requests failed: {:?}",
            tally.failures
        );
        answered += tally.answered();
        let workers = compare::counted(server.access_log()?.iter().map(|line| line.pid));
        Ok((workers.len() >= 6).then_some(()))
    })?;
    server.wait_for_access_log(answered)?;
    compare::all_logged(&observer, &server, &[server.as_master()])?;
    observer.stop()?;
    Ok(())
}

/// Entries of each map.
fn entries(metrics: &Metrics) -> BTreeMap<Vec<String>, f64> {
    metrics.sum_by("gunicorn_observer_map_entries", &[], &["map"])
}

#[test]
fn a_worker_killed_in_a_request_is_replaced_and_counting_goes_on() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut server = Builder::new(&Venv::debian()?, "raw:app").start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    send(&server, 5)?;
    let metrics = observer.wait_for_requests(server.pid(), 5)?;
    let before = entries(&metrics);
    let worker = server.workers()[0];
    let port = server.port;
    let slow = thread::spawn(move || fetch(port, &Request::get("/slow?seconds=20")));
    wait::until("the worker to sleep in a request", || {
        Ok(process::sleeps(worker).then_some(()))
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
    let logged = server.wait_for_access_log(10)?;
    // Beside those of the log the one that ended with its worker.
    let metrics = observer.wait_for_requests(server.pid(), 11)?;
    compare::workers(&metrics, &server, &logged)?;
    compare::nothing_lost(&metrics)?;
    observer.wait_until("the killed worker's state to be freed", |metrics| {
        entries(metrics) == before
    })?;
    observer.stop()?;
    Ok(())
}

#[test]
fn a_master_killed_in_a_request_leaves_nothing_in_the_observer() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let attachments = |metrics: &Metrics| {
        metrics.sum(
            "gunicorn_observer_program_attachments",
            &[("program", "datetime_now")],
        )
    };
    let others = process::gunicorns();
    ensure!(others.is_empty(), "others run here: {others:?}");
    let observer = Observer::run()?;
    let at_first = observer.scrape()?;
    let mut server = two_workers("gthread")?.start()?;
    observer.wait_until("the master to be found", |metrics| {
        metrics.knows_master(server.pid())
    })?;
    send(&server, 20)?;
    let workers = server.workers();
    let during = observer.wait_for_requests(server.pid(), 20)?;
    ensure!(
        attachments(&during) > attachments(&at_first),
        "attached to nothing"
    );
    let port = server.port;
    let slow = thread::spawn(move || fetch(port, &Request::get("/slow?seconds=3")));
    wait::until("a worker to sleep in a request", || {
        Ok(workers
            .iter()
            .any(|worker| process::sleeps(*worker))
            .then_some(()))
    })?;
    server.kill()?;
    // The workers see that they have no master any more, finish what they do, and end.
    wait::until("the orphans to end", || {
        let is_left = workers.iter().any(|worker| process::is_alive(*worker));
        Ok((!is_left).then_some(()))
    })?;
    // Answered or not: that is Gunicorn's affair.
    let _ = slow.join();
    observer
        .wait_until("the observer to hold no more than at first", |metrics| {
            entries(metrics) == entries(&at_first) && attachments(metrics) == attachments(&at_first)
        })
        .with_context(|| format!("at first: {:?}", entries(&at_first)))?;
    observer.stop()?;
    Ok(())
}
