//! Workers that do not handle requests by Gunicorn's own code are observed by their connections, if their
//! Python cannot be read by these alone: every request is
//! counted once, by route and status, as the client saw it, with a duration near the access log's.

use std::{collections::BTreeMap, fs};

use anyhow::{Result, ensure};
use end_to_end::{
    client::{Client, Request},
    compare,
    facts::Fact,
    gunicorn::{Builder, GunicornServer},
    load::{Load, Tally},
    metrics::Metrics,
    observer::{self, Observer},
    python::Python,
    skip,
    venv::Venv,
};

const REQUESTS: usize = 440;
/// A duration here begins with the first byte read and ends with the last one written, the log's
/// lies within that.
const MEDIAN_US: u64 = 5_000;

#[test]
fn tornado_workers() -> Result<()> {
    // Tornado keeps an access log of its own.
    // An exception that leaves the application is never answered: it is not sent one.
    counts_are_exact(
        "tornado",
        "TornadoWorker has a handle_request of its own",
        false,
        "/checkout",
    )
}

#[test]
fn gevent_pywsgi_workers() -> Result<()> {
    counts_are_exact(
        "gevent_pywsgi",
        "GeventPyWSGIWorker passes its connections to another server",
        true,
        "/crash",
    )
}

#[test]
fn workers_that_handle_requests_themselves() -> Result<()> {
    counts_are_exact(
        "own_worker.OwnWorker",
        "OwnWorker has a handle_request of its own",
        true,
        "/checkout",
    )
}

#[test]
fn uvicorn_workers_on_uvloop() -> Result<()> {
    asgi_counts_are_exact("uvicorn_worker.UvicornWorker")
}

#[test]
fn uvicorn_workers_on_asyncio() -> Result<()> {
    asgi_counts_are_exact("uvicorn_worker.UvicornH11Worker")
}

/// Every kind of request in turn, with one that fails, each with a path of its own.
fn requests(failure: &str) -> Vec<Request> {
    let kinds = [
        Request::get("/welcome"),
        Request::get("/products"),
        Request::get("/products/7"),
        Request::get("/products/1007"),
        Request::new("HEAD", "/products"),
        Request::new("POST", "/orders").body(vec![b'o'; 2000]),
        Request::new("POST", "/orders").body(vec![b'o'; 200_000]),
        Request::get("/search?seconds=0.01"),
        Request::get("/export"),
        Request::new("DELETE", "/cart"),
        Request::get(failure),
    ];
    numbered(&kinds)
}

/// Those in turn, with a path of their own.
fn numbered(kinds: &[Request]) -> Vec<Request> {
    (0..REQUESTS)
        .zip(kinds.iter().cycle())
        .map(|(number, kind)| kind.clone().under(&format!("/{number}")))
        .collect()
}

/// They are observed in full: their tasks show when requests enter, and their connections all else.
fn asgi_counts_are_exact(class: &str) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let kinds = [
        Request::get("/welcome"),
        Request::new("HEAD", "/welcome"),
        Request::new("POST", "/orders").body(vec![b'o'; 2000]),
        Request::new("POST", "/orders").body(vec![b'o'; 200_000]),
        Request::new("POST", "/orders").chunked(&[b'o'; 20_000], 3_000),
        Request::get("/search"),
        Request::get("/export"),
        Request::get("/catalogue"),
        Request::new("DELETE", "/cart"),
        Request::get("/checkout"),
        Request::get("/nowhere"),
    ];
    let server = Builder::new(&Venv::debian()?, "asgi_shop:app")
        .class(class)
        .workers(2)
        .start()?;
    observed_exactly(&server, numbered(&kinds), ("full", "task"), "", false)
}

fn counts_are_exact(class: &str, reason: &str, is_logged: bool, failure: &str) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "shop:app")
        .class(class)
        .workers(2)
        .start()?;
    let layer = ("socket", "socket");
    observed_exactly(&server, requests(failure), layer, reason, is_logged)
}

