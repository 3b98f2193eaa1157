//! HTTP/2 of newer Gunicorns: every stream is a request, with method, path, status and sizes; by prior
//! knowledge and over TLS, one after the other and several at once on a connection.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    backend::Backend,
    client::Request,
    compare,
    facts::Fact,
    gunicorn::{Builder, GunicornServer},
    matrix::{
        place::Place,
        product::{Cell, HTTP2, interpreter_named},
    },
    observer::{self, Observer},
    skip,
    tls::Certificate,
};

const AT_ONCE: usize = 10;
/// It has no HTTP/2 of its own; the packages of Gunicorn's have a client.
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/apps/http2_client.py");
const PYTHON: &str = "/usr/bin/python3.11";

/// Method, path, status, and bytes of both bodies.
type Seen = (String, String, Option<u16>, Option<u64>, Option<u64>);

#[test]
fn gthread_workers() -> Result<()> {
    each_stream_is_a_request("gthread")
}

#[test]
fn gevent_workers() -> Result<()> {
    each_stream_is_a_request("gevent")
}

fn each_stream_is_a_request(class: &'static str) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let place = Place::find()?;
    let packages = place.frameworks(HTTP2);
    ensure!(
        packages.exists(),
        "no {}: `cargo xtask setup`",
        packages.display()
    );
    let python = place.python(&Cell {
        interpreter: interpreter_named("debian-3.11")?,
        gunicorn: "27.0.1",
        class,
    })?;
    let certificate = Certificate::new()?;
    let plain = Builder::new(python.importing_first(&packages), "raw:app")
        .class(class)
        .threads(if class == "gthread" { 4 } else { 1 })
        .argument("--http-protocols=h2,h1")
        .argument("--http2-cleartext=both");
    let tls = plain.clone().tls(&certificate);
    let ways = [("plain", &plain, None), ("TLS", &tls, Some(&certificate))];
    let mut failed = Vec::new();
    for backend in observer::backends()? {
        for (name, builder, certificate) in ways {
            let server = builder.start()?;
            if let Err(error) = streams(&server, backend, certificate, &packages) {
                failed.push(format!("{name}, {backend:?}: {error:#}"));
            }
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn streams(
    server: &GunicornServer,
    backend: Backend,
    certificate: Option<&Certificate>,
    packages: &Path,
) -> Result<()> {
    let observer = Observer::record_by(backend, &[server.pid()])?;
    let wanted = |method: &str, path: &str, status, sent, received| -> Seen {
        let (sent, received) = (Some(sent), Some(received));
        (
            method.to_owned(),
            path.to_owned(),
            Some(status),
            sent,
            received,
        )
    };
    // Method, path, bytes of the request's body, status, bytes of the response's body.
    let talk = [
        ("GET", "/hello", 0, 200, 6),
        ("HEAD", "/hello", 0, 200, 0),
        ("GET", "/no-content", 0, 204, 0),
        ("GET", "/not-modified", 0, 304, 0),
        ("GET", "/chunked", 0, 200, 80),
        ("GET", "/large-head", 0, 200, 6),
        ("GET", "/drip", 0, 200, 5 * 1024 * 1024),
        ("GET", "/nowhere", 0, 404, 0),
        ("POST", "/upload", 100_000, 200, 7),
        ("PROPFIND", "/upload", 100, 200, 4),
    ];
    let fetch = |requests: &[_]| fetch(server.port, certificate, packages, requests);
    let mut expected: Vec<Seen> = Vec::new();
    for (method, path, sent, status, received) in talk {
        ensure!(
            fetch(&[(method, path, sent)])? == [status],
            "{method} {path}"
        );
        expected.push(wanted(method, path, status, sent, received));
    }
    // Streams of one connection.
    let at_once = [("GET", "/slow?seconds=0.05", 0); AT_ONCE];
    ensure!(fetch(&at_once)? == [200; AT_ONCE]);
    expected.extend(at_once.map(|_| wanted("GET", "/slow", 200, 0, 6)));
    let mixed = talk.map(|(method, path, sent, ..)| (method, path, sent));
    ensure!(fetch(&mixed)? == talk.map(|(_, _, _, status, _)| status));
    for (method, path, sent, status, received) in talk {
        expected.push(wanted(method, path, status, sent, received));
    }
    // A request of HTTP/1.1 at the same port.
    if certificate.is_none() {
        let hello = Request::get("/hello").header("Connection", "close");
        ensure!(server.fetch(&hello)?.status == 200);
        expected.push(wanted("GET", "/hello", 200, 0, 6));
    }
    let metrics = observer.wait_for_requests(server.pid(), expected.len())?;
    compare::nothing_lost(&metrics)?;
    let facts = observer.stop()?.requests()?;
    for fact in &facts {
        ensure!(fact.timed_by == "python", "{fact:#?}");
        ensure!(fact.duration_ns.is_some_and(|ns| ns > 0), "{fact:#?}");
        ensure!(fact.times_ns().is_sorted(), "{fact:#?}");
    }
    let mut seen: Vec<_> = facts.iter().map(seen).collect();
    seen.sort();
    expected.sort();
    let pairs = seen.iter().zip(&expected);
    let differ: Vec<_> = pairs
        .filter(|(seen, expected)| !is_right(seen, expected))
        .map(|(seen, expected)| format!("recorded {seen:?}, expected {expected:?}"))
        .collect();
    ensure!(differ.is_empty(), "{}", differ.join("\n"));
    Ok(())
}

/// Frames of several streams come in one read: the bytes of a request's body may be unknown.
fn is_right(seen: &Seen, expected: &Seen) -> bool {
    let (method, path, status, sent, received) = expected.clone();
    let sent = seen.3.and(sent);
    *seen == (method, path, status, sent, received)
}

fn seen(fact: &Fact) -> Seen {
    let Fact { method, path, .. } = fact;
    (
        method.clone().unwrap_or_default(),
        path.clone().unwrap_or_default(),
        fact.status,
        fact.request_body_bytes,
        fact.response_body_bytes,
    )
}

/// Sends these requests at once on one connection: method, target, and bytes of the body of each.
/// Returns their statuses.
fn fetch(
    port: u16,
    certificate: Option<&Certificate>,
    packages: &Path,
    requests: &[(&str, &str, u64)],
) -> Result<Vec<u16>> {
    let file = certificate.map(|certificate| certificate.files()[0].clone());
    let output = Command::new(PYTHON)
        .arg(CLIENT)
        .arg(port.to_string())
        .arg(file.unwrap_or_else(|| "-".into()))
        .args(
            requests
                .iter()
                .map(|(method, target, bytes)| format!("{method} {target} {bytes}")),
        )
        .env("PYTHONPATH", packages)
        .output()
        .with_context(|| format!("cannot run {PYTHON}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let statuses = said.lines().map(str::parse).collect::<Result<Vec<_>, _>>();
    let error = String::from_utf8_lossy(&output.stderr);
    statuses.with_context(|| format!("{}: {said}{error}", output.status))
}
