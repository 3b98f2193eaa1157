//! Why requests fail: the observer's counts of 5xx, of exceptions that leave the application and of
//! exceptions that Gunicorn handles, compared with what Python did.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::Request,
    compare,
    errors::{
        case::STARTS_CAPTURE,
        error_counts::ErrorCounts,
        framework::{FRAMEWORKS, Framework, SHOPS, STANDS},
        run,
    },
    extent,
    gunicorn::{Builder, GunicornServer},
    load::{Load, Tally},
    matrix::{
        place::Place,
        product::{Cell, interpreter_named},
    },
    metrics::Metrics,
    observer::{self, Observer},
    python::Python,
    skip,
    venv::Venv,
};
use tempfile::TempDir;

const FAILED: &str = "gunicorn_worker_failed_requests_total";
const HANDLED: &str = "gunicorn_worker_error_handling_total";
const HTTP: &str = "gunicorn_http_errors_total";

#[test]
fn each_error_of_each_framework_has_its_class_and_its_function() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let outcome = run::run(&Place::find()?, &observer::binary()?, &STANDS)?;
    let rows = outcome.rows;
    ensure!(!rows.is_empty(), "no shop was tried");
    let (tried, wrong_cases) = run::counts(&rows);
    let wrong = run::wrong(&rows);
    ensure!(
        wrong.is_empty(),
        "{wrong_cases} of {tried} are wrong:\n{}",
        wrong.join("\n")
    );
    // Deep capture chooses among many exceptions; Jinja, for one, replaces tracebacks.
    ensure!(
        outcome.agreed > 0.9 * outcome.checked,
        "of {} deep capture agreed on {} only",
        outcome.checked,
        outcome.agreed
    );
    Ok(())
}

#[test]
fn what_was_handled_before_the_requests_came_is_none_of_their_errors() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    const REQUESTS: usize = 50;
    let fallback = concat!(env!("CARGO_MANIFEST_DIR"), "/apps/fallback.py");
    let python = Python::from(&Venv::debian()?).running([fallback]);
    let server = Builder::new(python, "raw:app").start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let load = Load {
        requests: REQUESTS,
        concurrency: 1,
        routes: vec![Request::get("/hello")],
    };
    let tally = load.run(server.port);
    ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
    let metrics = observer.wait_for_requests(server.pid(), REQUESTS)?;
    for family in [FAILED, HANDLED, HTTP] {
        ensure!(metrics.sum(family, &[]) == 0.0, "{metrics:#?}");
    }
    // Their own errors are still counted.
    let answer = server.fetch(&Request::get("/raises"))?;
    ensure!(answer.status == 500, "{}", answer.status);
    observer.wait_until("the error of a request", |metrics| {
        metrics.sum(HTTP, &[("error_type", "RuntimeError")]) > 0.0
    })?;
    observer.stop()?;
    Ok(())
}

/// Requests to each framework, half of them before deep capture, half during it: in full, and in a
/// quick run.
const GOOD: [usize; 2] = [10_000, 2_000];

#[test]
fn thousands_of_good_requests_of_each_framework_make_no_error() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let place = Place::find()?;
    let observer = Observer::run()?;
    let wrong: Vec<String> = thread::scope(|scope| {
        let tries = FRAMEWORKS.map(|framework| {
            let (place, observer) = (&place, &observer);
            scope.spawn(move || {
                good_requests(place, observer, framework)
                    .err()
                    .map(|error| format!("{framework:?}: {error:#}"))
            })
        });
        let ended = tries.into_iter().map(|one| {
            one.join()
                .unwrap_or_else(|_| Some("a thread panicked".to_owned()))
        });
        ended.flatten().collect()
    });
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn good_requests(place: &Place, observer: &Observer, framework: Framework) -> Result<()> {
    // Connections are kept by workers with threads, and on event loops.
    let stand = STANDS
        .into_iter()
        .find(|stand| {
            let keeps = stand.class == "gthread" || framework.is_asgi();
            stand.framework == framework && keeps
        })
        .context("no stand has threads")?;
    let installed = TempDir::new().context("cannot make a folder for packages")?;
    let server = stand.server(place, installed.path())?.start()?;
    run::wait_until_observed(observer, &server)?;
    let paths = [
        "/ok", "/ok", "/ok", "/ok", "/ok", "/ok", "/ok", "/handled", "/aborts", "/nowhere",
    ];
    let paths = paths.iter().chain(framework.good_paths());
    let [full, quick] = GOOD;
    let load = Load {
        requests: extent::of(full, quick) / 2,
        concurrency: 2,
        routes: paths.map(|path| Request::get(path)).collect(),
    };
    all_good(&load.run(server.port))?;
    no_errors(&observer.scrape()?, &stand.name(), &server)?;
    run::prepare(observer, &stand, &server)?;
    all_good(&load.run(server.port))?;
    run::fence(observer, &stand.name(), &server)?;
    no_errors(&observer.scrape()?, &stand.name(), &server)
}

