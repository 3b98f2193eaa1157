//! Malformed requests: reported by each Gunicorn's own exception classes, on each kind of worker.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use end_to_end::{
    client::Client,
    compare,
    errors::{
        malformed::{BAD, Bad, CODING_RAISED_IN, Comes},
        run,
    },
    gunicorn::{Builder, GunicornServer},
    matrix::{
        place::Place,
        product::{Cell, interpreter_named},
    },
    metrics::Metrics,
    observer::Observer,
    skip,
};

const FAILED: &str = "gunicorn_worker_failed_requests_total";
const HANDLED: &str = "gunicorn_worker_error_handling_total";
const HTTP: &str = "gunicorn_http_errors_total";

#[test]
fn malformed_requests_are_reported_by_gunicorns_own_classes() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let place = Place::find()?;
    let observer = Observer::run()?;
    let mut wrong = Vec::new();
    for (era, gunicorn) in ["20.1.0", "23.0.0", "27.0.1"].into_iter().enumerate() {
        for class in ["sync", "gthread", "gevent"] {
            let cell = Cell {
                interpreter: interpreter_named("pyenv-3.11")?,
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
    run::fence(observer, &name, &server)?;
    let pid = server.pid().to_string();
    let (of_master, of_app) = ([("master_pid", pid.as_str())], [("app", name.as_str())]);
    let counted = |metrics: &Metrics| -> [(&str, BTreeMap<Vec<String>, f64>); 3] {
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
    let wrong: Vec<_> = counted(&observer.scrape()?)
        .into_iter()
        .zip(&expected)
        .filter_map(|((family, counts), expected)| compare::equal(family, &counts, expected).err())
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
