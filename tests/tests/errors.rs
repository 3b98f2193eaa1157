//! Why requests fail: what the observer tells of each 5xx, of each exception that leaves an
//! application and of each that Gunicorn handles, held against what Python did.

use std::{collections::BTreeMap, thread};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use end_to_end::{
    client::{Client, Request},
    compare,
    errors::{
        bad::{BAD, Bad, CODING_RAISED_IN, Comes},
        case::FIRST_LOOK,
        framework::{FRAMEWORKS, Framework, SHOPS, STANDS},
        run,
        told::Told,
    },
    gunicorn::{Builder, GunicornServer},
    load::{Load, Tally},
    matrix::{
        place::Place,
        product::{Cell, INTERPRETERS, Interpreter},
    },
    metrics::Metrics,
    observer::{self, Observer},
    skip, wait,
};

const FAILED: &str = "gunicorn_worker_failed_requests_total";
const HANDLED: &str = "gunicorn_worker_error_handling_total";
const HTTP: &str = "gunicorn_http_errors_total";

#[test]
fn each_error_of_each_framework_is_told_with_its_class_and_its_function() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let rows = run::run(&Place::find()?, &observer::binary()?, &STANDS)?;
    ensure!(!rows.is_empty(), "no shop was tried");
    let tried: usize = rows.iter().map(|row| row.cases.len()).sum();
    let wrong: Vec<_> = rows.iter().flat_map(run::Row::all_wrong).collect();
    ensure!(
        wrong.is_empty(),
        "{} of {tried} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// To each framework: half of them before the observer looks closer, half after.
const GOOD: usize = 10_000;

#[test]
fn ten_thousand_good_requests_of_each_framework_make_no_error() -> Result<()> {
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
    // Connections are kept by workers with threads.
    let stand = STANDS
        .into_iter()
        .find(|stand| stand.framework == framework && stand.class == "gthread")
        .context("no stand has threads")?;
    let server = stand.server(place)?.start()?;
    run::wait_until_observed(observer, &server)?;
    let paths = [
        "/ok", "/ok", "/ok", "/ok", "/ok", "/ok", "/ok", "/handled", "/aborts", "/nowhere",
    ];
    let load = Load {
        requests: GOOD / 2,
        concurrency: 2,
        routes: paths.map(Request::get).to_vec(),
    };
    all_good(&load.run(server.port))?;
    nothing_told(&observer.scrape()?, &stand.name(), &server)?;
    run::look_closer(observer, &stand.name(), &server)?;
    all_good(&load.run(server.port))?;
    run::fence(observer, &stand.name(), &server)?;
    nothing_told(&observer.scrape()?, &stand.name(), &server)
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

/// But of the request that made it look closer.
fn nothing_told(metrics: &Metrics, name: &str, server: &GunicornServer) -> Result<()> {
    let mut told = Told::by_path(metrics, name, server.pid());
    told.remove(FIRST_LOOK);
    let told: Vec<_> = told
        .iter()
        .map(|(path, told)| format!("{path}: {told}"))
        .collect();
    ensure!(
        told.is_empty(),
        "told of good requests: {}",
        told.join("; ")
    );
    Ok(())
}

/// As `tests/apps/errors/crowd.py` has them.
const CROWD: usize = 1000;
const LETTERS: &str = "abcdefghij";

#[test]
fn a_hundred_ways_to_fail_among_a_thousand_greenlets_are_each_told_as_what_they_are() -> Result<()>
{
    if skip::privileged()? {
        return Ok(());
    }
    let place = Place::find()?;
    let cell = Cell {
        interpreter: interpreter("pyenv-3.11")?,
        gunicorn: "23.0.0",
        class: "gevent",
    };
    let server = Builder::new(place.python(&cell)?, "crowd:app")
        .class(cell.class)
        .argument("--pythonpath")
        .argument(SHOPS)
        .argument("--worker-connections")
        .argument("2000")
        .start()?;
    let observer = Observer::run()?;
    run::wait_until_observed(&observer, &server)?;
    run::look_closer(&observer, "crowd:app", &server)?;
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
    let mut told = metrics.sum_by(HTTP, &[("app", "crowd:app")], &labels);
    told.retain(|values, _| values.first().is_none_or(|path| path != FIRST_LOOK));
    compare::equal(HTTP, &told, &compare::counted(http))?;
    let leave = |word: &&String| !word.ends_with(['a', 'c', 'e', 'g', 'i']);
    let leave = words.iter().filter(leave);
    let expected =
        compare::counted(leave.map(|word| vec![format!("/fail-{word}"), format!("Fault{word}")]));
    let pid = server.pid().to_string();
    for family in [FAILED, HANDLED] {
        let told = metrics.sum_by(family, &[("master_pid", &pid)], &["endpoint", "error_type"]);
        compare::equal(family, &told, &expected)?;
    }
    Ok(())
}

#[test]
fn bad_requests_are_told_by_gunicorns_own_classes() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let place = Place::find()?;
    let observer = Observer::run()?;
    let mut wrong = Vec::new();
    for (era, gunicorn) in ["20.1.0", "23.0.0", "27.0.1"].into_iter().enumerate() {
        for class in ["sync", "gthread", "gevent"] {
            let cell = Cell {
                interpreter: interpreter("pyenv-3.11")?,
                gunicorn,
                class,
            };
            if let Err(error) = bad_requests(&place, &observer, &cell, era) {
                wrong.push(format!("{cell}: {error:#}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn bad_requests(place: &Place, observer: &Observer, cell: &Cell, era: usize) -> Result<()> {
    let name = format!("bad-{}-{}", cell.gunicorn, cell.class);
    let threads = if cell.class == "gthread" { 2 } else { 1 };
    let server = Builder::new(place.python(cell)?, "raw:app")
        .class(cell.class)
        .threads(threads)
        .argument("--name")
        .argument(&name)
        .start()?;
    run::wait_until_observed(observer, &server)?;
    let (mut failed, mut handled, mut http) = (Vec::new(), Vec::new(), Vec::new());
    for bad in &BAD {
        let comes = bad.comes[era];
        send(&server, bad, comes).with_context(|| bad.what)?;
        if let Comes::ClosedInside(class) | Comes::RefusedInside(_, class) = comes {
            failed.push(vec![class.to_owned()]);
        }
        if let Comes::Refused(status, class) | Comes::RefusedInside(status, class) = comes {
            handled.push(vec![class.to_owned()]);
            if status >= 500 {
                let raised_in = CODING_RAISED_IN.to_owned();
                http.push(vec![status.to_string(), class.to_owned(), raised_in]);
            }
        }
    }
    fence(observer, &name, &server)?;
    let pid = server.pid().to_string();
    let (of_master, of_app) = ([("master_pid", pid.as_str())], [("app", name.as_str())]);
    let told = |metrics: &Metrics| -> [(&str, BTreeMap<Vec<String>, f64>); 3] {
        [
            (FAILED, metrics.sum_by(FAILED, &of_master, &["error_type"])),
            (
                HANDLED,
                metrics.sum_by(HANDLED, &of_master, &["error_type"]),
            ),
            (
                HTTP,
                metrics.sum_by(HTTP, &of_app, &["status", "error_type", "raised_in"]),
            ),
        ]
    };
    let expected = [failed, handled, http].map(compare::counted);
    let wrong: Vec<_> = told(&observer.scrape()?)
        .into_iter()
        .zip(&expected)
        .filter_map(|((family, told), expected)| compare::equal(family, &told, expected).err())
        .map(|error| error.to_string())
        .collect();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

fn send(server: &GunicornServer, bad: &Bad, comes: Comes) -> Result<()> {
    let mut client = Client::connect(server.port)?;
    client.send(&(bad.bytes)())?;
    let expected = match comes {
        Comes::Refused(status, _) | Comes::RefusedInside(status, _) => status,
        Comes::Served => 200,
        Comes::ClosedInside(_) => return client.wait_for_close(),
        // It goes, and the worker notices.
        Comes::Awaited => return Ok(()),
    };
    let answer = client.response("GET")?;
    ensure!(
        answer.status == expected,
        "answered {}, not {expected}",
        answer.status
    );
    Ok(())
}

/// A last request, after which all others are counted.
fn fence(observer: &Observer, name: &str, server: &GunicornServer) -> Result<()> {
    let request = Request::get("/fence").header("Connection", "close");
    let answer = server.fetch(&request)?;
    ensure!(answer.status == 404, "the fence is {}", answer.status);
    let labels = [("app", name), ("http_route", "/fence")];
    wait::until("the last request to be counted", || {
        let metrics = observer.scrape()?;
        let counted = metrics.sum("http_server_request_duration_seconds_count", &labels);
        Ok((counted > 0.0).then_some(()))
    })
}

fn interpreter(name: &str) -> Result<Interpreter> {
    INTERPRETERS
        .into_iter()
        .find(|interpreter| interpreter.name == name)
        .ok_or_else(|| anyhow!("no interpreter is named {name}"))
}
