//! Dirty pools of Gunicorn 25 and later: a dirty arbiter and its workers below a master.

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::Request,
    dirty_pool::{self, DIRTY_WORKERS, WORKERS},
    metrics::Metrics,
    observer::Observer,
    process, skip, wait,
    worker_exits::Event,
};
use nix::sys::signal::Signal;

fn live(metrics: &Metrics, master: u32, role: &str) -> f64 {
    let labels = [("master_pid", &*master.to_string()), ("role", role)];
    metrics.sum("gunicorn_dirty_workers", &labels)
}

/// Waits until the whole pool is known, and nothing of it counts as a worker of the master.
fn wait_for_pool(observer: &Observer, master: u32) -> Result<()> {
    let pid = master.to_string();
    let labels = [("master_pid", pid.as_str())];
    observer.wait_until("the dirty pool to be known", |metrics| {
        let workers = metrics.sum("gunicorn_master_workers", &labels);
        live(metrics, master, "arbiter") == 1.0
            && live(metrics, master, "worker") == DIRTY_WORKERS as f64
            && workers == WORKERS as f64
    })?;
    Ok(())
}

/// The exits of the dirty pool, once there are so many.
fn exits(observer: &Observer, master: u32, count: usize) -> Result<Vec<Event>> {
    wait::until(format!("{count} exits of the dirty pool"), || {
        let mut events = observer.events(master)?;
        events.retain(|it| it.event == "dirty_worker_ended");
        Ok((events.len() >= count).then_some(events))
    })
}

fn check(observer: &Observer, event: &Event, role: &str, reason: &str) -> Result<()> {
    ensure!(event.reason.as_deref() == Some(reason), "{event:#?}");
    let class = match role {
        "arbiter" => "DirtyArbiter",
        _ => "DirtyWorker",
    };
    ensure!(event.worker_class == class, "{event:#?}");
    let master = event.master_pid.to_string();
    let labels = [("master_pid", &*master), ("role", role), ("reason", reason)];
    let metrics = observer.scrape()?;
    let counted = metrics.sum("gunicorn_dirty_worker_exits_total", &labels);
    ensure!(counted == 1.0, "{role} {reason}: counted {counted} times");
    Ok(())
}

#[test]
fn exits_of_a_dirty_pool_are_reported_with_their_reasons() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut server = dirty_pool::builder()?.start_listening()?;
    let arbiter = dirty_pool::arbiter(&server)?;
    let master = server.pid();
    // The pool is older than the observer.
    let observer = Observer::run_for(&[master])?;
    wait_for_pool(&observer, master)?;
    let answer = server.fetch(&Request::get("/add"))?;
    ensure!(answer.body == b"3", "{answer:?}");

    server.fetch(&Request::get("/die"))?;
    let crash = exits(&observer, master, 1)?.pop().context("none")?;
    check(&observer, &crash, "worker", "crash")?;
    ensure!(crash.exit_signal == Some(11), "{crash:#?}");
    // One that follows is known from its first instruction.
    wait_for_pool(&observer, master)?;

    // Its event loop beats, so only a worker whose threads all stand still times out.
    let hanging = process::children(arbiter);
    process::signal(*hanging.first().context("none left")?, Signal::SIGSTOP)?;
    let timeout = exits(&observer, master, 2)?.pop().context("none")?;
    check(&observer, &timeout, "worker", "timeout")?;
    let by_arbiter = |sent: &end_to_end::worker_exits::Sent| {
        sent.signal == "ABRT" && sent.sender_pid == Some(arbiter)
    };
    ensure!(timeout.signals.iter().any(by_arbiter), "{timeout:#?}");
    wait_for_pool(&observer, master)?;

    let orphans = process::children(arbiter);
    process::signal(arbiter, Signal::SIGKILL)?;
    let crash = exits(&observer, master, 3)?.pop().context("none")?;
    check(&observer, &crash, "arbiter", "crash")?;
    // They would stay for ever.
    for orphan in orphans {
        process::signal(orphan, Signal::SIGKILL)?;
    }
    exits(&observer, master, 3 + DIRTY_WORKERS)?;
    // The master starts another one.
    wait_for_pool(&observer, master)?;
    ensure!(dirty_pool::arbiter(&server)? != arbiter, "not killed");

    let before = exits(&observer, master, 0)?.len();
    server.end()?;
    let events = exits(&observer, master, before + 1 + DIRTY_WORKERS)?;
    for event in &events[before..] {
        let is_shutdown = event.reason.as_deref() == Some("shutdown");
        ensure!(is_shutdown, "the master was stopped: {event:#?}");
    }
    // No exit of the pool is one of a worker.
    let workers = observer.wait_for_ends(master, WORKERS)?;
    ensure!(workers.len() == WORKERS, "{workers:#?}");
    observer.stop()?;
    Ok(())
}
