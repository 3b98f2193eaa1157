//! Exit reasons of workers: each is provoked for real, and reported once for each worker, in every
//! place that reports it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow, ensure};
use end_to_end::{
    boot::Boot,
    cgroup::MemoryGroup,
    client::{Client, Request, fetch},
    compare,
    gunicorn::{Builder, GunicornServer},
    load::send_unanswered,
    matrix::{
        place::Place,
        product::{self, CLASSES, Cell},
    },
    metrics::Metrics,
    observer::Observer,
    process, skip,
    tracer::Tracer,
    venv::Venv,
    wait,
    worker_exits::{self, Event, Exit, WorkerExit},
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// What a master and its workers may have: several times of what they need until one eats.
const MEMORY: u64 = 256 << 20;
/// The master's `--timeout` where a worker hangs. Workers send a heartbeat twice in this time: on a busy
/// machine a shorter one would abort healthy workers.
const TIMEOUT_SECONDS: u32 = 3;

fn hangs(class: &str) -> Result<Builder> {
    let threads = if class == "gthread" { 2 } else { 1 };
    Ok(Builder::new(&Venv::debian()?, "hangs:app")
        .class(class)
        .threads(threads))
}

/// Of a server of each class: `provoke` says which workers ended why, and Gunicorn's log and all
/// reports of the observer must agree.
fn each_class(
    prepare: impl Fn(Builder) -> Builder,
    provoke: impl Fn(&mut GunicornServer) -> Result<Vec<WorkerExit>>,
) -> Result<()> {
    each_of(&CLASSES, prepare, provoke)
}

fn each_of(
    classes: &[&str],
    prepare: impl Fn(Builder) -> Builder,
    provoke: impl Fn(&mut GunicornServer) -> Result<Vec<WorkerExit>>,
) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let one = |class: &str| {
        let mut server = prepare(hangs(class)?).start()?;
        ended_as_provoked(&mut server, &provoke)
    };
    compare::all(
        classes
            .iter()
            .map(|class| one(class).with_context(|| (*class).to_owned())),
    )
}

fn ended_as_provoked(
    server: &mut GunicornServer,
    provoke: impl Fn(&mut GunicornServer) -> Result<Vec<WorkerExit>>,
) -> Result<()> {
    let observer = Observer::run_for(&[server.pid()])?;
    let before = observer.scrape()?;
    let endings = provoke(server).context("not provoked")?;
    // First whether it came so: only then the observer can be wrong.
    worker_exits::check_logged(server, &endings).context("not ended as provoked")?;
    worker_exits::check_none(&before, server.pid())?;
    worker_exits::check_reported(&observer, server, &endings)?;
    observer.stop()?;
    Ok(())
}

/// The one worker, which must end and be replaced.
fn replaced(server: &mut GunicornServer, ending: &WorkerExit) -> Result<()> {
    wait::until("the worker to end", || {
        Ok((!process::is_alive(ending.pid)).then_some(()))
    })
    .with_context(|| server.log().unwrap_or_default())?;
    server.wait_for_workers(1).map(|_| ())
}

fn only_worker(server: &GunicornServer) -> Result<u32> {
    let workers = server.workers();
    ensure!(workers.len() == 1, "{workers:?}");
    Ok(workers[0])
}

fn signals(metrics: &Metrics, master: u32, signal: &str) -> f64 {
    let labels = [("master_pid", &*master.to_string()), ("signal", signal)];
    metrics.sum("gunicorn_master_signals_total", &labels)
}

/// Stops the heartbeat of the only worker.
fn hang(server: &GunicornServer, worker: u32) -> Result<()> {
    match server.worker_class() {
        "SyncWorker" => send_unanswered(server, "/sleep?s=600"),
        // Its main thread waits for the pool without a beat once it is to stop.
        "ThreadWorker" => {
            send_unanswered(server, "/sleep?s=600");
            wait::until("the request to be in the pool", || {
                Ok(process::sleeps(worker).then_some(()))
            })?;
            server.signal(Signal::SIGHUP)?;
        }
        // Their `time.sleep` yields.
        _ => send_unanswered(server, "/loop"),
    }
    Ok(())
}

