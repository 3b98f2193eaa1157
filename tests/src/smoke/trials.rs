//! Each feature, tried. The names are those of `doctor`.

use std::thread;

use anyhow::{Context as _, Result, ensure};

use super::stage::Stage;
use crate::{
    client::{self, Client, Request},
    gunicorn::GunicornServer,
    load::{Load, send_unanswered},
    source, wait,
    worker_exits::Event,
};

/// Tries a feature, and returns what was seen.
type Trial = fn(&mut Stage) -> Result<String>;

/// What is tried, the feature of `doctor` that it takes, and the trial. The order matters: the first one sends
/// the requests that the next ones check.
pub const TRIALS: &[(&str, &str, Trial)] = &[
    ("requests", "requests", requests),
    ("request heads", "request heads", requests_as_sent),
    ("responses", "responses", responses),
    ("connections", "connections", connections),
    ("TCP queue wait", "connections", waits),
    (
        "Unix socket queue wait",
        "Unix socket queue wait",
        waits_on_unix_sockets,
    ),
    ("sendfile", "sendfile", files),
    ("uvloop and asyncio", "uvloop and asyncio", uvloop),
    ("exceptions", "exceptions", exceptions),
    ("deep capture", "deep capture", deep_capture),
    ("GC pauses", "GC pauses", collections),
    ("GIL waits", "GIL waits", gil),
    ("OOM kills", "OOM kills", oom),
    ("stacks at timeouts", "stacks at timeouts", stacks),
    ("signals", "signals", signals),
    ("processes", "processes", processes),
];

/// Requests to each worker.
const REQUESTS: usize = 50;
const ALL: f64 = 50.0;
const COUNTED: &str = "http_server_request_duration_seconds_count";
const PHASES: &str = "gunicorn_request_phase_seconds_count";

fn requests(stage: &mut Stage) -> Result<String> {
    for server in [&stage.sync, &stage.threads] {
        let load = Load {
            requests: REQUESTS,
            concurrency: 4,
            routes: vec![Request::get("/welcome")],
        };
        let tally = load.run(server.port);
        ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
    }
    for server in [&stage.sync, &stage.threads] {
        stage.expect(server, "gunicorn_worker_requests_total", &[], ALL)?;
    }
    Ok("50 of 50 on sync, 50 of 50 on gthread".to_owned())
}

fn requests_as_sent(stage: &mut Stage) -> Result<String> {
    let labels = [("http_route", "/welcome"), ("http_request_method", "GET")];
    of_both(stage, COUNTED, &labels)?;
    of_both(stage, "gunicorn_worker_request_size_bytes_count", &[])?;
    Ok("method, path and size of all".to_owned())
}

fn responses(stage: &mut Stage) -> Result<String> {
    of_both(stage, COUNTED, &[("http_response_status_code", "200")])?;
    of_both(stage, "gunicorn_worker_response_size_bytes_count", &[])?;
    Ok("status and size of all".to_owned())
}

fn connections(stage: &mut Stage) -> Result<String> {
    // From the accept to the first read: once a connection, and there is one a request here.
    stage.expect(&stage.sync, PHASES, &[("phase", "dispatch")], ALL)?;
    Ok("50 of 50 accepts".to_owned())
}

fn waits(stage: &mut Stage) -> Result<String> {
    stage.expect(&stage.sync, PHASES, &[("phase", "queue")], ALL)?;
    Ok("50 of 50 on sync".to_owned())
}

fn of_both(stage: &Stage, name: &str, labels: &[(&str, &str)]) -> Result<()> {
    let mut both = [&stage.sync, &stage.threads].into_iter();
    both.try_for_each(|server| stage.expect(server, name, labels, ALL))
}

fn waits_on_unix_sockets(stage: &mut Stage) -> Result<String> {
    let mut client = Client::connect_unix(&stage.sync.unix_socket())?;
    let answer = client.request(&Request::get("/welcome"))?;
    ensure!(answer.status == 200, "answered {}", answer.status);
    stage.expect(&stage.sync, PHASES, &[("phase", "queue")], ALL + 1.0)?;
    Ok("1 of 1".to_owned())
}

fn files(stage: &mut Stage) -> Result<String> {
    const SIZE: &str = "gunicorn_worker_response_size_bytes_sum";
    let labels = [("worker_class", stage.sync.worker_class())];
    let before = stage.observer.scrape()?.sum(SIZE, &labels);
    let answer = client::fetch(stage.sync.port, &Request::get("/file"))?;
    ensure!(answer.status == 200, "answered {}", answer.status);
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousand bytes")]
    let bytes = answer.body.len() as f64;
    // The family has bodies, as Gunicorn's own access log has.
    stage.expect(&stage.sync, SIZE, &[], before + bytes)?;
    Ok(format!("{bytes} bytes"))
}

fn uvloop(stage: &mut Stage) -> Result<String> {
    for _ in 0..10 {
        let answer = client::fetch(stage.uvloop.port, &Request::get("/welcome"))?;
        ensure!(answer.status == 200, "answered {}", answer.status);
    }
    let labels = [("http_response_status_code", "200")];
    stage.expect(&stage.uvloop, COUNTED, &labels, 10.0)?;
    Ok("10 of 10 requests".to_owned())
}

/// A page about an error, and the observer's count of it.
fn fails(stage: &Stage, path: &str, labels: &[(&str, &str)]) -> Result<()> {
    let answer = client::fetch(stage.threads.port, &Request::get(path))?;
    ensure!(answer.status == 500, "answered {}", answer.status);
    let mut labels = labels.to_vec();
    labels.push(("endpoint", path));
    stage.expect(&stage.threads, "gunicorn_http_errors_total", &labels, 1.0)
}

