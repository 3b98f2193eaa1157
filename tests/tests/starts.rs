//! Every way to start Gunicorn, and to change it while it runs: masters are found, class and age of each
//! worker are known before the first request, and every request is counted for its worker, whether the
//! observer starts first or last.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use end_to_end::{
    client::{Client, Request},
    compare,
    gunicorn::{Builder, GunicornServer, Master},
    load::{Background, Load},
    matrix::{
        place::Place,
        product::{Cell, INTERPRETERS},
    },
    metrics::Metrics,
    observer::Observer,
    process,
    python::Python,
    skip,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;
use tempfile::TempDir;

const APPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/apps");
const WORKERS: usize = 2;
/// To each address of a server.
const REQUESTS: usize = 40;
/// Requests after which every worker must have had one.
const FAIR: usize = 5000;
/// Of the matrix, for what an old and a new interpreter keep elsewhere.
const OTHERS: [(&str, &str); 2] = [("pyenv-3.8", "20.1.0"), ("debian-3.14", "27.0.1")];

/// A way to start it.
struct Way {
    name: String,
    builder: Builder,
    /// What Gunicorn calls the application.
    app: &'static str,
    /// A unix socket it listens at, beside its ports.
    socket: Option<PathBuf>,
}

impl Way {
    fn new(name: &str, builder: Builder) -> Self {
        Self {
            name: name.to_owned(),
            builder: builder.workers(WORKERS),
            app: "cell:app",
            socket: None,
        }
    }

    /// Gunicorn calls an application that comes from no import string by its own name.
    fn embedded(name: &str, python: Python) -> Self {
        Self {
            app: "gunicorn",
            ..Self::new(name, cell(python))
        }
    }
}

fn cell(python: impl Into<Python>) -> Builder {
    Builder::new(python, "cell:app")
}

fn embedding(python: impl Into<Python>) -> Python {
    python
        .into()
        .running([Path::new(APPS).join("embedding.py")])
}

/// A program of `tests/apps` that starts it in a child, so.
fn supervised(python: impl Into<Python>, way: &str) -> Python {
    let program = Path::new(APPS).join("supervisor.py");
    let words = [program.as_os_str(), way.as_ref()];
    untitled(python.into().running(words))
}

/// Nothing sets the title of its processes.
fn untitled(python: impl Into<Python>) -> Python {
    python
        .into()
        .importing_first(&Path::new(APPS).join("no_titles"))
}