#[test]
fn a_worker_that_hangs_ends_by_timeout() -> Result<()> {
    let prepare = |builder: Builder| builder.timeout(TIMEOUT_SECONDS).graceful_timeout(60);
    each_class(prepare, |server| {
        let worker = only_worker(server)?;
        hang(server, worker)?;
        // What is raised at the signal is taken for a failure of the request; then they end well.
        // Only the pool of a gthread worker is waited for also on the way out.
        let exit = match server.worker_class() {
            "ThreadWorker" => Exit::Signal(Signal::SIGKILL),
            _ => Exit::Code(0),
        };
        let ending = WorkerExit::forced(worker, "timeout", exit).by(Signal::SIGABRT, server.pid());
        replaced(server, &ending)?;
        let logged = format!("WORKER TIMEOUT (pid:{worker})");
        ensure!(server.log()?.contains(&logged), "no {logged}");
        Ok(vec![ending])
    })
}

/// It never takes the signal that makes it report its place.
#[test]
fn a_worker_that_was_stopped_ends_by_timeout_too() -> Result<()> {
    let prepare = |builder: Builder| builder.timeout(TIMEOUT_SECONDS);
    each_of(&["sync"], prepare, |server| {
        let worker = only_worker(server)?;
        process::signal(worker, Signal::SIGSTOP)?;
        let ending = WorkerExit::forced(worker, "timeout", Exit::Signal(Signal::SIGKILL))
            .by(Signal::SIGABRT, server.pid())
            .by(Signal::SIGKILL, server.pid());
        replaced(server, &ending)?;
        Ok(vec![ending])
    })
}

#[test]
fn a_worker_that_the_kernel_kills_for_its_memory_ends_by_oom() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    compare::all(CLASSES.iter().map(|class| {
        let group = MemoryGroup::new(MEMORY)?;
        let mut server = hangs(class)?.within(&group).start()?;
        ended_as_provoked(&mut server, |server| {
            let worker = only_worker(server)?;
            ensure!(group.pids()?.contains(&worker), "it is not in the group");
            send_unanswered(server, "/eat");
            let ending = WorkerExit::forced(worker, "oom", Exit::Signal(Signal::SIGKILL));
            replaced(server, &ending)?;
            Ok(vec![ending])
        })
        .with_context(|| (*class).to_owned())
    }))
}

#[test]
fn a_worker_that_served_its_number_of_requests_ends_by_max_requests() -> Result<()> {
    each_class(
        |builder| builder.max_requests(3),
        |server| {
            let worker = only_worker(server)?;
            for _ in 0..3 {
                ensure!(fetch(server.port, &Request::get("/ok"))?.status == 200);
            }
            let ending = WorkerExit::graceful(worker, "max_requests");
            replaced(server, &ending)?;
            Ok(vec![ending])
        },
    )
}

#[test]
fn workers_that_a_reload_replaces_end_by_it() -> Result<()> {
    each_class(
        |builder| builder.workers(2),
        |server| {
            let old = server.workers();
            let master = server.pid();
            server.reload()?;
            let ending = |&pid| WorkerExit::graceful(pid, "reload").by(Signal::SIGTERM, master);
            Ok(old.iter().map(ending).collect())
        },
    )
}

#[test]
fn a_worker_that_is_one_too_many_ends_by_ttou() -> Result<()> {
    each_class(
        |builder| builder.workers(2),
        |server| {
            let old = server.workers();
            server.signal(Signal::SIGTTOU)?;
            let left = server.wait_for_workers(1)?;
            let gone = old.into_iter().find(|pid| !left.contains(pid));
            let gone = gone.context("none of them ended")?;
            let master = server.pid();
            Ok(vec![
                WorkerExit::graceful(gone, "ttou").by(Signal::SIGTERM, master),
            ])
        },
    )
}

