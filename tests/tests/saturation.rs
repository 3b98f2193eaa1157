//! More clients than workers: where each request waited, and the gauges while it waits.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::{Client, Place, Request, fetch},
    compare,
    gunicorn::{Builder, GunicornServer},
    load::Background,
    matrix::{self, product, product::Cell},
    metrics::Metrics,
    nginx::Nginx,
    observer::{Observer, free_port},
    phases::{self, Traced, milliseconds, percentile},
    process, skip,
    tracer::Tracer,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;

/// How long the application takes for each request.
const WORK_MS: usize = 100;
/// Clients at once, of one round.
const CLIENTS: usize = 8;
const ROUNDS: usize = 5;
/// Difference allowed between the phases and the clients' time, at the median. A machine that
/// does something else, too, lets single clients wait: the 95th percentile is printed, and only has to
/// be within [`LATE_MS`].
const OFF_MS: f64 = 2.0;
/// See there; it is a tenth of what a request takes.
const LATE_MS: f64 = 10.0;
/// … where nginx is between the two, which also logs whole milliseconds only, by a clock that it
/// looks at once for all that it finds to do.
const BEHIND_NGINX_MS: f64 = 5.0;

/// A kind of server, and how many requests it takes up at once.
struct Kind {
    class: &'static str,
    slots: usize,
    arguments: &'static [&'static str],
}

const SYNC: Kind = Kind {
    class: "sync",
    slots: 1,
    arguments: &[],
};
/// Its main thread accepts all; its threads take up two at once.
const GTHREAD: Kind = Kind {
    class: "gthread",
    slots: 2,
    arguments: &["--threads", "2"],
};
/// Its pool of greenlets is as large as the connections it may have.
const GEVENT: Kind = Kind {
    class: "gevent",
    slots: 2,
    arguments: &["--worker-connections", "2"],
};
const KINDS: [Kind; 3] = [SYNC, GTHREAD, GEVENT];

impl Kind {
    fn builder(&self) -> Result<Builder> {
        let builder = Builder::new(&Venv::debian()?, "hangs:app").class(self.class);
        let arguments = self.arguments.iter().copied();
        Ok(arguments.fold(builder, Builder::argument))
    }

    /// What the requests of one round wait for others: each place in line once.
    fn imposed_ms(&self) -> Vec<f64> {
        let rounds = (0..CLIENTS).map(|place| place / self.slots * WORK_MS);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        rounds.map(|ms| ms as f64).collect()
    }
}

/// What was measured outside and what was traced of the same requests.
struct Seen {
    /// By path.
    measured: BTreeMap<String, f64>,
    traced: Vec<Traced>,
}

impl Seen {
    /// How far the phases together are from what the client measured.
    fn off_ms(&self) -> Result<Vec<f64>> {
        off_ms(&self.traced, &self.measured)
    }
}

fn off_ms(traced: &[Traced], measured: &BTreeMap<String, f64>) -> Result<Vec<f64>> {
    traced
        .iter()
        .map(|request| {
            let measured = measured.get(&request.path);
            let measured = measured.with_context(|| format!("not sent: {request:?}"))?;
            Ok((measured - request.total()).abs())
        })
        .collect()
}

/// Rounds of clients that all come at once, of `place`, each with a path of its own.
fn overload(server: &GunicornServer, place: &Place) -> Result<Seen> {
    let tracer = Tracer::start(server.pid(), &["--json"])?;
    let mut measured = BTreeMap::new();
    for round in 0..ROUNDS {
        let numbers = round * CLIENTS..(round + 1) * CLIENTS;
        measured.append(&mut phases::measure(place, &slow(numbers))?);
    }
    let traced = phases::traced(&tracer, ROUNDS * CLIENTS)?;
    Ok(Seen { measured, traced })
}

fn slow(numbers: impl Iterator<Item = usize>) -> Vec<Request> {
    let seconds = format!("0.{WORK_MS}");
    numbers
        .map(|number| Request::get(&format!("/{number}/sleep?s={seconds}")))
        .map(|request| request.header("Connection", "close"))
        .collect()
}

fn adds_up(off: Vec<f64>, bound_ms: f64, seen: &Seen) -> Result<()> {
    let (p50, p95) = (percentile(off.clone(), 50), percentile(off, 95));
    println!("phases are {p50:.2} ms off at p50, {p95:.2} ms at p95");
    ensure!(
        p50 <= bound_ms && p95 <= LATE_MS,
        "phases are {p50:.2} ms off at p50, {p95:.2} ms at p95: measured {:#?}, traced {:#?}",
        seen.measured,
        seen.traced
    );
    Ok(())
}