fn observed_exactly(
    server: &GunicornServer,
    routes: Vec<Request>,
    (level, timed_by): (&str, &str),
    reason: &str,
    is_logged: bool,
) -> Result<()> {
    let observer = Observer::record_for(&[server.pid()])?;
    let load = Load {
        requests: REQUESTS,
        concurrency: 4,
        routes,
    };
    let tally = load.run(server.port);
    ensure!(
        tally.failures.is_empty(),
        "requests failed: {:?}",
        tally.failures
    );
    let metrics = observer.wait_for_requests(server.pid(), REQUESTS)?;
    let master = server.pid().to_string();
    let labels = [("master_pid", master.as_str()), ("level", level)];
    let levels: Vec<_> = metrics
        .all("gunicorn_observer_target_level", &labels)
        .map(|level| level.label("reason").to_owned())
        .collect();
    ensure!(
        levels.len() == 1 && levels[0].contains(reason),
        "levels: {levels:?}"
    );
    answers(&metrics, server.worker_class(), &tally)?;
    compare::nothing_lost(&metrics)?;

    let facts = observer::replay_requests(&observer.stop()?.recording())?;
    let is_timed = |fact: &Fact| fact.timed_by == timed_by && fact.duration_ns.is_some();
    ensure!(facts.iter().all(is_timed), "{facts:#?}");
    ensure!(
        facts
            .iter()
            .all(|fact| server.workers().contains(&fact.pid)),
        "not of its workers: {facts:#?}"
    );
    compare::response_bytes(&metrics, &facts, &tally)?;
    if is_logged {
        let logged = server.wait_for_access_log(REQUESTS)?;
        compare::workers(&metrics, server, &logged)?;
        compare::routes(&metrics, server, &logged)?;
        let differences = compare::duration_differences_us(&facts, &logged)?;
        let median = differences[differences.len() / 2];
        println!("durations are off by {median} µs in the median");
        ensure!(
            median <= MEDIAN_US,
            "durations are off by {median} µs in the median"
        );
    }
    Ok(())
}

/// Statuses and routes are those the client saw, under the right class.
fn answers(metrics: &Metrics, class: &str, tally: &Tally) -> Result<()> {
    let observed = metrics.sum_by(
        "http_server_request_duration_seconds_count",
        &[],
        &["worker_class", "http_route", "http_response_status_code"],
    );
    let mut expected = BTreeMap::new();
    for ((status, path), &count) in &tally.answers {
        let key = vec![class.to_owned(), compare::route(path), status.to_string()];
        *expected.entry(key).or_insert(0.0) += f64::from(u32::try_from(count)?);
    }
    compare::equal("requests by class, route and status", &observed, &expected)
}

/// What ends a response, one after the other on one connection: a length, nothing at all, the last
/// chunk, the next request.
#[test]
fn every_end_of_a_response_on_a_kept_connection() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .class("gevent_pywsgi")
        .start()?;
    let observer = Observer::record_for(&[server.pid()])?;
    let requests = [
        Request::get("/hello"),
        Request::new("HEAD", "/hello"),
        Request::get("/no-content"),
        Request::get("/not-modified"),
        Request::get("/chunked"),
        Request::new("POST", "/upload").body(vec![b'u'; 1_000_000]),
        Request::get("/download"),
        Request::get("/nowhere"),
    ];
    let mut client = Client::connect(server.port)?;
    let mut expected = Vec::new();
    for request in &requests {
        let response = client.request(request)?;
        ensure!(!response.closes, "{} was the last", request.target);
        expected.push((
            request.method.clone(),
            request.path().to_owned(),
            response.status,
            response.bytes(),
            expected.len(),
        ));
    }
    // Counted while the connection is still open: nothing waits for its end.
    let metrics = observer.wait_for_requests(server.pid(), requests.len())?;
    compare::nothing_lost(&metrics)?;
    // Two at once, of which only the first has a readable request line.
    let both = [Request::get("/hello"), Request::get("/chunked")];
    client.send(&both.each_ref().map(Request::bytes).concat())?;
    for request in &both {
        ensure!(client.response(&request.method)?.status == 200);
    }
    observer.wait_for_requests(server.pid(), requests.len() + both.len())?;
    drop(client);

    let facts = observer::replay_requests(&observer.stop()?.recording())?;
    let seen: Vec<_> = facts
        .iter()
        .take(requests.len())
        .map(|fact| {
            (
                fact.method.clone().unwrap_or_default(),
                fact.path.clone().unwrap_or_default(),
                fact.status.unwrap_or_default(),
                fact.response_bytes.unwrap_or_default(),
                usize::try_from(fact.ordinal).unwrap_or_default(),
            )
        })
        .collect();
    ensure!(
        seen == expected,
        "recorded {seen:#?}\nexpected {expected:#?}"
    );
    let [first, second] = &facts[requests.len()..] else {
        anyhow::bail!("not two pipelined requests: {facts:#?}");
    };
    ensure!(first.path.as_deref() == Some("/hello"), "{first:#?}");
    ensure!(
        second.path.is_none() && second.duration_ns.is_none() && second.status == Some(200),
        "{second:#?}"
    );
    Ok(())
}