#[test]
fn a_worker_that_somebody_asks_to_quit_ends_by_that() -> Result<()> {
    each_class(
        |builder| builder,
        |server| {
            let worker = only_worker(server)?;
            process::signal(worker, Signal::SIGQUIT)?;
            let ending = WorkerExit::forced(worker, "quit", Exit::Code(0))
                .by(Signal::SIGQUIT, std::process::id());
            replaced(server, &ending)?;
            Ok(vec![ending])
        },
    )
}

#[test]
fn a_worker_that_somebody_kills_ends_by_a_crash_with_the_sender_of_the_signal() -> Result<()> {
    each_class(
        |builder| builder,
        |server| {
            let worker = only_worker(server)?;
            process::signal(worker, Signal::SIGKILL)?;
            let ending = WorkerExit::forced(worker, "crash", Exit::Signal(Signal::SIGKILL))
                .by(Signal::SIGKILL, std::process::id());
            replaced(server, &ending)?;
            Ok(vec![ending])
        },
    )
}

#[test]
fn a_worker_that_violates_memory_ends_by_a_crash() -> Result<()> {
    each_class(
        |builder| builder,
        |server| {
            let worker = only_worker(server)?;
            send_unanswered(server, "/segv");
            let ending = WorkerExit::forced(worker, "crash", Exit::Signal(Signal::SIGSEGV));
            replaced(server, &ending)?;
            Ok(vec![ending])
        },
    )
}

#[test]
fn a_worker_that_exits_by_itself_ends_by_a_crash() -> Result<()> {
    each_class(
        |builder| builder,
        |server| {
            let worker = only_worker(server)?;
            send_unanswered(server, "/exit/7");
            let ending = WorkerExit::forced(worker, "crash", Exit::Code(7));
            replaced(server, &ending)?;
            Ok(vec![ending])
        },
    )
}

/// To Gunicorn before 22 a `SystemExit` in a sync worker is no failure of the request.
#[test]
fn an_application_that_calls_sys_exit_ends_its_worker_by_a_crash() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let cell = Cell {
        interpreter: product::interpreter_named("debian-3.11")?,
        gunicorn: "21.2.0",
        class: "sync",
    };
    let mut server = Builder::new(Place::find()?.python(&cell)?, "hangs:app").start()?;
    ended_as_provoked(&mut server, |server| {
        let worker = only_worker(server)?;
        send_unanswered(server, "/sysexit");
        let ending = WorkerExit::forced(worker, "crash", Exit::Code(5));
        replaced(server, &ending)?;
        Ok(vec![ending])
    })
}

/// Gunicorn takes 3 for a failure to boot, and halts; but the worker has served.
#[test]
fn a_running_worker_that_exits_as_if_it_could_not_boot_ends_by_a_crash_and_the_others_by_shutdown()
-> Result<()> {
    each_class(
        |builder| builder.workers(2),
        |server| {
            let workers = server.workers();
            send_unanswered(server, "/exit/3");
            let log = server.wait_for_log("exited with code 3")?;
            server.ends_with(3)?;
            let crashed = |pid: &&u32| log.contains(&format!("Worker (pid:{pid}) exited"));
            let crashed = *workers.iter().find(crashed).context("who crashed?")?;
            let of = |&pid: &u32| {
                if pid == crashed {
                    WorkerExit::forced(pid, "crash", Exit::Code(3))
                } else {
                    WorkerExit::graceful(pid, "shutdown").by(Signal::SIGTERM, server.pid())
                }
            };
            Ok(workers.iter().map(of).collect())
        },
    )
}