/// One file that has Gunicorn and an application in it.
fn zipapp(venv: &Venv, folder: &Path) -> Result<PathBuf> {
    let (source, target) = (folder.join("bundle"), folder.join("till.pyz"));
    fs::create_dir(&source)?;
    let packages = venv.packages()?;
    let apps = Path::new(APPS);
    run(Command::new("cp")
        .arg("-r")
        .args(["gunicorn", "packaging"].map(|name| packages.join(name)))
        .args(["raw.py", "numbered.py"].map(|name| apps.join(name)))
        .arg(&source))?;
    fs::copy(apps.join("cell.py"), source.join("bundled.py"))?;
    run(Command::new(venv.program("python"))
        .args(["-m", "zipapp", "--main", "gunicorn.app.wsgiapp:run"])
        .arg("--python")
        .arg(venv.program("python"))
        .arg("--output")
        .args([&target, &source]))?;
    Ok(target)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().context("cannot start it")?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn ways(shared: &Path) -> Result<Vec<Way>> {
    let debian = Venv::debian()?;
    let mut all = Vec::new();
    for venv in Venv::all()? {
        let of_venv = |what: &str| format!("{what} on {}", venv.name());
        let module = || Python::from(&venv).running(["-m", "gunicorn"]);
        all.push(Way::new(&of_venv("-m gunicorn"), cell(module())));
        let module = cell(untitled(module()));
        all.push(Way::new(&of_venv("-m gunicorn without a title"), module));
        let embedded = untitled(embedding(&venv));
        all.push(Way::embedded(&of_venv("embedding program"), embedded));
    }
    let script = cell(untitled(&debian));
    all.push(Way::new("script without a title", script));
    all.push(Way::embedded("embedding with a title", embedding(&debian)));
    for way in ["fork", "thread", "subprocess"] {
        all.push(Way::embedded(way, supervised(&debian, way)));
    }

    let bundle = zipapp(&debian, shared)?;
    let python = untitled(&debian);
    let zipped = |name, python| Way {
        app: "bundled:app",
        ..Way::new(name, Builder::new(python, "bundled:app"))
    };
    all.push(zipped("zipapp", python.clone().running([&bundle])));
    let itself = python.running([""; 0]).by(&bundle);
    all.push(zipped("zipapp as a program", itself));

    let socket = shared.join("till.socket");
    let unix = format!("unix:{}", socket.display());
    let binds = ["--bind", "127.0.0.1:0", "--bind", &unix];
    for (name, arguments) in [
        ("--preload", &["--preload"][..]),
        ("--reload", &["--reload"]),
        ("--reuse-port", &["--reuse-port"]),
        ("two ports and a unix socket", &binds),
    ] {
        let builder = arguments
            .iter()
            .copied()
            .fold(cell(&debian), Builder::argument);
        all.push(Way::new(name, builder));
    }
    let last = all.last_mut().context("none")?;
    last.socket = Some(socket);
    all.push(Way::new("--daemon", cell(&debian).daemon()));
    let untitled_daemon = cell(untitled(&debian)).daemon();
    all.push(Way::new("--daemon without a title", untitled_daemon));
    for class in ["TillSync", "TillThread", "TillGevent"] {
        let builder = cell(&debian).class(&format!("subclasses.{class}"));
        let threads = if class == "TillThread" { 4 } else { 1 };
        all.push(Way::new(class, builder.threads(threads)));
    }
    // The main greenlet of such a master waits while a hub runs.
    let patches = shared.join("patches.py");
    fs::write(&patches, "from gevent import monkey\nmonkey.patch_all()\n")?;
    let patches = patches.display().to_string();
    for preload in [&[][..], &["--preload"]] {
        let builder = cell(&debian).class("gevent").argument("-c");
        let builder = builder.argument(&patches);
        let builder = preload.iter().copied().fold(builder, Builder::argument);
        let name = format!("patched by its configuration {preload:?}");
        all.push(Way::new(&name, builder));
    }
    let builder = Builder::new(&debian, "patched:app").argument("--preload");
    all.push(Way {
        app: "patched:app",
        ..Way::new("patched by its application", builder.class("gevent"))
    });
    for (name, python) in others()? {
        let preload = cell(python.clone()).argument("--preload");
        all.push(Way::new(&format!("--preload on {name}"), preload));
        let embedded = untitled(embedding(python));
        all.push(Way::embedded(&format!("embedding on {name}"), embedded));
    }
    Ok(all)
}

/// Interpreters that keep what discovery reads elsewhere, as far as this machine has them.
fn others() -> Result<Vec<(&'static str, Python)>> {
    let place = Place::find()?;
    let mut found = Vec::new();
    for (name, gunicorn) in OTHERS {
        let interpreter = INTERPRETERS.into_iter().find(|one| one.name == name);
        let cell = Cell {
            interpreter: interpreter.with_context(|| format!("no {name} in the matrix"))?,
            gunicorn,
            class: "sync",
        };
        if place.has(cell.interpreter) {
            found.push((name, place.python(&cell)?));
        } else {
            skip::unless_ci(&format!("no interpreter {name}: `cargo xtask setup`"))?;
        }
    }
    Ok(found)
}

/// Waits until the observer has found a master, has it at `level`, and knows each of its workers.
fn known(
    observer: &Observer,
    master: Master<'_>,
    first: u64,
    level: &str,
    app: &str,
) -> Result<()> {
    let pid = master.pid.to_string();
    let has_level = |metrics: &Metrics| {
        let labels = [("master_pid", pid.as_str()), ("level", level)];
        metrics.sum("gunicorn_observer_target_level", &labels) > 0.0
    };
    let has_name = |metrics: &Metrics| {
        let labels = [("app", app), ("master_pid", &pid)];
        metrics.sum("gunicorn_app_info", &labels) > 0.0
    };
    let waited = observer.wait_until("the master and its workers to be known", |metrics| {
        has_level(metrics)
            && has_name(metrics)
            && compare::identities(metrics, master, first).is_ok()
    });
    waited.with_context(|| format!("{master:?}")).map(|_| ())
}

fn send(port: u16, requests: usize) -> Result<()> {
    let load = Load {
        requests,
        concurrency: 4,
        routes: ["/hello", "/chunked", "/no-content", "/raises"]
            .map(Request::get)
            .to_vec(),
    };
    let failures = load.run(port).failures;
    ensure!(failures.is_empty(), "requests failed: {failures:?}");
    Ok(())
}

/// To each address it has.
fn send_to_all(server: &GunicornServer, socket: Option<&Path>) -> Result<usize> {
    let ports = server.ports()?;
    for port in &ports {
        send(*port, REQUESTS)?;
    }
    let Some(socket) = socket else {
        return Ok(ports.len() * REQUESTS);
    };
    for _ in 0..REQUESTS {
        let answer = Client::connect_unix(socket)?.request(&Request::get("/hello"))?;
        ensure!(answer.status == 200, "answered {}", answer.status);
    }
    Ok((ports.len() + 1) * REQUESTS)
}

fn check(observer: &Observer, way: &Way, server: &GunicornServer) -> Result<()> {
    known(observer, server.as_master(), 1, "full", way.app)?;
    let sent = send_to_all(server, way.socket.as_deref())?;
    let logged = server.wait_for_access_log(sent)?;
    let metrics = observer.wait_for_requests(server.pid(), sent)?;
    compare::workers(&metrics, server, &logged)
}

#[test]
fn every_way_to_start_it_is_seen_by_an_observer_that_runs() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let shared = TempDir::new()?;
    let observer = Observer::run()?;
    let mut servers = Vec::new();
    for way in ways(shared.path())? {
        let server = way.builder.start().with_context(|| way.name.clone())?;
        check(&observer, &way, &server).with_context(|| way.name.clone())?;
        // Left running: the next is one more master, of the same application.
        servers.push(server);
    }
    compare::nothing_lost(&observer.scrape()?)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn every_way_to_start_it_is_seen_by_an_observer_that_comes_later() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let shared = TempDir::new()?;
    let ways = ways(shared.path())?;
    let mut servers = Vec::new();
    for way in &ways {
        servers.push(way.builder.start().with_context(|| way.name.clone())?);
    }
    let observer = Observer::run()?;
    for (way, server) in ways.iter().zip(&servers) {
        check(&observer, way, server).with_context(|| way.name.clone())?;
    }
    compare::nothing_lost(&observer.scrape()?)?;
    observer.stop()?;
    Ok(())
}

