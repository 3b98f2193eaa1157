//! What is not answered, whose client left first, and what is long on purpose.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    backend,
    client::{Client, Request},
    compare,
    gunicorn::{Builder, GunicornServer},
    observer::{self, Observer},
    skip,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;

const CLASSES: [&str; 3] = ["sync", "gthread", "gevent"];
const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";

fn server(class: &str) -> Result<GunicornServer> {
    let threads = if class == "gthread" { 2 } else { 1 };
    Builder::new(&Venv::debian()?, "endings:app")
        .class(class)
        .threads(threads)
        .start()
}

#[test]
fn a_client_that_leaves_before_the_response_is_counted() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for class in CLASSES {
        for backend in observer::backends()? {
            let server = server(class)?;
            let observer = Observer::record_by(backend, &[server.pid()])?;
            let mut leaves = Client::connect(server.port)?;
            leaves.ask(&Request::get("/slow"))?;
            // Its request is read before it leaves.
            thread::sleep(Duration::from_millis(300));
            drop(leaves);
            observer.wait_for_requests(server.pid(), 1)?;
            server.fetch(&Request::get("/slow"))?;
            let metrics = observer.wait_for_requests(server.pid(), 2)?;
            let count = metrics.sum("gunicorn_client_disconnects_total", &[]);
            let seconds = metrics.sum("gunicorn_client_gone_seconds_total", &[]);
            let as_wanted = count == 1.0 && (0.9..9.0).contains(&seconds);
            ensure!(as_wanted, "{class}, {backend:?}: {count}, {seconds} s");
            let errors = metrics.sum("gunicorn_http_errors_total", &[]);
            ensure!(errors == 0.0, "{class}, {backend:?}: {errors} errors");
        }
    }
    Ok(())
}

#[test]
fn a_response_that_breaks_off_after_its_head_is_an_error() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for class in CLASSES {
        let server = server(class)?;
        let observer = Observer::run_for(&[server.pid()])?;
        let mut client = Client::connect(server.port)?;
        client.ask(&Request::get("/torn"))?;
        client.rest()?;
        let metrics = observer.wait_for_requests(server.pid(), 1)?;
        let broken = metrics.sum(
            "http_server_request_duration_seconds_count",
            &[
                ("http_response_status_code", "200"),
                ("error_type", "response_incomplete"),
            ],
        );
        let errors = metrics.sum(
            "gunicorn_http_errors_total",
            &[("error_type", "RuntimeError"), ("status", "200")],
        );
        ensure!(
            (broken, errors) == (1.0, 1.0),
            "{class}: {broken} broken, {errors} errors"
        );
    }
    Ok(())
}

#[test]
fn a_stream_of_events_is_a_connection_and_no_slow_request() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for class in ["gthread", "gevent"] {
        for backend in observer::backends()? {
            let server = server(class)?;
            let observer = Observer::record_by(backend, &[server.pid()])?;
            let mut client = Client::connect(server.port)?;
            client.ask(&Request::get("/events"))?;
            observer.wait_until("the stream", |metrics| {
                let events = [("kind", "stream")];
                metrics.sum("gunicorn_worker_connections", &events) == 1.0
                    && metrics.sum("gunicorn_worker_requests_in_flight", &[]) == 0.0
            })?;
            client.response("GET")?;
            let metrics = observer.wait_for_requests(server.pid(), 1)?;
            let of = |family| metrics.sum(family, &[]);
            let latency = of("gunicorn_worker_request_duration_seconds_sum");
            ensure!(latency < 0.3, "{class}, {backend:?}: {latency} s");
            let streamed = of("gunicorn_stream_seconds_total");
            let count = of("gunicorn_streams_total");
            let as_wanted = count == 1.0 && (1.0..9.0).contains(&streamed);
            ensure!(as_wanted, "{class}, {backend:?}: {count}, {streamed} s");
        }
    }
    Ok(())
}

#[test]
fn connections_that_nobody_answers_are_lost_by_reason() -> Result<()> {
    if skip::privileged()? || !backend::has_taps()? {
        return Ok(());
    }
    let mut server = server("sync")?;
    let observer = Observer::run_for(&[server.pid()])?;
    let mut served = Client::connect(server.port)?;
    served.ask(&Request::get("/slow"))?;
    thread::sleep(Duration::from_millis(300));
    // The only worker is busy: these wait in the backlog, and the master is asked to stop meanwhile.
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(server.port)?;
        client.send(HELLO)?;
        waiting.push(client);
    }
    server.signal(Signal::SIGTERM)?;
    served.response("GET")?;
    let lost = |reason| {
        move |metrics: &end_to_end::metrics::Metrics| {
            metrics.sum("gunicorn_requests_lost_total", &[("reason", reason)])
        }
    };
    let metrics = observer.wait_until("the backlog", |metrics| lost("backlog")(metrics) > 0.0)?;
    let counts = ["backlog", "accepted", "read"].map(|reason| lost(reason)(&metrics));
    ensure!(counts == [3.0, 0.0, 0.0], "{counts:?}");
    let requests = metrics.sum("gunicorn_worker_requests_total", &[]);
    ensure!(requests == 1.0, "{requests} requests");
    server.ends_with(0)?;
    compare::nothing_lost(&metrics)
}

#[test]
fn connections_that_a_worker_accepts_and_does_not_serve_are_shown() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for backend in observer::backends()? {
        let server = server("gthread")?;
        let observer = Observer::record_by(backend, &[server.pid()])?;
        let mut clients = Vec::new();
        for _ in 0..6 {
            let mut client = Client::connect(server.port)?;
            client.ask(&Request::get("/slow"))?;
            clients.push(client);
        }
        observer
            .wait_until("those that wait for a thread", |metrics| {
                let waiting = ["accepted", "reading"]
                    .map(|stage| metrics.sum("gunicorn_connections_waiting", &[("stage", stage)]));
                let in_flight = metrics.sum("gunicorn_worker_requests_in_flight", &[]);
                waiting[0] + waiting[1] == 4.0 && in_flight == 2.0
            })
            .with_context(|| format!("{backend:?}"))?;
        for client in &mut clients {
            client.response("GET")?;
        }
        observer.wait_for_requests(server.pid(), 6)?;
    }
    Ok(())
}

#[test]
fn a_sync_worker_that_waits_for_a_silent_client_says_so() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = server("sync")?;
    let arguments = [
        format!("--pid={}", server.pid()),
        "--finding=stuck=1s".to_owned(),
    ];
    let observer = Observer::start_with(&observer::binary()?, false, arguments)?;
    let mut client = Client::connect(server.port)?;
    client.send(&HELLO[..9])?;
    let silent = [("finding", "client_silent")];
    let has = |metrics: &end_to_end::metrics::Metrics| metrics.sum("gunicorn_finding", &silent);
    observer.wait_until("the finding", |metrics| has(metrics) == 1.0)?;
    client.send(&HELLO[9..])?;
    client.response("GET")?;
    wait::until("its end", || {
        Ok((has(&observer.scrape()?) == 0.0).then_some(()))
    })
}
