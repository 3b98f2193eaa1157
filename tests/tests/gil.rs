//! Waits for the global interpreter lock, compared with the wall and CPU time that threads measure of
//! themselves.

use std::{thread, time::Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use end_to_end::{
    client::Request,
    gunicorn::{Builder, GunicornServer},
    metrics::Metrics,
    observer::{self, Observer},
    skip,
    venv::Venv,
};

const FAMILY: &str = "gunicorn_worker_gil_wait_seconds_total";
const THREADS: usize = 4;
/// What a request of `/burn` keeps the lock for.
const BURNT: f64 = 0.5;

/// Seconds that a request took, as the application measures it.
fn burn(server: &GunicornServer) -> Result<f64> {
    let response = server.fetch(&Request::get("/burn"))?;
    let body = String::from_utf8(response.body)?;
    body.parse().with_context(|| format!("no number: {body}"))
}

/// Seconds of a master's workers; `None` without a series.
fn waited(metrics: &Metrics, server: &GunicornServer) -> Option<f64> {
    let master = server.pid().to_string();
    let labels = [("master_pid", master.as_str())];
    metrics.all(FAMILY, &labels).next()?;
    Some(metrics.sum(FAMILY, &labels))
}

#[test]
fn threads_that_wait_for_each_other_are_distinguished_from_idle_ones() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for venv in Venv::all()? {
        let builder = Builder::new(&venv, "waits:app");
        let busy = builder.clone().class("gthread").threads(THREADS).start()?;
        let idle = builder.start()?;
        let arguments = [
            "--gil".to_owned(),
            format!("--pid={}", busy.pid()),
            format!("--pid={}", idle.pid()),
        ];
        let observer = Observer::start_with(&observer::binary()?, false, arguments)?;
        idle.fetch(&Request::get("/idle"))?;
        let begun = Instant::now();
        let took: Vec<f64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| burn(&busy))).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().map_err(|_| anyhow!("a client panicked"))?
            };
            threads.into_iter().map(join).collect::<Result<_>>()
        })?;
        let elapsed = begun.elapsed().as_secs_f64();
        observer.wait_for_requests(idle.pid(), 1)?;
        let metrics = observer.wait_for_requests(busy.pid(), THREADS)?;
        let measured: f64 = took.iter().map(|took| took - BURNT).sum();
        let observed = waited(&metrics, &busy).context("no series of the busy worker")?;
        let idle = waited(&metrics, &idle).context("no series of the idle worker")?;
        let all = format!(
            "{}: took {took:?}, observed {observed}, idle {idle}",
            venv.name()
        );
        ensure!(measured > BURNT, "{all}");
        // While the one that has the lock waits for a processor, only the others wait for the lock.
        ensure!(observed > 0.6 * measured, "{all}");
        // Threads wait also before their request is in the application, and the main thread for it:
        // at most all of them but the one that has the lock.
        #[expect(clippy::cast_precision_loss, reason = "four")]
        let most = elapsed * THREADS as f64;
        ensure!(observed < most, "{all}, not more than {most}");
        ensure!(idle < 0.01, "{all}");
        observer.stop()?;
    }
    Ok(())
}

#[test]
fn a_worker_that_is_forked_later_is_counted_too() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let builder = Builder::new(&Venv::debian()?, "waits:app").class("gthread");
    let observer = Observer::start_with(&observer::binary()?, false, ["--gil"])?;
    let server = builder.threads(THREADS).start()?;
    observer.wait_until("the worker", |metrics| waited(metrics, &server).is_some())?;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| burn(&server))).collect();
        threads.into_iter().all(|thread| thread.join().is_ok())
    });
    observer.wait_until("its waits", |metrics| {
        waited(metrics, &server).is_some_and(|seconds| seconds > BURNT / 2.0)
    })?;
    observer.stop()?;
    Ok(())
}

#[test]
fn nobody_who_does_not_ask_for_them_gets_them() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "waits:app").start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    server.fetch(&Request::get("/idle"))?;
    let metrics = observer.wait_for_requests(server.pid(), 1)?;
    ensure!(waited(&metrics, &server).is_none(), "{metrics:#?}");
    let attached = metrics.sum(
        "gunicorn_observer_program_attachments",
        &[("program", "enter_futex")],
    );
    ensure!(attached == 0.0, "{metrics:#?}");
    observer.stop()?;
    Ok(())
}
