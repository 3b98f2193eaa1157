//! Workers that serve each request in a task of asyncio: Uvicorn's, and Gunicorn's own `asgi`. Old and new
//! ones under each CPython are observed in full, and each failure has its own exception.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use end_to_end::{
    client::Request,
    compare, extent,
    gunicorn::{Builder, GunicornServer},
    load::{Load, Tally},
    matrix::{
        place::Place,
        product::{Cell, INTERPRETERS, Source, UVICORNS, WRITES_LATER},
    },
    metrics::Metrics,
    observer::Observer,
    skip,
};

const REQUESTS: usize = 280;
const CONCURRENCY: usize = 8;

/// Paths of `tasks:app`, and what is behind a failure: status, class and function. A 5xx without an exception
/// is `unknown`.
const GOOD: [&str; 2] = ["/good", "/caught"];
const FAILURES: [(&str, u16, &str, &str); 5] = [
    ("/raises", 500, "LookupError", "tasks.py:raises"),
    ("/waits", 500, "KeyError", "tasks.py:waits"),
    (
        "/child",
        500,
        "ZeroDivisionError",
        "tasks.py:child.<locals>.below",
    ),
    ("/refuses", 503, "Refused", "tasks.py:refuses"),
    ("/returns", 502, "unknown", ""),
];

/// Those of a quick run: the oldest, one of each way to keep frames, the newest.
const QUICK: [u8; 4] = [8, 11, 13, 15];

/// Whether what is handled while a response is written is seen on the uvloop of a set.
fn on_uvloop(minor: u8) -> bool {
    !WRITES_LATER.contains(&minor)
}

#[test]
fn uvicorn_on_uvloop() -> Result<()> {
    let is_handled_seen = |minor| !WRITES_LATER.contains(&minor);
    failures_have_their_exceptions(
        "uvicorn.workers.UvicornWorker",
        "23.0.0",
        8,
        is_handled_seen,
    )
}

#[test]
fn uvicorn_on_asyncio() -> Result<()> {
    failures_have_their_exceptions("uvicorn.workers.UvicornH11Worker", "23.0.0", 8, |_| true)
}

#[test]
fn gunicorns_own_asgi() -> Result<()> {
    // Gunicorn 27 is for Python 3.10 and later. It takes uvloop where that is there.
    failures_have_their_exceptions("asgi", "27.0.1", 10, on_uvloop)
}

/// One worker of a class under each CPython from a minor version on.
fn failures_have_their_exceptions(
    class: &'static str,
    gunicorn: &'static str,
    first: u8,
    is_handled_seen: impl Fn(u8) -> bool,
) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut servers = Vec::new();
    let is_quick = extent::of(false, true);
    let is_meant =
        |(_, minor): &(&str, u8)| *minor >= first && (!is_quick || QUICK.contains(minor));
    for (packages, minor) in UVICORNS.into_iter().filter(is_meant) {
        servers.push((minor, server(class, gunicorn, packages, minor)?));
    }
    let masters: Vec<u32> = servers.iter().map(|(_, server)| server.pid()).collect();
    let observer = Observer::run_for(&masters)?;
    let failures = FAILURES.iter().map(|(path, ..)| *path);
    let routes: Vec<_> = GOOD.into_iter().chain(failures).map(Request::get).collect();
    let mut failed = Vec::new();
    for (minor, server) in &servers {
        let load = Load {
            requests: REQUESTS,
            concurrency: CONCURRENCY,
            routes: routes.clone(),
        };
        let tally = load.run(server.port);
        ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
        observer.wait_for_requests(server.pid(), REQUESTS)?;
        let checked = check(&observer, server, &tally, is_handled_seen(*minor));
        failed.extend(checked.err().map(|error| format!("3.{minor}: {error:#}")));
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    compare::nothing_lost(&observer.scrape()?)?;
    observer.stop()?;
    Ok(())
}

/// Debian's stripped interpreter of a version, if there is one.
fn server(
    class: &'static str,
    gunicorn: &'static str,
    packages: &str,
    minor: u8,
) -> Result<GunicornServer> {
    let of_minor = INTERPRETERS.into_iter().filter(|it| it.minor == minor);
    let interpreter = of_minor.max_by_key(|it| it.source != Source::Pyenv);
    let interpreter = interpreter.ok_or_else(|| anyhow::anyhow!("no CPython 3.{minor}"))?;
    let place = Place::find()?;
    let folder = place.frameworks(packages);
    ensure!(
        folder.exists(),
        "no {}: `cargo xtask setup`",
        folder.display()
    );
    let python = place.python(&Cell {
        interpreter,
        gunicorn,
        class,
    })?;
    // An app of its own for each: errors are counted by app.
    Builder::new(python.importing_first(&folder), "tasks:app")
        .class(class)
        .argument(&format!("--name=python-3.{minor}"))
        .start()
}

fn check(
    observer: &Observer,
    server: &GunicornServer,
    tally: &Tally,
    is_handled_seen: bool,
) -> Result<()> {
    let master = server.pid().to_string();
    let levels = [("master_pid", &*master), ("level", "full")];
    let metrics = observer.wait_until("all failures to be counted", |metrics| {
        let requests = metrics.sum("gunicorn_worker_requests_total", &[("master_pid", &master)]);
        requests == REQUESTS as f64
    })?;
    ensure!(
        metrics.sum("gunicorn_observer_target_level", &levels) == 1.0,
        "not in full: {:?}",
        metrics
            .all("gunicorn_observer_target_level", &levels[..1])
            .collect::<Vec<_>>()
    );
    let app = app_of(&metrics, &master)?;
    let mut expected = BTreeMap::new();
    for (path, status, class, place) in FAILURES {
        let (class, place) = match path {
            "/refuses" if !is_handled_seen => ("unknown", ""),
            _ => (class, place),
        };
        // Before 3.11 code has no qualified name.
        let key = [path, &status.to_string(), class, &short(place)].map(str::to_owned);
        let count = tally.answers.get(&(status, path.to_owned()));
        let count = u32::try_from(*count.unwrap_or(&0))?;
        expected.insert(key.to_vec(), f64::from(count));
    }
    let labels = ["endpoint", "status", "error_type", "raised_in"];
    let counted = metrics.sum_by("gunicorn_http_errors_total", &[("app", &*app)], &labels);
    let counted = counted.into_iter().map(|(mut key, count)| {
        if let Some(place) = key.last_mut() {
            *place = short(place);
        }
        (key, count)
    });
    compare::equal(
        "failures by path, status, class and place",
        &counted.collect(),
        &expected,
    )
}

/// The file and the last part of the name of a function.
fn short(place: &str) -> String {
    match place.split_once(':') {
        Some((file, name)) => format!("{file}:{}", name.rsplit('.').next().unwrap_or(name)),
        None => place.to_owned(),
    }
}

fn app_of(metrics: &Metrics, master: &str) -> Result<String> {
    let labels = [("master_pid", master)];
    let mut rows = metrics.all("gunicorn_observer_target_level", &labels);
    let row = rows.next().map(|row| row.label("app").to_owned());
    row.ok_or_else(|| anyhow::anyhow!("no row of {master}"))
}
