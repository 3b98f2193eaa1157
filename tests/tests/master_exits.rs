//! Exits of masters: each is provoked for real, and reported once, with its reason.

use std::process;

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    boot::Boot,
    gunicorn::{Builder, GunicornServer},
    metrics::Metrics,
    observer::Observer,
    skip,
    venv::Venv,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

fn server() -> Result<Builder> {
    Ok(Builder::new(&Venv::debian()?, "hangs:app"))
}

/// Exits of the masters of the app, by reason.
fn exits(metrics: &Metrics, reason: &str) -> f64 {
    let labels = [("app", "hangs:app"), ("reason", reason)];
    metrics.sum("gunicorn_master_exits_total", &labels)
}

/// A master that ends by `provoke` is reported with this reason, once; returns the event.
fn ends(
    observer: &Observer,
    server: &mut GunicornServer,
    reason: &str,
    provoke: impl Fn(&mut GunicornServer) -> Result<()>,
) -> Result<Value> {
    let master = server.pid();
    let found = |metrics: &Metrics| metrics.knows_master(master);
    observer.wait_until("the master to be found", found)?;
    let before = exits(&observer.scrape()?, reason);
    provoke(server).context("not provoked")?;
    let event = observer.wait_for_master_end(master)?;
    ensure!(event["reason"] == reason, "not {reason}: {event:#}");
    ensure!(event["app"] == "hangs:app", "of another app: {event:#}");
    let counted = exits(&observer.scrape()?, reason) - before;
    ensure!(counted == 1.0, "{reason} counted {counted} times");
    Ok(event)
}

#[test]
fn a_master_that_exits_is_reported_with_the_reason() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let observer = Observer::run()?;
    let by_us = |signal: &str| json!([{"signal": signal, "sender_pid": process::id()}]);

    let event = ends(&observer, &mut server()?.start()?, "quit", |server| {
        server.end().map(|_| ())
    })?;
    ensure!(event["exit_code"] == 0, "{event:#}");
    ensure!(event["restart_type"] == "graceful", "{event:#}");
    ensure!(event["signals"] == by_us("TERM"), "{event:#}");

    let event = ends(
        &observer,
        &mut server()?.start()?,
        "crash",
        GunicornServer::kill,
    )?;
    ensure!(event["exit_signal"] == 9, "{event:#}");
    ensure!(event["signals"] == by_us("KILL"), "{event:#}");

    let boot = Boot::new()?;
    let mut halts = boot.prepare(server()?).start()?;
    let event = ends(&observer, &mut halts, "boot_error", |server| {
        boot.say("raises")?;
        server.signal(Signal::SIGTTIN)?;
        server.ends_with(3)
    })?;
    ensure!(event["exit_code"] == 3, "{event:#}");
    ensure!(event["signals"] == json!([]), "{event:#}");
    observer.stop()?;
    Ok(())
}

#[test]
fn an_upgrade_ends_the_old_master_only() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let observer = Observer::run()?;
    let mut server = server()?.start()?;
    let old = server.pid();
    let event = ends(&observer, &mut server, "quit", |server| {
        let new = server.upgrade()?;
        observer.wait_until("the new master to be found", |metrics| {
            metrics.knows_master(new)
        })?;
        ensure!(observer.master_ends(old)?.is_empty(), "it runs on");
        server.hand_over(Signal::SIGTERM, new)
    })?;
    ensure!(event["master_pid"] == old, "{event:#}");
    // The child that executed the new program was no master before.
    ensure!(observer.master_ends(server.pid())?.is_empty());
    observer.stop()?;
    Ok(())
}