/// The waits are those that the line of requests imposes.
fn waits_are_imposed(kind: &Kind, waits: &[f64]) -> Result<()> {
    let imposed: Vec<f64> = (0..ROUNDS).flat_map(|_| kind.imposed_ms()).collect();
    for percent in [50, 95] {
        let (wait, imposed) = (
            percentile(waits.to_vec(), percent),
            percentile(imposed.clone(), percent),
        );
        // What the server does beside the application adds up along the line.
        let is_right = (wait - imposed).abs() <= 15.0 + imposed / 10.0;
        ensure!(
            is_right,
            "p{percent} of the waits is {wait:.1} ms, not {imposed}: {waits:?}"
        );
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred")]
fn without_work(measured: &BTreeMap<String, f64>) -> Vec<f64> {
    measured.values().map(|ms| ms - WORK_MS as f64).collect()
}

/// The phase in which the requests of this class wait for others.
fn waits(kind: &Kind, seen: &Seen) -> Result<Vec<f64>> {
    let name = if kind.class == "gthread" {
        "dispatch"
    } else {
        "queue"
    };
    seen.traced
        .iter()
        .map(|request| {
            let queued = request.phase("queue");
            queued.with_context(|| format!("no queue of a first request: {request:?}"))?;
            request
                .phase(name)
                .with_context(|| format!("no {name}: {request:?}"))
        })
        .collect()
}

#[test]
fn over_tcp_the_phases_are_the_time_that_clients_measure() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    compare::all(KINDS.map(|kind| {
        let server = kind.builder()?.start()?;
        let place = Place::Port(server.port);
        direct(&kind, &server, &place).with_context(|| kind.class.to_owned())
    }))
}

#[test]
fn over_a_unix_socket_the_phases_are_the_time_that_clients_measure() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    compare::all(KINDS.map(|kind| {
        let server = kind.builder()?.unix().start()?;
        let place = Place::Unix(server.unix_socket());
        direct(&kind, &server, &place).with_context(|| kind.class.to_owned())
    }))
}

fn direct(kind: &Kind, server: &GunicornServer, place: &Place) -> Result<()> {
    let observer = Observer::run_for(&[server.pid()])?;
    let seen = overload(server, place)?;
    // First whether the clients did wait as they should: only then the observer can be wrong.
    waits_are_imposed(kind, &without_work(&seen.measured)).context("of clients")?;
    adds_up(seen.off_ms()?, OFF_MS, &seen)?;
    waits_are_imposed(kind, &waits(kind, &seen)?).context("as traced")?;
    observer.wait_for_requests(server.pid(), seen.traced.len())?;
    histograms_agree(&observer.scrape()?, &seen)?;
    observer.stop()?;
    Ok(())
}

/// The histograms have just what was traced by another observer.
fn histograms_agree(metrics: &Metrics, seen: &Seen) -> Result<()> {
    for phase in ["queue", "dispatch", "read", "app", "write"] {
        let labels = [("app", "hangs:app"), ("phase", phase)];
        let of =
            |part: &str| metrics.sum(&format!("gunicorn_request_phase_seconds_{part}"), &labels);
        let traced = seen
            .traced
            .iter()
            .filter_map(|request| request.phase(phase));
        let traced: Vec<f64> = traced.collect();
        ensure!(
            of("count").to_string() == traced.len().to_string(),
            "{phase}: {} observed, {} traced",
            of("count"),
            traced.len()
        );
        let off = (of("sum") * 1000.0 - traced.iter().sum::<f64>()).abs();
        ensure!(off <= OFF_MS, "{phase}: sums are {off} ms apart");
    }
    Ok(())
}

#[test]
fn behind_nginx_the_phases_are_the_time_of_the_upstream() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    compare::all(KINDS.iter().flat_map(|kind| {
        ["127.0.0.1", "unix"].map(|over| {
            let server = kind.builder()?.unix().start()?;
            let upstream = match over {
                "unix" => format!("unix:{}", server.unix_socket().display()),
                _ => format!("127.0.0.1:{}", server.port),
            };
            behind_nginx(kind, &server, &upstream)
                .with_context(|| format!("{} over {over}", kind.class))
        })
    }))
}