#[test]
fn workers_of_a_master_that_is_terminated_end_by_shutdown() -> Result<()> {
    each_class(
        |builder| builder.workers(2),
        |server| {
            let (workers, master) = (server.workers(), server.pid());
            server.end()?;
            let ending =
                |&pid: &u32| WorkerExit::graceful(pid, "shutdown").by(Signal::SIGTERM, master);
            Ok(workers.iter().map(ending).collect())
        },
    )
}

#[test]
fn a_worker_whose_application_cannot_be_imported_ends_by_a_boot_error() -> Result<()> {
    boot_error("raises", 3)
}

#[test]
fn a_worker_whose_application_is_not_there_ends_by_a_boot_error() -> Result<()> {
    boot_error("has no app", 4)
}

/// One more worker is asked for, and cannot boot: Gunicorn halts.
fn boot_error(how: &str, code: i32) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    compare::all(CLASSES.iter().map(|class| {
        let boot = Boot::new()?;
        let mut server = boot.prepare(hangs(class)?).start()?;
        ended_as_provoked(&mut server, |server| {
            let (worker, master) = (only_worker(server)?, server.pid());
            boot.say(how)?;
            server.signal(Signal::SIGTTIN)?;
            server.ends_with(code)?;
            let booted = server.booted()?;
            let failed = *booted.last().context("none was started")?;
            ensure!(failed != worker && booted.len() == 2, "{booted:?}");
            Ok(vec![
                WorkerExit::forced(failed, "boot_error", Exit::Code(code)),
                WorkerExit::graceful(worker, "shutdown").by(Signal::SIGTERM, master),
            ])
        })
        .with_context(|| (*class).to_owned())
    }))
}

/// Nothing ever worked: the master is new to the observer as well. Its interpreter is not.
#[test]
fn the_first_worker_of_a_master_ends_by_a_boot_error_too() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let known = hangs("sync")?.start()?;
    let observer = Observer::run()?;
    observer.wait_until("the first master to be found", |metrics| {
        metrics.knows_master(known.pid())
    })?;
    let boot = Boot::new()?;
    boot.say("raises")?;
    let mut server = boot.prepare(hangs("sync")?).start_listening()?;
    server.ends_with(3)?;
    let booted = server.booted()?;
    ensure!(booted.len() == 1, "{booted:?}");
    let ending = WorkerExit::forced(booted[0], "boot_error", Exit::Code(3));
    worker_exits::check_logged(&server, std::slice::from_ref(&ending))?;
    worker_exits::check_reported(&observer, &server, &[ending])?;
    observer.stop()?;
    Ok(())
}

/// The exception because of which a worker did not boot.
fn failed_by(
    observer: &Observer,
    server: &GunicornServer,
    worker: u32,
    (error, place): (&str, &str),
) -> Result<()> {
    let ends = observer.wait_for_ends(server.pid(), 1)?;
    let of_worker = ends.iter().find(|event| event.worker_pid == worker);
    let failure = of_worker.and_then(|event| event.failure.as_ref());
    let failure = failure.with_context(|| format!("its exception was not seen: {ends:#?}"))?;
    ensure!(failure["error"]["name"] == error, "{failure:#}");
    ensure!(failure["raised_in"] == place, "{failure:#}");
    Ok(())
}

/// Gunicorn logs why the application cannot be imported; Uvicorn lets the application report why it does not
/// start.
#[test]
fn a_worker_that_does_not_boot_has_its_exception() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let uvicorn = Builder::new(&Venv::debian()?, "lifespan:app");
    let uvicorn = uvicorn.class("uvicorn_worker.UvicornWorker");
    does_not_boot(&hangs("sync")?, ("RuntimeError", "hangs.py:fail_at_boot"))?;
    does_not_boot(
        &hangs("gthread")?,
        ("RuntimeError", "hangs.py:fail_at_boot"),
    )?;
    does_not_boot(&uvicorn, ("ConnectionRefusedError", "lifespan.py:connect"))
}

