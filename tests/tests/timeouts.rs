//! Where a worker was stuck at its timeout: file, function, line and request.

use std::{collections::BTreeMap, thread};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::{Request, fetch},
    compare,
    gunicorn::{Builder, GunicornServer},
    matrix::{
        place::Place,
        product::{self, Cell},
    },
    metrics::Metrics,
    observer::Observer,
    process, skip, source, wait,
    worker_exits::{Event, Stack},
};
use nix::sys::signal::Signal;

/// An executable that is stripped, and libraries with symbols; old, middle and new.
const INTERPRETERS: [&str; 3] = ["pyenv-3.8", "debian-3.11", "pyenv-3.13"];
const GUNICORNS: [&str; 2] = ["23.0.0", "27.0.1"];
/// The master's `--timeout`. Workers send a heartbeat twice in this time: on a busy machine a shorter one
/// would abort healthy workers.
const TIMEOUT_SECONDS: u32 = 3;

/// Cells that are tried at once, each with an observer of its own.
const AT_A_TIME: usize = 2;

/// A request that hangs.
struct Hang {
    class: &'static str,
    target: &'static str,
    /// In `hangs.py`.
    function: &'static str,
    /// At the line it hangs in.
    marker: &'static str,
}

#[test]
fn a_sync_worker_that_sleeps_in_a_call_is_reported_with_its_line() -> Result<()> {
    every_cell(&Hang {
        class: "sync",
        target: "/sleep?s=600",
        function: "nap",
        marker: "stuck: sleep",
    })
}

#[test]
fn a_sync_worker_in_a_tight_loop_is_reported_with_its_line() -> Result<()> {
    every_cell(&Hang {
        class: "sync",
        target: "/loop",
        function: "spin",
        marker: "stuck: loop",
    })
}

/// The signal is never delivered.
#[test]
fn a_stopped_worker_is_reported_with_its_line() -> Result<()> {
    every_cell(&Hang {
        class: "sync",
        target: "/stop",
        function: "halt",
        marker: "stuck: stop",
    })
}

/// The signal comes to its main thread, which waits for the pool.
#[test]
fn a_pool_thread_that_waits_for_a_lock_is_reported_with_its_line() -> Result<()> {
    every_cell(&Hang {
        class: "gthread",
        target: "/lock",
        function: "wait_for_it",
        marker: "stuck: lock",
    })
}

#[test]
fn a_greenlet_that_blocks_its_hub_is_reported_with_its_line() -> Result<()> {
    every_cell(&Hang {
        class: "gevent",
        target: "/loop",
        function: "spin",
        marker: "stuck: loop",
    })
}

#[test]
fn a_green_thread_of_eventlet_that_blocks_its_hub_is_reported_with_its_line() -> Result<()> {
    every_cell(&Hang {
        class: "eventlet",
        target: "/loop",
        function: "spin",
        marker: "stuck: loop",
    })
}

fn every_cell(hang: &Hang) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let place = Place::find()?;
    let mut cells = Vec::new();
    for name in INTERPRETERS {
        let interpreter = product::interpreter_named(name)?;
        if !place.has(interpreter) {
            skip::unless_ci(&format!("no interpreter {name}: `cargo xtask setup`"))?;
            continue;
        }
        for gunicorn in GUNICORNS {
            let cell = Cell {
                interpreter,
                gunicorn,
                class: hang.class,
            };
            if cell.cannot_run().is_none() {
                cells.push(cell);
            }
        }
    }
    // Mostly they wait for a timeout: some at a time. All are tried, also when one is wrong.
    let mut wrong = Vec::new();
    for some in cells.chunks(AT_A_TIME) {
        thread::scope(|scope| {
            let tries = some.iter().map(|cell| {
                let place = &place;
                (cell, scope.spawn(move || one_cell(place, cell, hang)))
            });
            for (cell, tried) in tries.collect::<Vec<_>>() {
                match tried.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => wrong.push(format!("{cell}: {error:#}")),
                    Err(_) => wrong.push(format!("{cell}: panicked")),
                }
            }
        });
    }
    ensure!(
        !cells.is_empty() && wrong.is_empty(),
        "{}",
        wrong.join("\n\n")
    );
    Ok(())
}