fn behind_nginx(kind: &Kind, server: &GunicornServer, upstream: &str) -> Result<()> {
    let nginx = Nginx::start(upstream)?;
    let seen = overload(server, &Place::Port(nginx.port))?;
    waits_are_imposed(kind, &without_work(&seen.measured)).context("of clients")?;
    let passed = nginx.wait_for_log(ROUNDS * CLIENTS)?;
    ensure!(passed.len() == ROUNDS * CLIENTS, "{passed:#?}");
    let connects = passed.iter().map(|passed| passed.connect_ms).collect();
    let slowest = percentile(connects, 100);
    ensure!(slowest <= 50.0, "nginx took {slowest} ms to connect");
    adds_up(seen.off_ms()?, BEHIND_NGINX_MS, &seen).context("against the clients")?;
    let upstream = passed
        .into_iter()
        .map(|passed| (passed.path, passed.response_ms))
        .collect();
    let off = off_ms(&seen.traced, &upstream)?;
    let of_nginx = Seen {
        measured: upstream,
        traced: seen.traced.clone(),
    };
    adds_up(off, BEHIND_NGINX_MS, &of_nginx).context("against nginx")?;
    waits_are_imposed(kind, &waits(kind, &seen)?).context("as traced")
}

#[test]
fn each_worker_with_a_shared_port_has_its_own_waits() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = SYNC
        .builder()?
        .workers(2)
        .argument("--reuse-port")
        .start()?;
    let seen = overload(&server, &Place::Port(server.port))?;
    adds_up(seen.off_ms()?, OFF_MS, &seen)?;
    for request in &seen.traced {
        ensure!(request.phase("queue").is_some(), "{request:?}");
        ensure!(server.workers().contains(&request.pid), "{request:?}");
    }
    let mut workers: Vec<_> = seen.traced.iter().map(|request| request.pid).collect();
    workers.sort_unstable();
    workers.dedup();
    ensure!(workers.len() == 2, "only {workers:?} served");
    Ok(())
}

#[test]
fn only_the_first_request_of_a_connection_was_in_the_queue() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for kind in [GTHREAD, GEVENT] {
        let server = kind.builder()?.start()?;
        let observer = Observer::run_for(&[server.pid()])?;
        let tracer = Tracer::start(server.pid(), &["--json"])?;
        let mut client = Client::connect(server.port)?;
        for number in 0..3 {
            let answer = client.request(&Request::get(&format!("/{number}/ok")))?;
            ensure!(answer.status == 200 && !answer.closes, "{number}: not kept");
        }
        let mut traced = phases::traced(&tracer, 3)?;
        traced.sort_by(|a, b| a.path.cmp(&b.path));
        let queued: Vec<_> = traced
            .iter()
            .map(|request| request.phase("queue").is_some())
            .collect();
        ensure!(queued == [true, false, false], "{traced:#?}");
        let metrics = observer.wait_for_requests(server.pid(), 3)?;
        for (phase, count) in [("queue", 1.0), ("app", 3.0)] {
            let labels = [("phase", phase)];
            let counted = metrics.sum("gunicorn_request_phase_seconds_count", &labels);
            ensure!(counted == count, "{phase}: {counted}");
        }
        observer.stop()?;
    }
    Ok(())
}

/// The value of a gauge or counter of a worker; no number if it has none.
fn of_worker(metrics: &Metrics, worker: u32, name: &str) -> f64 {
    let worker = worker.to_string();
    let labels = [("worker_pid", worker.as_str())];
    let value = metrics.all(name, &labels).next().map(|sample| sample.value);
    value.unwrap_or(f64::NAN)
}