/// It is a child of a program that itself is no Gunicorn, without an exec.
#[test]
fn a_gunicorn_forked_by_a_program_older_than_the_observer_is_seen() -> Result<()> {
    older_than_the_observer("fork")
}

#[test]
fn a_program_older_than_the_observer_that_becomes_a_gunicorn_is_seen() -> Result<()> {
    older_than_the_observer("itself")
}

fn older_than_the_observer(way: &str) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let shared = TempDir::new()?;
    let waits = shared.path().join("waits");
    let way = Way::embedded(way, supervised(&Venv::debian()?, way));
    let variable = waits.display().to_string();
    let builder = way.builder.clone().variable("WAIT_FOR", &variable);
    thread::scope(|scope| {
        let (sender, started) = mpsc::channel();
        // What a thread starts ends with it: each of them goes on to the end.
        let watching = scope.spawn(|| {
            let exists = || Ok(waits.exists().then_some(()));
            wait::until("the program to wait", exists)?;
            let observer = Observer::run();
            // Also without an observer, or the other thread would wait forever.
            fs::remove_file(&waits)?;
            let (observer, server) = (observer?, started.into_iter().next());
            let server: GunicornServer = server.context("it was not started")?;
            check(&observer, &way, &server)?;
            compare::nothing_lost(&observer.scrape()?)?;
            observer.stop()
        });
        sender.send(builder.start()?)?;
        drop(sender);
        let watched = watching.join();
        watched.map_err(|_| anyhow!("a thread of this test panicked"))?
    })?;
    Ok(())
}