fn one_cell(place: &Place, cell: &Cell, hang: &Hang) -> Result<()> {
    let mut server = hanging(place, cell)?.start()?;
    let worker = server.workers()[0];
    let observer = Observer::run_for(&[server.pid()])?;
    begin(&server, worker, hang.target)?;
    aborted(&mut server, worker).context("not provoked")?;

    let ended = observer.wait_for_ends(server.pid(), 1)?.remove(0);
    ensure!(ended.worker_pid == worker, "another ended: {ended:#?}");
    ensure!(ended.reason.as_deref() == Some("timeout"), "{ended:#?}");
    let stuck_in = format!("hangs.py:{}", hang.function);
    ensure!(
        ended.stuck_in.as_ref() == Some(&stuck_in),
        "not {stuck_in}: {ended:#?}"
    );
    stack_is_right(&ended, hang).with_context(|| format!("{ended:#?}"))?;
    requests_are_right(&ended, hang).with_context(|| format!("{ended:#?}"))?;
    timeouts_are_counted(&observer.scrape()?, &server, &stuck_in)?;
    observer.stop()?;
    Ok(())
}

fn hanging(place: &Place, cell: &Cell) -> Result<Builder> {
    let threads = if cell.class == "gthread" { 2 } else { 1 };
    let builder = Builder::new(place.python(cell)?, "hangs:app")
        .class(cell.class)
        .threads(threads)
        .timeout(TIMEOUT_SECONDS);
    // Before 27 a gthread worker waits for its pool without a beat, for its graceful timeout;
    // since then it beats while it does, and no more when it waits for the pool on its way out.
    Ok(builder.graceful_timeout(if cell.gunicorn == "27.0.1" { 1 } else { 60 }))
}

/// Sends the request, and what more it takes for the worker to be silent.
fn begin(server: &GunicornServer, worker: u32, target: &str) -> Result<()> {
    let (port, request) = (server.port, Request::get(target));
    // It is not answered; it ends when the server does, at the latest.
    thread::spawn(move || fetch(port, &request));
    if server.worker_class() != "ThreadWorker" {
        return Ok(());
    }
    wait::until("the request to be in the pool", || {
        Ok((process::threads_waiting(worker) >= 1).then_some(()))
    })?;
    server.signal(Signal::SIGHUP)
}

/// Waits until the master has given the worker up, and it has ended.
fn aborted(server: &mut GunicornServer, worker: u32) -> Result<()> {
    server.wait_for_log(&format!("WORKER TIMEOUT (pid:{worker})"))?;
    wait::until("the worker to end", || {
        Ok((!process::is_alive(worker)).then_some(()))
    })?;
    server.wait_for_workers(1).map(|_| ())
}

/// Just one thread served a request, and its innermost frame of the application is the one.
fn stack_is_right(ended: &Event, hang: &Hang) -> Result<()> {
    let line = source::line_marked("hangs.py", hang.marker)?;
    let serving: Vec<&Stack> = ended
        .stacks
        .iter()
        .filter(|stack| stack.request.is_some())
        .collect();
    ensure!(serving.len() == 1, "{} stacks serve", serving.len());
    let own = serving[0]
        .frames
        .iter()
        .find(|frame| frame.file.ends_with("hangs.py"))
        .context("no frame of the application")?;
    // Since 3.11 functions are known by their qualified names.
    let function = own.function.rsplit('.').next();
    ensure!(function == Some(hang.function), "in {own:?}");
    ensure!(own.line == Some(line), "{own:?} is not at line {line}");
    let has_outer = |name: &str| serving[0].frames.iter().any(|frame| frame.function == name);
    ensure!(has_outer("route"), "its callers are missing");
    if hang.class == "gthread" {
        ensure!(ended.stacks.len() > 1, "the main thread is missing");
    }
    Ok(())
}

