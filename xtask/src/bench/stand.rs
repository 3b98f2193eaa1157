//! What is measured: applications in `tests/apps/bench`, under worker classes, in a Python
//! environment of the benchmarks' own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::{self, Request},
    gunicorn::{Builder, GunicornServer},
    observer::Observer,
    venv::Venv,
};

use super::{ab::Load, cpu};
use crate::{
    command,
    python::{DEBIAN_PYTHON, Environment},
    step::{Check, Step},
    workspace::Workspace,
};

/// Not more than a worker of each class serves at once.
const CONNECTIONS: u32 = 4;
const THREADS: usize = 4;

/// Requests of a window: of fewer, a percentile says little, and of less than 100 `ab` prints none
/// that is right.
const LEAST: f64 = 200.0;

pub const CLASSES: [&str; 3] = ["sync", "gthread", "gevent"];

pub const ENVIRONMENT: Step = Step {
    name: "Python environment of the benchmarks",
    why: "It has the exporters that the observer is compared with.",
    check: |workspace| match environment(workspace).is_stale(workspace) {
        Ok(false) => Check::Present(folder(workspace).display().to_string()),
        Ok(true) => Check::missing(
            "not made from tests/apps/bench/requirements.txt as it is now",
            "cargo xtask bench cost",
        ),
        Err(error) => Check::missing(format!("{error:#}"), "restore it from git"),
    },
    make: Some(|workspace| environment(workspace).make(workspace)),
};

const REQUIREMENTS: &str = "tests/apps/bench/requirements.txt";

/// What only benchmarks need is there.
pub fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("bench")
}

fn environment(workspace: &Workspace) -> Environment {
    Environment {
        name: "venv",
        folder: folder(workspace),
        python: DEBIAN_PYTHON.into(),
        requirements: REQUIREMENTS,
    }
}

/// What of it is measured.
const MEASURED: [&str; 8] = [
    "gunicorn",
    "flask",
    "django",
    "gevent",
    "gunicorn-prometheus-exporter",
    "prometheus_flask_exporter",
    "opentelemetry-sdk",
    "opentelemetry-distro",
];

/// Versions of what is measured, and of what it is measured with.
pub fn versions(workspace: &Workspace) -> Result<String> {
    let file = workspace.root.join(REQUIREMENTS);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {REQUIREMENTS}"))?;
    let pinned = |name: &&str| {
        let version = |line: &str| {
            line.strip_prefix(name)?
                .strip_prefix("==")
                .map(str::to_owned)
        };
        let version = text.lines().find_map(version);
        let version = version.with_context(|| format!("{REQUIREMENTS} has no {name}"))?;
        anyhow::Ok(format!("{name} {version}"))
    };
    let packages: Vec<_> = MEASURED.iter().map(pinned).collect::<Result<_>>()?;
    let python = command::output(DEBIAN_PYTHON, &["--version"]).context("no Python")?;
    let ab = command::output("ab", &["-V"]).context("no ab")?;
    let ab = ab.lines().next().unwrap_or_default();
    let ab = ab
        .trim_start_matches("This is ")
        .trim_end_matches(" <$Revision$>");
    Ok(format!("{python}; {}; {ab}.", packages.join(", ")))
}

/// The environment.
pub fn venv(workspace: &Workspace) -> Result<Venv> {
    Ok(Venv::all_in(&folder(workspace))?.remove(0))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum App {
    Flask,
    Raw,
    Django,
}

impl App {
    pub const ALL: [Self; 3] = [Self::Flask, Self::Raw, Self::Django];

    pub fn name(self) -> &'static str {
        match self {
            Self::Flask => "Flask hello",
            Self::Raw => "raw WSGI hello",
            Self::Django => "Django page",
        }
    }

    /// As Gunicorn's option has it.
    pub fn module(self) -> &'static str {
        match self {
            Self::Flask => "bench.flask_hello:app",
            Self::Raw => "bench.raw_hello:app",
            Self::Django => "bench.page.wsgi:application",
        }
    }
}

/// One worker of a class. It writes no access log: that would cost all alike, and hide what is to
/// be seen.
pub fn quiet(builder: Builder, class: &str) -> Builder {
    let threads = if class == "gthread" { THREADS } else { 1 };
    builder.class(class).threads(threads).without_access_log()
}

/// The probes of an observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probes {
    Full,
    EntryExit,
}

impl Probes {
    pub const BOTH: [Self; 2] = [Self::Full, Self::EntryExit];

    /// As the option `--probes` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::EntryExit => "entry-exit",
        }
    }

    /// Starts an observer of every Gunicorn, and waits until it knows these masters and is idle.
    pub fn start(self, binary: &Path, masters: &[u32]) -> Result<Observer> {
        let observer = Observer::start_with(binary, false, ["--probes", self.name()])?;
        observer.wait_until("the Gunicorns to be known", |metrics| {
            masters.iter().all(|&master| metrics.knows_master(master))
        })?;
        // It loads its rare programs after that.
        cpu::wait_until_idle(observer.pid())?;
        Ok(observer)
    }
}

/// A Gunicorn with one worker, which is kept apart from its clients.
pub struct Served {
    // It is ended when dropped.
    _server: GunicornServer,
    pub master: u32,
    pub worker: u32,
    load: Load,
}

/// What one stretch of load was like.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub per_second: f64,
    pub median_ms: f64,
    pub p99_ms: f64,
    /// Of the worker, a request.
    pub cpu_us: f64,
    pub requests: u32,
    /// Of the worker, in all.
    pub user_s: f64,
    pub system_s: f64,
}

impl Served {
    pub fn start(builder: &Builder, path: &str) -> Result<Self> {
        let server = builder.start()?;
        let worker = *server.workers().first().context("it has no worker")?;
        cpu::keep_apart(worker)?;
        let load = Load {
            port: server.port,
            path: path.to_owned(),
            connections: CONNECTIONS,
        };
        // What is done once only is done before.
        load.run(200)?;
        Ok(Self {
            master: server.pid(),
            worker,
            load,
            _server: server,
        })
    }

    /// The body of a response.
    pub fn get(&self, path: &str) -> Result<String> {
        let response = client::fetch(self.load.port, &Request::get(path))?;
        ensure!(response.status == 200, "{path}: {}", response.status);
        String::from_utf8(response.body).with_context(|| format!("{path} is not UTF-8"))
    }

    /// How many requests take about so long.
    pub fn requests_in(&self, seconds: f64) -> Result<u32> {
        let rate = self.load.run(400)?.per_second;
        let requests = (rate * seconds / 10.0).round().clamp(LEAST / 10.0, 1e6) * 10.0;
        #[expect(clippy::cast_possible_truncation, reason = "it is within these bounds")]
        let requests = requests as u32;
        Ok(requests)
    }

    /// So many requests.
    pub fn window(&self, requests: u32) -> Result<Window> {
        let (before_ns, before) = (
            cpu::settled_ns(self.worker)?,
            cpu::user_and_system(self.worker)?,
        );
        let answered = self.load.run(requests)?;
        let (after_ns, after) = (
            cpu::settled_ns(self.worker)?,
            cpu::user_and_system(self.worker)?,
        );
        Ok(Window {
            per_second: answered.per_second,
            median_ms: answered.median_ms,
            p99_ms: answered.p99_ms,
            cpu_us: (after_ns - before_ns) as f64 / 1e3 / f64::from(requests),
            requests,
            user_s: after[0] - before[0],
            system_s: after[1] - before[1],
        })
    }
}