fn does_not_boot(builder: &Builder, cause: (&str, &str)) -> Result<()> {
    let boot = Boot::new()?;
    let mut server = boot.prepare(builder.clone()).start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    boot.say("raises")?;
    server.signal(Signal::SIGTTIN)?;
    server.ends_with(3)?;
    let booted = server.booted()?;
    let failed = *booted.last().context("none was started")?;
    failed_by(&observer, &server, failed, cause)?;
    observer.stop()?;
    Ok(())
}

/// Gunicorn starts them again and again, as fast as they end.
#[test]
fn workers_that_exit_whenever_they_boot_are_found_as_a_loop_and_each_is_reported() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let boot = Boot::new()?;
    let mut server = boot.prepare(hangs("sync")?).start()?;
    let (first, master) = (only_worker(&server)?, server.pid());
    let observer = Observer::run_for(&[master])?;
    boot.say("exits 7")?;
    process::signal(first, Signal::SIGKILL)?;
    wait::until("five workers to have ended", || {
        Ok((worker_exits::exited(&server)?.len() >= 5).then_some(()))
    })?;
    let found = observer.wait_for_finding(master, "restart_loop");
    boot.well()?;
    server.wait_for_workers(1)?;
    let ending = |pid| match pid {
        pid if pid == first => WorkerExit::forced(pid, "crash", Exit::Signal(Signal::SIGKILL)),
        pid => WorkerExit::forced(pid, "crash", Exit::Code(7)),
    };
    let ended: Vec<_> = worker_exits::exited(&server)?
        .into_iter()
        .map(ending)
        .collect();
    worker_exits::check_logged(&server, &ended)?;
    found?;
    worker_exits::check_reported(&observer, &server, &ended)?;
    observer.stop()?;
    Ok(())
}

/// One worker after the other ends by something else; nothing is counted twice or for another.
#[test]
fn the_reasons_of_one_master_add_up_to_its_ended_workers() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut server = hangs("sync")?.workers(2).start()?;
    let master = server.pid();
    let observer = Observer::run_for(&[master])?;
    let mut endings = Vec::new();
    for round in 0..3 {
        let old = server.workers();
        let killed = old[0];
        process::signal(killed, Signal::SIGKILL)?;
        endings.push(WorkerExit::forced(
            killed,
            "crash",
            Exit::Signal(Signal::SIGKILL),
        ));
        wait::until("the killed worker to be replaced", || {
            Ok((!server.workers().contains(&killed)).then_some(()))
        })?;
        let old = server.wait_for_workers(2)?;
        server.reload().with_context(|| format!("round {round}"))?;
        endings.extend(old.iter().map(|&pid| WorkerExit::graceful(pid, "reload")));
        let old = server.workers();
        server.signal(Signal::SIGTTOU)?;
        let left = server.wait_for_workers(1)?;
        let gone = old.into_iter().filter(|pid| !left.contains(pid));
        endings.extend(gone.map(|pid| WorkerExit::graceful(pid, "ttou")));
        server.signal(Signal::SIGTTIN)?;
        server.wait_for_workers(2)?;
    }
    worker_exits::check_logged(&server, &endings)?;
    worker_exits::check_reported(&observer, &server, &endings)?;
    let metrics = observer.scrape()?;
    for signal in ["HUP", "TTOU", "TTIN"] {
        let sent = signals(&metrics, master, signal);
        ensure!(sent == 3.0, "{sent} times {signal}");
    }
    let started = observer.events(master)?;
    let started = started
        .iter()
        .filter(|event| event.event == "worker_started");
    let started: BTreeSet<_> = started.map(|event| event.worker_pid).collect();
    // The first two were there before the observer.
    let expected: BTreeSet<_> = server.booted()?.into_iter().skip(2).collect();
    ensure!(started == expected, "{started:?}, not {expected:?}");
    observer.stop()?;
    Ok(())
}