fn requests_are_right(ended: &Event, hang: &Hang) -> Result<()> {
    ensure!(ended.requests.len() == 1, "not one request");
    let route = hang.target.split('?').next().unwrap_or_default();
    let of_stack = ended.stacks.iter().find_map(|stack| stack.request.as_ref());
    let of_stack = of_stack.context("no stack serves")?;
    for request in [&ended.requests[0], of_stack] {
        ensure!(request.method.as_deref() == Some("GET"), "{request:?}");
        ensure!(request.route == route, "{request:?}");
        let age = request.age_seconds;
        // A beat may come a moment after it began, and its end takes a while.
        let bound = wait::BOUND.as_secs_f64();
        ensure!((1.0..bound).contains(&age), "{request:?}");
    }
    Ok(())
}

fn timeouts_are_counted(metrics: &Metrics, server: &GunicornServer, stuck_in: &str) -> Result<()> {
    let family = "gunicorn_worker_timeouts_total";
    let by = ["app", "master_pid", "worker_class", "stuck_in"];
    let key = [
        "hangs:app",
        &server.pid().to_string(),
        server.worker_class(),
        stuck_in,
    ];
    let expected = BTreeMap::from([(key.map(str::to_owned).to_vec(), 1.0)]);
    compare::equal(family, &metrics.sum_by(family, &[], &by), &expected)
}

/// A cell of this class.
fn one_of(class: &'static str) -> Result<Cell> {
    Ok(Cell {
        interpreter: product::interpreter_named("debian-3.11")?,
        gunicorn: "23.0.0",
        class,
    })
}

/// Between the signal and the end that its master makes of it.
#[test]
fn a_worker_that_does_not_heed_its_abort_is_aborting() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let cell = one_of("gthread")?;
    let mut server = hanging(&Place::find()?, &cell)?.start()?;
    let worker = server.workers()[0];
    let observer = Observer::run_for(&[server.pid()])?;
    begin(&server, worker, "/lock")?;
    let pid = worker.to_string();
    let labels = [("worker_pid", pid.as_str()), ("state", "aborting")];
    let is_aborting = observer.wait_until("the worker to be aborting", |metrics| {
        metrics.sum("gunicorn_worker_state", &labels) == 1.0
    });
    aborted(&mut server, worker).context("not provoked")?;
    is_aborting?;
    observer.stop()?;
    Ok(())
}

#[test]
fn a_worker_that_is_soon_given_up_is_found_by_its_late_heartbeat() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let cell = one_of("sync")?;
    let server = hanging(&Place::find()?, &cell)?.timeout(8).start()?;
    let worker = server.workers()[0];
    let observer = Observer::run_for(&[server.pid()])?;
    begin(&server, worker, "/sleep?s=600")?;
    let found = observer.wait_for_finding(server.pid(), "heartbeat_late")?;
    ensure!(found.worker_pid == Some(worker), "{found:?}");
    ensure!(process::is_alive(worker), "it was found too late");
    let pid = worker.to_string();
    let age = observer.scrape()?.sum(
        "gunicorn_worker_heartbeat_age_seconds",
        &[("worker_pid", &pid)],
    );
    // A heartbeat is late from four fifths of the timeout on.
    ensure!((6.4..9.0).contains(&age), "a beat {age} s ago");
    observer.stop()?;
    Ok(())
}

/// As when the main thread still has another signal before it.
#[test]
fn a_main_thread_is_reported_when_another_thread_gets_the_signal() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let cell = one_of("gthread")?;
    let builder = hanging(&Place::find()?, &cell)?.variable("HANGS_SIGNALLED", "1");
    let mut server = builder.start()?;
    let worker = server.workers()[0];
    let observer = Observer::run_for(&[server.pid()])?;
    begin(&server, worker, "/signalled")?;
    aborted(&mut server, worker).context("not provoked")?;
    let ended = observer.wait_for_ends(server.pid(), 1)?.remove(0);
    let (current, others): (Vec<_>, Vec<_>) =
        ended.stacks.iter().partition(|stack| stack.is_current);
    ensure!(
        current.len() == 1 && current[0].request.is_some(),
        "no thread of the pool got it: {ended:#?}"
    );
    let is_main = |stack: &&Stack| {
        let mut functions = stack.frames.iter().map(|frame| frame.function.as_str());
        functions.any(|function| function == "ThreadWorker.run")
    };
    ensure!(others.len() == 1 && is_main(&others[0]), "{ended:#?}");
    observer.stop()?;
    Ok(())
}