#[test]
fn a_long_request_is_seen_while_it_runs_and_its_time_is_counted_as_it_passes() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    /// What a scrape may be late or early.
    const OFF_SECONDS: f64 = 0.2;
    for kind in KINDS {
        let server = kind.builder()?.start()?;
        let worker = server.workers()[0];
        let observer = Observer::run_for(&[server.pid()])?;
        let idle = observer.scrape()?;
        for name in [
            "gunicorn_worker_busy_seconds_total",
            "gunicorn_worker_requests_in_flight",
            "gunicorn_worker_oldest_request_seconds",
        ] {
            ensure!(of_worker(&idle, worker, name) == 0.0, "{name} is not 0");
        }
        let mut client = Client::connect(server.port)?;
        let began = Instant::now();
        let request = Request::get("/sleep?s=3").header("Connection", "close");
        client.send(&request.bytes())?;
        let mut seen = 0;
        let scraped = wait::until("the long request to have been seen for two seconds", || {
            let before = began.elapsed().as_secs_f64();
            let metrics = observer.scrape()?;
            let after = began.elapsed().as_secs_f64();
            let value = |name| of_worker(&metrics, worker, name);
            if value("gunicorn_worker_requests_in_flight") < 1.0 {
                ensure!(before < OFF_SECONDS, "not in flight after {before} s");
                return Ok(None);
            }
            seen += 1;
            let running = before - OFF_SECONDS..after + OFF_SECONDS;
            for name in [
                "gunicorn_worker_oldest_request_seconds",
                "gunicorn_worker_busy_seconds_total",
            ] {
                let value = value(name);
                ensure!(running.contains(&value), "{name}: {value} at {running:?}");
            }
            ensure!(value("gunicorn_worker_requests_in_flight") == 1.0);
            Ok((after > 2.0).then_some(metrics))
        });
        scraped.with_context(|| kind.class.to_owned())?;
        ensure!(seen > 5, "seen {seen} times only");
        ensure!(client.response("GET")?.status == 200);
        let took = began.elapsed().as_secs_f64();
        let metrics = observer.wait_for_requests(server.pid(), 1)?;
        let value = |name| of_worker(&metrics, worker, name);
        let busy = value("gunicorn_worker_busy_seconds_total");
        ensure!(
            (3.0..took + 0.01).contains(&busy),
            "busy for {busy} of {took}"
        );
        let duration = value("gunicorn_worker_request_duration_seconds_sum");
        let off = (busy - duration).abs();
        ensure!(
            off < 0.005,
            "busy for {busy} s by a request of {duration} s"
        );
        ensure!(value("gunicorn_worker_requests_in_flight") == 0.0);
        ensure!(value("gunicorn_worker_oldest_request_seconds") == 0.0);
        observer.stop()?;
    }
    Ok(())
}

/// Two requests at once keep one worker busy once.
#[test]
fn requests_that_overlap_make_a_worker_busy_for_the_time_of_both_together() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = GTHREAD.builder()?.start()?;
    let worker = server.workers()[0];
    let observer = Observer::run_for(&[server.pid()])?;
    let both = ["/0/sleep?s=1", "/1/sleep?s=1"].map(Request::get);
    let measured = phases::measure(&Place::Port(server.port), &both)?;
    let longest = percentile(measured.into_values().collect(), 100) / 1000.0;
    let metrics = observer.wait_for_requests(server.pid(), 2)?;
    let busy = of_worker(&metrics, worker, "gunicorn_worker_busy_seconds_total");
    ensure!((1.0..longest + 0.05).contains(&busy), "{busy} of {longest}");
    observer.stop()?;
    Ok(())
}

/// The bytes that a process has resident, its threads and its descriptors.
fn used_by(pid: u32) -> Result<(f64, f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.with_context(|| format!("no {name}"))?.parse()?)
    };
    let fds = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok((field("VmRSS:")? * 1024.0, field("Threads:")?, fds as f64))
}

#[test]
fn what_a_worker_uses_is_what_the_kernel_says() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = GTHREAD.builder()?.start()?;
    let worker = server.workers()[0];
    let observer = Observer::run_for(&[server.pid()])?;
    // Each of its threads has been started by then.
    phases::measure(&Place::Port(server.port), &slow(0..CLIENTS))?;
    observer.wait_until("what the worker uses", |metrics| {
        let value = |name| of_worker(metrics, worker, name);
        // Read each time: connections are still being closed at first.
        let Ok((memory, threads, fds)) = used_by(worker) else {
            return false;
        };
        threads == 3.0
            && value("gunicorn_worker_threads") == threads
            && value("gunicorn_worker_open_fds") == fds
            && (value("gunicorn_worker_memory_bytes") / memory - 1.0).abs() < 0.05
            // A young worker used less than a tick of the kernel's clock.
            && value("gunicorn_worker_cpu_seconds_total") >= 0.0
    })?;
    observer.stop()?;
    Ok(())
}