/// When the observer comes.
#[derive(Clone, Copy, Debug)]
enum Comes {
    First,
    /// Before the upgrade.
    Between,
    /// When there are two masters.
    Last,
}

#[test]
fn an_upgrade_loses_no_request_and_its_masters_are_distinguished() -> Result<()> {
    for comes in [Comes::First, Comes::Between, Comes::Last] {
        let builder = cell(&Venv::debian()?);
        upgrade(builder, comes, Signal::SIGTERM, "full").with_context(|| format!("{comes:?}"))?;
    }
    Ok(())
}

#[test]
fn an_upgrade_on_other_interpreters() -> Result<()> {
    let orders = [Comes::First, Comes::Last];
    for ((name, python), comes) in others()?.into_iter().zip(orders) {
        upgrade(cell(python), comes, Signal::SIGTERM, "full").context(name)?;
    }
    Ok(())
}

/// Its workers are ended before it is: only a daemon heeds SIGWINCH.
#[test]
fn an_upgrade_of_a_daemon() -> Result<()> {
    let builder = cell(&Venv::debian()?).daemon();
    upgrade(builder, Comes::Between, Signal::SIGQUIT, "full")
}

#[test]
fn an_upgrade_of_workers_observed_by_system_calls() -> Result<()> {
    let builder = cell(&Venv::debian()?).class("own_worker.OwnWorker");
    upgrade(builder, Comes::Between, Signal::SIGTERM, "socket")
}