fn all_good(tally: &Tally) -> Result<()> {
    let failures = &tally.failures;
    ensure!(
        failures.is_empty(),
        "{} failed: {:?}",
        failures.len(),
        failures.first()
    );
    let good = |(status, path): &(u16, String)| match path.as_str() {
        "/aborts" | "/nowhere" => *status == 404,
        _ => *status == 200,
    };
    ensure!(tally.answers.keys().all(good), "{:?}", tally.answers);
    Ok(())
}

/// Checks that only the request that started deep capture is counted.
fn no_errors(metrics: &Metrics, name: &str, server: &GunicornServer) -> Result<()> {
    let mut errors = ErrorCounts::by_path(metrics, name, server.pid());
    errors.remove(STARTS_CAPTURE);
    let errors: Vec<_> = errors
        .iter()
        .map(|(path, counts)| format!("{path}: {counts}"))
        .collect();
    ensure!(
        errors.is_empty(),
        "errors of good requests: {}",
        errors.join("; ")
    );
    Ok(())
}

/// As `tests/apps/errors/crowd.py` has them.
const CROWD: usize = 1000;
const LETTERS: &str = "abcdefghij";

#[test]
fn a_hundred_exceptions_among_a_thousand_greenlets_are_each_counted_as_their_own() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let place = Place::find()?;
    let cell = Cell {
        interpreter: interpreter_named("pyenv-3.11")?,
        gunicorn: "23.0.0",
        class: "gevent",
    };
    let installed = TempDir::new().context("cannot make a folder for packages")?;
    let python = place.python(&cell)?.as_installed(installed.path())?;
    let server = Builder::new(python, "crowd:app")
        .class(cell.class)
        .argument("--pythonpath")
        .argument(SHOPS)
        .argument("--worker-connections")
        .argument("2000")
        .start()?;
    // Each of its hundred words is a route.
    let observer = Observer::start_with(&observer::binary()?, false, ["--route-limit=1000"])?;
    run::wait_until_observed(&observer, &server)?;
    run::start_capture(&observer, "crowd:app", &server)?;
    let words: Vec<String> = LETTERS
        .chars()
        .flat_map(|first| {
            LETTERS
                .chars()
                .map(move |second| format!("{first}{second}"))
        })
        .collect();
    let mut routes = vec![Request::get("/fine"); CROWD - words.len()];
    // Every tenth.
    for (number, word) in words.iter().enumerate() {
        routes.insert(number * 10, Request::get(&format!("/fail-{word}")));
    }
    let tally = Load {
        requests: CROWD,
        concurrency: CROWD,
        routes,
    }
    .run(server.port);
    ensure!(tally.failures.is_empty(), "{:?}", tally.failures.first());
    run::fence(&observer, "crowd:app", &server)?;
    let metrics = observer.scrape()?;
    let http = words.iter().map(|word| {
        let values = [
            format!("/fail-{word}"),
            "500".to_owned(),
            format!("Fault{word}"),
            format!("crowd.py:fail_{word}"),
        ];
        values.to_vec()
    });
    let labels = ["endpoint", "status", "error_type", "raised_in"];
    let mut counted = metrics.sum_by(HTTP, &[("app", "crowd:app")], &labels);
    counted.retain(|values, _| values.first().is_none_or(|path| path != STARTS_CAPTURE));
    compare::equal(HTTP, &counted, &compare::counted(http))?;
    let leave = |word: &&String| !word.ends_with(['a', 'c', 'e', 'g', 'i']);
    let leave = words.iter().filter(leave);
    let expected =
        compare::counted(leave.map(|word| vec![format!("/fail-{word}"), format!("Fault{word}")]));
    let pid = server.pid().to_string();
    for family in [FAILED, HANDLED] {
        let counted = metrics.sum_by(family, &[("master_pid", &pid)], &["endpoint", "error_type"]);
        compare::equal(family, &counted, &expected)?;
    }
    Ok(())
}