#[test]
fn a_worker_in_a_loop_uses_one_cpu() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = SYNC.builder()?.start()?;
    let worker = server.workers()[0];
    let observer = Observer::run_for(&[server.pid()])?;
    let mut client = Client::connect(server.port)?;
    client.send(&Request::get("/loop").bytes())?;
    observer.wait_until("a worker that uses its cpu", |metrics| {
        let value = |name| of_worker(metrics, worker, name);
        // Others may want the same cpu.
        (60.0..110.0).contains(&value("gunicorn_worker_cpu_percent"))
            && value("gunicorn_worker_cpu_seconds_total") > 1.0
    })?;
    // It would not see that it shall end.
    process::signal(worker, Signal::SIGKILL)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn a_request_that_takes_very_long_is_found() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = SYNC.builder()?.start()?;
    let worker = server.workers()[0];
    let observer = Observer::run_for(&[server.pid()])?;
    let mut client = Client::connect(server.port)?;
    client.send(&Request::get("/sleep?s=14").bytes())?;
    let found = observer.wait_for_finding(server.pid(), "worker_stuck")?;
    ensure!(found.worker_pid == Some(worker), "{found:?}");
    ensure!(found.app == "hangs:app" && !found.evidence.is_empty());
    ensure!(client.response("GET")?.status == 200);
    wait::until("nothing to be found any more", || {
        let snapshot = observer.snapshot()?;
        let left = snapshot["findings"].as_array().map(Vec::len);
        Ok((left == Some(0)).then_some(()))
    })?;
    observer.stop()?;
    Ok(())
}

/// What the kernel makes of the backlog that a Gunicorn asks for, which is 2048.
fn backlog_limit() -> Result<f64> {
    let largest = fs::read_to_string("/proc/sys/net/core/somaxconn")?;
    Ok(largest.trim().parse::<f64>()?.min(2048.0))
}

#[test]
fn connections_that_nobody_accepts_are_the_backlog_of_their_listener() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    const WAITING: usize = 5;
    let server = SYNC.builder()?.unix().start()?;
    let worker = server.workers()[0];
    let observer = Observer::run_for(&[server.pid()])?;
    let master = server.pid().to_string();
    let backlogs = |metrics: &Metrics, name: &str| -> Vec<(String, f64)> {
        let labels = [("app", "hangs:app"), ("master_pid", master.as_str())];
        let all = metrics.all(name, &labels);
        all.map(|sample| (sample.label("listener").to_owned(), sample.value))
            .collect()
    };
    let mut holding = Client::connect(server.port)?;
    holding.send(&Request::get("/sleep?s=5").bytes())?;
    wait::until("the worker to sleep in a request", || {
        Ok(process::sleeps(worker).then_some(()))
    })?;
    let over_tcp = (0..WAITING).map(|_| Client::connect(server.port));
    let over_tcp = over_tcp.collect::<Result<Vec<_>>>()?;
    let over_unix = (0..2).map(|_| Client::connect_unix(&server.unix_socket()));
    let over_unix = over_unix.collect::<Result<Vec<_>>>()?;
    let metrics = observer.wait_until("all that wait to be in a backlog", |metrics| {
        let mut values: Vec<_> = backlogs(metrics, "gunicorn_listener_backlog")
            .into_iter()
            .map(|(_, value)| value)
            .collect();
        values.sort_by(f64::total_cmp);
        values == [2.0, 5.0]
    })?;
    for (listener, value) in backlogs(&metrics, "gunicorn_listener_backlog") {
        let is_unix = listener.contains("gunicorn.sock");
        let is_tcp = listener.contains(&format!("127.0.0.1:{}", server.port));
        ensure!(is_unix != is_tcp, "whose is {listener}?");
        ensure!((value == 2.0) == is_unix, "{value} of {listener}");
    }
    let limits = backlogs(&metrics, "gunicorn_listener_backlog_limit");
    let limit = backlog_limit()?;
    ensure!(
        limits.len() == 2 && limits.iter().all(|(_, value)| *value == limit),
        "{limits:?}, not {limit}"
    );
    drop((over_tcp, over_unix));
    ensure!(holding.response("GET")?.status == 200);
    observer.wait_until("empty backlogs", |metrics| {
        let all = backlogs(metrics, "gunicorn_listener_backlog");
        all.len() == 2 && all.iter().all(|(_, value)| *value == 0.0)
    })?;
    observer.stop()?;
    Ok(())
}