fn exceptions(stage: &mut Stage) -> Result<String> {
    let labels = [
        ("error_type", "ValueError"),
        ("raised_in", "kernels.py:asked"),
    ];
    fails(stage, "/asked", &labels)?;
    Ok("class and function".to_owned())
}

fn deep_capture(stage: &mut Stage) -> Result<String> {
    fails(stage, "/plain", &[("error_type", "unknown")])?;
    let looking = [("state", "looking")];
    let of_threads = stage.threads.pid().to_string();
    stage.observer.wait_until("deep capture", |metrics| {
        let mut looks = metrics.all("gunicorn_observer_deep_capture", &looking);
        looks.any(|look| look.label("master_pid") == of_threads)
    })?;
    let labels = [
        ("error_type", "LookupError"),
        ("raised_in", "kernels.py:silent"),
    ];
    fails(stage, "/silent", &labels)?;
    Ok("class and function".to_owned())
}

fn collections(stage: &mut Stage) -> Result<String> {
    const FAMILY: &str = "gunicorn_worker_gc_pause_seconds_count";
    let labels = [("worker_class", stage.sync.worker_class())];
    let before = stage.observer.scrape()?.sum(FAMILY, &labels);
    let answer = client::fetch(stage.sync.port, &Request::get("/collect"))?;
    ensure!(answer.status == 200, "answered {}", answer.status);
    let metrics = stage.observer.wait_until("ten collections", |metrics| {
        metrics.sum(FAMILY, &labels) >= before + 10.0
    })?;
    Ok(format!("{}", metrics.sum(FAMILY, &labels) - before))
}

fn gil(stage: &mut Stage) -> Result<String> {
    const FAMILY: &str = "gunicorn_worker_gil_wait_seconds_total";
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| client::fetch(stage.threads.port, &Request::get("/burn")));
        }
    });
    let labels = [("worker_class", stage.threads.worker_class())];
    // Two threads that want it for 0.2 s each wait as long for each other.
    let metrics = stage
        .observer
        .wait_until("GIL waits", |metrics| metrics.sum(FAMILY, &labels) > 0.1)?;
    Ok(format!("{:.1} s", metrics.sum(FAMILY, &labels)))
}

/// Makes a server's worker exit by this path, and waits for the next one.
fn ends(stage: &Stage, server: &GunicornServer, path: &str, reason: &str) -> Result<Event> {
    let before = server.booted()?.len();
    send_unanswered(server, path);
    let ended = wait::until("the end of a worker", || {
        let events = stage.observer.events(server.pid())?;
        Ok(events
            .into_iter()
            .find(|it| it.event == "worker_ended" && it.reason.as_deref() == Some(reason)))
    });
    let ended = ended.with_context(|| format!("{:#?}", stage.observer.events(server.pid())))?;
    wait::until("another worker", || {
        Ok((server.booted()?.len() > before).then_some(()))
    })?;
    Ok(ended)
}

fn oom(stage: &mut Stage) -> Result<String> {
    ends(stage, &stage.threads, "/eat", "oom")?;
    Ok("reason `oom`".to_owned())
}

fn stacks(stage: &mut Stage) -> Result<String> {
    let ended = ends(stage, &stage.sync, "/nap", "timeout")?;
    let stuck_in = ended.stuck_in.as_deref();
    ensure!(stuck_in == Some("kernels.py:nap"), "{ended:#?}");
    let line = source::line_marked("kernels.py", "stuck: nap")?;
    let mut frames = ended.stacks.iter().flat_map(|stack| &stack.frames);
    let nap = frames.find(|frame| frame.function == "nap");
    ensure!(
        nap.is_some_and(|nap| nap.line == Some(line)),
        "not in line {line}: {ended:#?}"
    );
    Ok(format!(
        "function and line, in {} frames",
        ended.stacks[0].frames.len()
    ))
}

fn signals(stage: &mut Stage) -> Result<String> {
    // Those that ended the worker before.
    let name = "gunicorn_master_signals_total";
    let server: &GunicornServer = &stage.threads;
    let (workers, booted) = (server.workers(), server.booted()?.len());
    server.signal(nix::sys::signal::Signal::SIGHUP)?;
    let master = server.pid().to_string();
    let labels = [("master_pid", master.as_str()), ("signal", "HUP")];
    stage
        .observer
        .wait_until("a signal", |metrics| metrics.sum(name, &labels) >= 1.0)?;
    wait::until("the worker to be replaced", || {
        let now = server.workers();
        let is_new = now.iter().all(|pid| !workers.contains(pid));
        Ok((now.len() == 1 && is_new && server.booted()?.len() == booted + 1).then_some(()))
    })?;
    Ok("SIGHUP to a master".to_owned())
}

/// The worker that the reload started.
fn processes(stage: &mut Stage) -> Result<String> {
    let answer = client::fetch(stage.threads.port, &Request::get("/welcome"))?;
    ensure!(answer.status == 200, "answered {}", answer.status);
    let pid = stage.threads.workers()[0].to_string();
    let labels = [("worker_pid", pid.as_str())];
    stage
        .observer
        .wait_until("a new worker's request", |metrics| {
            metrics.sum("gunicorn_worker_requests_total", &labels) >= 1.0
        })?;
    // The first was killed.
    let ends = stage.observer.wait_for_ends(stage.threads.pid(), 2)?;
    ensure!(ends[1].reason.as_deref() == Some("reload"), "{ends:#?}");
    Ok("first request of a new worker, end of the old one".to_owned())
}