/// The states of a worker that is `1` in just one of them.
fn state(metrics: &Metrics, worker: u32) -> Option<String> {
    let worker = worker.to_string();
    let labels = [("worker_pid", worker.as_str())];
    let all: Vec<_> = metrics.all("gunicorn_worker_state", &labels).collect();
    let mut set = all.iter().filter(|sample| sample.value == 1.0);
    let one = set.next()?.label("state").to_owned();
    let is_only = set.next().is_none() && all.len() == 4;
    is_only.then_some(one)
}

#[test]
fn a_worker_boots_runs_and_quits() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let boot = Boot::new()?;
    let mut server = boot.prepare(hangs("sync")?).start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let is = |worker: u32, wanted: &str| {
        let what = format!("worker {worker} to be {wanted}");
        let is_so = |metrics: &Metrics| state(metrics, worker).as_deref() == Some(wanted);
        observer.wait_until(&what, is_so).map(|_| ())
    };
    let old = only_worker(&server)?;
    is(old, "running")?;
    // It finishes this before it ends.
    let mut client = Client::connect(server.port)?;
    client.send(&Request::get("/sleep?s=8").bytes())?;
    wait::until("the worker to sleep in a request", || {
        Ok(process::sleeps(old).then_some(()))
    })?;
    boot.say("waits")?;
    server.signal(Signal::SIGHUP)?;
    is(old, "quitting")?;
    let workers = server.workers().into_iter();
    let new = workers.filter(|&pid| pid != old).collect::<Vec<_>>();
    ensure!(new.len() == 1, "{new:?}");
    is(new[0], "booting")?;
    boot.well()?;
    is(new[0], "running")?;
    server.wait_for_workers(1)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn a_trace_shows_exited_workers_between_the_requests() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut server = hangs("sync")?.start()?;
    let (worker, master) = (only_worker(&server)?, server.pid());
    let observer = Observer::run_for(&[master])?;
    let mut text = Tracer::start(master, &[])?;
    let mut json = Tracer::start(master, &["--json"])?;
    ensure!(fetch(server.port, &Request::get("/ok"))?.status == 200);
    // Its client has the answer before the worker is done with it.
    observer.wait_for_requests(master, 1)?;
    process::signal(worker, Signal::SIGKILL)?;
    let ending = WorkerExit::forced(worker, "crash", Exit::Signal(Signal::SIGKILL));
    replaced(&mut server, &ending)?;
    worker_exits::check_logged(&server, std::slice::from_ref(&ending))?;

    let line = wait_for_line(&text, &format!("worker exited reason=crash pid={worker}"))?;
    ensure!(line.contains("hangs:app"), "{line}");
    let line = wait_for_line(&json, r#""event":"worker_ended""#)?;
    let traced: Event = serde_json::from_str(&line).with_context(|| line.clone())?;
    let mut reported = observer.wait_for_ends(master, 1)?.remove(0);
    // Each observer anchors its clock for itself, and sees requests in progress when it looks.
    reported.time_seconds = traced.time_seconds;
    reported.requests.clone_from(&traced.requests);
    ensure!(
        traced == reported,
        "traced {traced:#?}, reported {reported:#?}"
    );
    for tracer in [&mut text, &mut json] {
        tracer.stop(Signal::SIGINT)?;
        let lines = tracer.lines()?;
        let requests = lines.iter().filter(|line| line.contains("/ok"));
        ensure!(requests.count() == 1, "{lines:#?}");
    }
    for line in json.lines()? {
        let _: Value = serde_json::from_str(&line)?;
    }
    observer.stop()?;
    Ok(())
}

fn wait_for_line(tracer: &Tracer, text: &str) -> Result<String> {
    let mut lines = Vec::new();
    let waited = wait::until(format!("a line with `{text}`"), || {
        lines = tracer.lines()?;
        Ok(lines.iter().find(|line| line.contains(text)).cloned())
    });
    waited.map_err(|error| anyhow!("{error:#}; there are {lines:#?}"))
}