#[test]
fn connections_that_a_full_backlog_turns_away_are_counted() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = SYNC
        .builder()?
        .argument("--backlog")
        .argument("2")
        .start()?;
    let worker = server.workers()[0];
    let observer = Observer::run_for(&[server.pid()])?;
    let master = server.pid().to_string();
    let labels = [("master_pid", master.as_str())];
    let drops = |metrics: &Metrics| {
        let family = "gunicorn_listener_drops_total";
        let listeners = metrics.all(family, &labels).count();
        let sum = metrics.sum(family, &labels);
        if listeners == 1 { sum } else { f64::NAN }
    };
    let before = drops(&observer.scrape()?);
    let mut holding = Client::connect(server.port)?;
    holding.send(&Request::get("/sleep?s=5").bytes())?;
    wait::until("the worker to sleep in a request", || {
        Ok(process::sleeps(worker).then_some(()))
    })?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port));
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(100));
    let tried: Vec<_> = (0..6).map(connect).collect();
    let turned_away = tried.iter().filter(|tried| tried.is_err()).count();
    ensure!(turned_away > 0, "not provoked: all were taken");
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let turned_away = turned_away as f64;
    observer.wait_until("each connection turned away", |metrics| {
        drops(metrics) - before >= turned_away
    })?;
    ensure!(holding.response("GET")?.status == 200);
    observer.stop()?;
    Ok(())
}

/// From Gunicorn 24 on the master has no socket then.
#[test]
fn sockets_that_workers_open_themselves_are_one_listener() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    const WORKERS: usize = 3;
    const BACKLOG: usize = 2;
    let cell = Cell {
        interpreter: product::interpreter_named("debian-3.11")?,
        gunicorn: "27.0.1",
        class: "sync",
    };
    let builder = Builder::new(matrix::place::Place::find()?.python(&cell)?, "hangs:app")
        .workers(WORKERS)
        .argument("--reuse-port")
        .argument("--backlog")
        .argument(&BACKLOG.to_string())
        .port(free_port()?);
    let mut server = builder.start()?;
    let port = server.port;
    let observer = Observer::run_for(&[server.pid()])?;
    let master = server.pid().to_string();
    // Of one listener; no number if there is another one.
    let value = |metrics: &Metrics, name: &str| {
        let labels = [("master_pid", master.as_str())];
        let all: Vec<_> = metrics.all(name, &labels).collect();
        match all.as_slice() {
            [one] if one.label("listener") == format!("127.0.0.1:{port}") => one.value,
            _ => f64::NAN,
        }
    };
    let of_all = |metrics: &Metrics| {
        value(metrics, "gunicorn_listener_backlog_limit") == (WORKERS * BACKLOG) as f64
    };
    observer.wait_until("the sockets of all workers", of_all)?;
    let stopped = server.workers();
    for &worker in &stopped {
        process::signal(worker, Signal::SIGSTOP)?;
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(100));
    let tried: Vec<_> = (0..30).map(connect).collect();
    ensure!(
        tried.iter().any(Result::is_err),
        "not provoked: all were taken"
    );
    observer.wait_for_finding(server.pid(), "saturated")?;
    let metrics = observer.wait_until("a backlog of all, and drops", |metrics| {
        value(metrics, "gunicorn_listener_backlog") >= (WORKERS * BACKLOG) as f64
            && value(metrics, "gunicorn_listener_drops_total") > 0.0
    })?;
    let drops = value(&metrics, "gunicorn_listener_drops_total");
    drop(tried);
    for &worker in &stopped {
        process::signal(worker, Signal::SIGKILL)?;
    }
    wait::until("other workers", || {
        let workers = server.workers();
        let is_new = workers.iter().all(|pid| !stopped.contains(pid));
        Ok((is_new && workers.len() == WORKERS).then_some(()))
    })?;
    server.wait_for_workers(WORKERS)?;
    // The sockets of the former workers are closed; what they dropped stays counted.
    let metrics = observer.wait_until("the sockets of the new workers", |metrics| {
        of_all(metrics) && value(metrics, "gunicorn_listener_backlog") == 0.0
    })?;
    let after = value(&metrics, "gunicorn_listener_drops_total");
    ensure!(after >= drops, "{after} drops, {drops} before");
    observer.stop()?;
    Ok(())
}

#[test]
fn a_server_that_cannot_keep_up_is_found() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = SYNC
        .builder()?
        .argument("--backlog")
        .argument("64")
        .start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let routes = vec![Request::get(&format!("/sleep?s=0.{WORK_MS}"))];
    let load = Background::start(server.port, 24, routes, || ());
    let began = Instant::now();
    let found = observer.wait_for_finding(server.pid(), "saturated");
    let took = milliseconds(began.elapsed());
    let tally = load.stop();
    ensure!(
        tally.failures.is_empty(),
        "not provoked: {:?}",
        tally.failures
    );
    let found = found.with_context(|| format!("within {took} ms"))?;
    ensure!(found.worker_pid.is_none(), "{found:?}");
    ensure!(fetch(server.port, &Request::get("/ok"))?.status == 200);
    observer.stop()?;
    Ok(())
}