/// What is left of a body that the application did not read comes by itself, after the response.
#[test]
fn the_rest_of_an_unread_body_hides_no_request() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .class("gevent_pywsgi")
        .start()?;
    let observer = Observer::record_for(&[server.pid()])?;
    let mut client = Client::connect(server.port)?;
    client.send(b"POST /hello HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
    ensure!(client.response("POST")?.status == 200);
    client.send(b"0\r\n\r\n")?;
    for _ in 0..2 {
        ensure!(client.request(&Request::get("/chunked"))?.status == 200);
    }
    let metrics = observer.wait_for_requests(server.pid(), 3)?;
    compare::nothing_lost(&metrics)?;
    let facts = observer::replay_requests(&observer.stop()?.recording())?;
    // The rest and the request behind it may have been read at once: then that has no line.
    let paths: Vec<_> = facts.iter().map(|fact| fact.path.as_deref()).collect();
    ensure!(
        matches!(
            paths[..],
            [Some("/hello"), None | Some("/chunked"), Some("/chunked")]
        ),
        "{facts:#?}"
    );
    Ok(())
}

/// A reload with another worker class changes how its workers are observed.
#[test]
fn a_reload_with_another_worker_class_changes_the_level() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("gunicorn.conf.py");
    fs::write(&config, "workers = 2\nworker_class = 'sync'\n")?;
    let mut server = Builder::new(&Venv::debian()?, "shop:app")
        .configured(&config)
        .workers(2)
        .start()?;
    let observer = Observer::record_for(&[server.pid()])?;
    let master = server.pid().to_string();
    let mut sent = 0;
    for (class, level) in [
        ("sync", "full"),
        ("tornado", "socket"),
        ("sync", "full"),
        ("tornado", "socket"),
    ] {
        if sent > 0 {
            fs::write(&config, format!("workers = 2\nworker_class = '{class}'\n"))?;
            server.reload()?;
        }
        let labels = [("master_pid", master.as_str()), ("level", level)];
        observer.wait_until("the level of the class", |metrics| {
            metrics.sum("gunicorn_observer_target_level", &labels) > 0.0
        })?;
        let load = Load {
            requests: REQUESTS,
            concurrency: 4,
            routes: requests("/checkout"),
        };
        let tally = load.run(server.port);
        ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
        sent += REQUESTS;
        observer.wait_for_requests(server.pid(), sent)?;
    }
    let metrics = observer.scrape()?;
    compare::nothing_lost(&metrics)?;
    let observed = metrics.sum_by(
        "http_server_request_duration_seconds_count",
        &[],
        &["worker_class"],
    );
    let of_class = |class: &str| (vec![class.to_owned()], 2.0 * REQUESTS as f64);
    let expected = BTreeMap::from(["SyncWorker", "TornadoWorker"].map(of_class));
    compare::equal("requests by class", &observed, &expected)
}

/// PyPy is found by its command line, and observed by its connections.
#[test]
fn pypy() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let Some(python) = Python::pypy(&Venv::debian()?)? else {
        return skip::unless_ci("no pypy3");
    };
    let mut server = Builder::new(python, "cell:app").workers(2).start()?;
    // Not by its pid: it is no master before it has had a worker for a moment.
    let observer = Observer::record_for(&[])?;
    let pid = server.pid().to_string();
    let labels = [("master_pid", pid.as_str()), ("level", "socket")];
    observer.wait_until("the master to be found", |metrics| {
        metrics.sum("gunicorn_observer_target_level", &labels) > 0.0
    })?;
    let requests = numbered(&[
        Request::get("/hello"),
        Request::new("HEAD", "/hello"),
        Request::new("POST", "/upload").body(vec![b'u'; 200_000]),
        Request::get("/chunked"),
        Request::get("/no-content"),
        Request::get("/nowhere"),
        Request::get("/raises"),
    ]);
    let mut sent = 0;
    for _ in 0..2 {
        let load = Load {
            requests: REQUESTS,
            concurrency: 4,
            routes: requests.clone(),
        };
        let tally = load.run(server.port);
        ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
        sent += REQUESTS;
        let metrics = observer.wait_for_requests(server.pid(), sent)?;
        compare::nothing_lost(&metrics)?;
        let logged = server.wait_for_access_log(sent)?;
        let by = [
            "http_request_method",
            "http_route",
            "http_response_status_code",
        ];
        let family = "http_server_request_duration_seconds_count";
        let expected = compare::counted(logged.iter().map(|line| {
            vec![
                line.method.clone(),
                compare::route(&line.path),
                line.status.to_string(),
            ]
        }));
        compare::equal("requests", &metrics.sum_by(family, &[], &by), &expected)?;
        let level = metrics
            .all("gunicorn_observer_target_level", &labels)
            .next();
        ensure!(level.is_some_and(|level| level.label("reason").contains("PyPy")));
        // The next ones are served by workers forked under observation.
        server.reload()?;
    }
    Ok(())
}
