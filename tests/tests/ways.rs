//! Each way to run a Gunicorn: what its clients got, what it logged and what the observer counted or knows to
//! be lost are equal.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::{Place, Request},
    compare,
    gunicorn::Builder,
    matrix::{
        place,
        product::{Cell, interpreter_named},
    },
    observer::Observer,
    skip,
    tls::Certificate,
};
use tempfile::TempDir;

const CLASSES: [&str; 4] = ["sync", "gthread", "gevent", "eventlet"];
const GUNICORNS: [&str; 2] = ["23.0.0", "27.0.1"];
const ROUTES: [&str; 5] = ["/hello", "/chunked", "/no-content", "/nowhere", "/raises"];
const ROUNDS: usize = 6;
const PATCHES: &str = "from gevent import monkey\nmonkey.patch_all()\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Preloaded,
    /// By its configuration.
    Patched,
    PatchedAndPreloaded,
    Tls,
}

#[test]
fn preloaded() -> Result<()> {
    each(Way::Preloaded)
}

#[test]
fn patched_by_its_configuration() -> Result<()> {
    each(Way::Patched)
}

#[test]
fn patched_and_preloaded() -> Result<()> {
    each(Way::PatchedAndPreloaded)
}

#[test]
fn over_tls() -> Result<()> {
    each(Way::Tls)
}

fn each(way: Way) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let place = place::Place::find()?;
    let mut wrong = Vec::new();
    for gunicorn in GUNICORNS {
        for class in CLASSES {
            let cell = Cell {
                interpreter: interpreter_named("debian-3.11")?,
                gunicorn,
                class,
            };
            // Gunicorn 27 has no eventlet, and what is patched for gevent runs on nothing else.
            let is_patched = matches!(way, Way::Patched | Way::PatchedAndPreloaded);
            if cell.cannot_run().is_some() || (is_patched && class == "eventlet") {
                continue;
            }
            if let Err(error) = one(&place, &cell, way) {
                wrong.push(format!("{cell}: {error:#}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{way:?}:\n{}", wrong.join("\n"));
    Ok(())
}

fn one(place: &place::Place, cell: &Cell, way: Way) -> Result<()> {
    let folder = TempDir::new().context("cannot make a folder")?;
    let file = folder.path().join("gunicorn.conf.py");
    std::fs::write(&file, PATCHES)?;
    let certificate = Arc::new(Certificate::new()?);
    let threads = if cell.class == "gthread" { 2 } else { 1 };
    let builder = Builder::new(place.python(cell)?, "cell:app")
        .class(cell.class)
        .threads(threads);
    let patched = |builder: Builder| {
        builder
            .argument("--config")
            .argument(&file.display().to_string())
    };
    let mut server = match way {
        Way::Preloaded => builder.argument("--preload"),
        Way::Patched => patched(builder),
        Way::PatchedAndPreloaded => patched(builder).argument("--preload"),
        Way::Tls => builder.tls(&certificate),
    }
    .start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let level = observer
        .scrape()?
        .sum("gunicorn_observer_target_level", &[("level", "full")]);
    ensure!(level == 1.0, "not at level full");
    let at = if way == Way::Tls {
        Place::Tls(server.port, certificate)
    } else {
        Place::Port(server.port)
    };
    let mut answered = 0;
    for round in 0..ROUNDS {
        let mut kept = None;
        for route in ROUTES {
            let mut request = Request::get(route);
            // A connection for one request, and one for several.
            if round % 2 == 0 || cell.class == "sync" || route == "/raises" {
                request = request.header("Connection", "close");
                at.connect()?.request(&request)?;
            } else {
                // Not before there is something to ask: a worker may wait for a silent connection.
                let client = match &mut kept {
                    Some(client) => client,
                    None => kept.insert(at.connect()?),
                };
                client.request(&request)?;
            }
            answered += 1;
        }
    }
    let metrics = observer.wait_for_requests(server.pid(), answered)?;
    compare::nothing_lost(&metrics)?;
    let counted = metrics.sum("gunicorn_worker_requests_total", &[]);
    let lost = metrics.sum("gunicorn_requests_lost_total", &[]);
    let by_route = metrics.sum("http_server_request_duration_seconds_count", &[]);
    let logged = server.end()?.len();
    let all = [answered as f64, counted + lost, by_route, logged as f64];
    ensure!(
        all.iter()
            .all(|count| count.to_string() == all[0].to_string()),
        "answered, counted or lost, by route, logged: {all:?}"
    );
    Ok(())
}