fn upgrade(builder: Builder, comes: Comes, end: Signal, level: &str) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let start = |now: bool| now.then(Observer::run).transpose();
    let mut observer = start(matches!(comes, Comes::First))?;
    let mut server = builder.workers(WORKERS).start()?;
    observer = observer.or(start(matches!(comes, Comes::Between))?);
    if let Some(observer) = &observer {
        known(observer, server.as_master(), 1, level, "cell:app")?;
    }
    let (old, old_workers) = (server.pid(), server.workers());
    let new = server.upgrade()?;
    let observer = match observer {
        Some(observer) => observer,
        None => Observer::run()?,
    };
    let class = server.worker_class().to_owned();
    let master = |pid| Master { pid, class: &class };
    known(&observer, master(new), 1, level, "cell:app")?;
    observer.wait_until("the old master", |metrics| metrics.knows_master(old))?;

    // They share a listener: each worker of both gets its part.
    let workers = [old_workers, process::children(new)].concat();
    let mut sent = 0;
    loop {
        send(server.port, REQUESTS)?;
        sent += REQUESTS;
        let logged = server.wait_for_access_log(sent)?;
        let served = |worker: &u32| logged.iter().any(|line| line.pid == *worker);
        if workers.iter().all(served) {
            break;
        }
        ensure!(sent < FAIR, "of {workers:?} some served none of {sent}");
    }
    let masters = [master(old), master(new)];
    compare::all_logged(&observer, &server, &masters)?;
    let metrics = observer.scrape()?;
    let (old_pid, new_pid) = (old.to_string(), new.to_string());
    let as_worker = [("master_pid", old_pid.as_str()), ("worker_pid", &new_pid)];
    ensure!(
        metrics
            .all("gunicorn_worker_info", &as_worker)
            .next()
            .is_none(),
        "the new master is taken for a worker of the old one"
    );

    let load = Background::start(server.port, 2, vec![Request::get("/hello")], || ());
    if end == Signal::SIGQUIT {
        // It cuts requests: one that it cuts is logged twice (`workers/sync.py`, `handle`).
        server.signal(Signal::SIGWINCH)?;
        wait::until("the old workers to end", || {
            Ok((server.workers() == [new]).then_some(()))
        })?;
    }
    server.hand_over(end, new)?;
    let answered = load.stop().answered();
    send(server.port, REQUESTS)?;
    server.wait_for_access_log(sent + answered + REQUESTS)?;
    compare::all_logged(&observer, &server, &masters)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn settings_that_a_reload_changes_are_updated() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let file = folder.path().join("gunicorn.conf.py");
    fs::write(&file, "workers = 1\ntimeout = 33\n")?;
    let mut server = cell(&Venv::debian()?).configured(&file).start()?;
    let observer = Observer::run()?;
    let pid = server.pid().to_string();
    let shown = |class: &str, workers: &str, timeout: &str| {
        let of_master = [("master_pid", pid.as_str())];
        let settings = [
            ("master_pid", pid.as_str()),
            ("worker_class", class),
            ("workers", workers),
            ("timeout", timeout),
        ];
        observer.wait_until("the settings to be updated", |metrics| {
            let seconds = metrics.sum("gunicorn_master_timeout_seconds", &of_master);
            // One series: that of the old settings is gone.
            metrics.sum("gunicorn_app_info", &of_master) == 1.0
                && metrics.sum("gunicorn_app_info", &settings) == 1.0
                && seconds.to_string() == timeout
        })
    };
    shown("SyncWorker", "1", "33")?;
    send(server.port, REQUESTS)?;
    observer.wait_for_requests(server.pid(), REQUESTS)?;
    let first = server.wait_for_access_log(REQUESTS)?;

    fs::write(
        &file,
        "workers = 3\ntimeout = 77\nworker_class = 'gthread'\nthreads = 2\n",
    )?;
    let old = server.workers();
    server.signal(Signal::SIGHUP)?;
    wait::until("the old worker to go", || {
        Ok((!server.workers().contains(&old[0])).then_some(()))
    })?;
    server.wait_for_workers(3)?;
    shown("ThreadWorker", "3", "77")?;
    let now = Master {
        class: "ThreadWorker",
        ..server.as_master()
    };
    known(&observer, now, 2, "full", "cell:app")?;
    send(server.port, REQUESTS)?;
    let logged = server.wait_for_access_log(2 * REQUESTS)?;
    let metrics = observer.wait_for_requests(server.pid(), 2 * REQUESTS)?;
    let by = ["worker_pid", "worker_class"];
    let of_master = [("master_pid", pid.as_str())];
    let counted = metrics.sum_by("gunicorn_worker_requests_total", &of_master, &by);
    let of = |class: &'static str| {
        move |line: &end_to_end::access_log::Line| vec![line.pid.to_string(), class.to_owned()]
    };
    let (before, after) = logged.split_at(first.len());
    let lines = before.iter().map(of("SyncWorker"));
    let expected = compare::counted(lines.chain(after.iter().map(of("ThreadWorker"))));
    compare::equal("requests by worker", &counted, &expected)?;
    compare::nothing_lost(&metrics)?;
    observer.stop()?;
    Ok(())
}

#[test]
fn workers_that_a_touched_file_restarts_are_counted() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let file = folder.path().join("touched.py");
    fs::write(&file, "from cell import app\n")?;
    let python = Python::from(&Venv::debian()?).importing_first(folder.path());
    let builder = Builder::new(python, "touched:app").argument("--reload");
    let observer = Observer::run()?;
    let mut server = builder.workers(WORKERS).start()?;
    known(&observer, server.as_master(), 1, "full", "touched:app")?;
    send(server.port, REQUESTS)?;
    let old = server.workers();
    let mut touched = 0;
    wait::until("the workers to be replaced", || {
        // Again and again: when a worker first reads the time of the file is unknown.
        touched += 1;
        // Renamed, so that no worker imports a file that is half written.
        let new = folder.path().join("new");
        fs::write(&new, format!("from cell import app\n# {touched}\n"))?;
        fs::rename(&new, &file)?;
        Ok((!server.workers().iter().any(|worker| old.contains(worker))).then_some(()))
    })?;
    server.wait_for_workers(WORKERS)?;
    observer.wait_until("the new workers", |metrics| {
        server.workers().iter().all(|pid| {
            let pid = pid.to_string();
            metrics.sum("gunicorn_worker_info", &[("worker_pid", &pid)]) > 0.0
        })
    })?;
    send(server.port, REQUESTS)?;
    server.wait_for_access_log(2 * REQUESTS)?;
    compare::all_logged(&observer, &server, &[server.as_master()])?;
    observer.stop()?;
    Ok(())
}
