//! Every kind of request and response makes exactly the expected records, in each backend: plain, over
//! Gunicorn's own TLS, behind the PROXY protocol, in the protocol of uWSGI. Sizes are bytes on the wire,
//! as the client counted them. One worker serves all cases of its class; a failure names its case.

use std::sync::Arc;

use anyhow::{Result, ensure};
use end_to_end::{
    case::{At, Expected, Stand, Talk},
    client::{Client, Place, Request},
    facts::Fact,
    gunicorn::Builder,
    matrix::{
        place,
        product::{Cell, interpreter_named},
    },
    python::Python,
    skip,
    tls::Certificate,
    venv::Venv,
};

type Case = (&'static str, Talk);

const FIVE_MEGABYTES: usize = 5 * 1024 * 1024;
/// Gunicorn reads 4,094 bytes of a request line, and 8,190 of a header.
const LONG_LINE: usize = 5_000;
const LARGE_HEADER: usize = 10_000;
/// What a client sends of a body before it leaves.
const PART: usize = 10_000;
const LEAVING_WITHIN: &str = "a client that leaves within the body";
/// What Gunicorn writes before the response to a client that waits for it.
const INTERIM: &str = "HTTP/1.1 100 Continue\r\n\r\n";
/// The versions of the PROXY protocol, with the same addresses.
const PROXY_1: &[u8] = b"PROXY TCP4 10.1.2.3 10.9.9.9 4444 80\r\n";
const PROXY_2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x01\x02\x03\x0a\x09\x09\x09\x11\x5c\0\x50";

#[test]
fn sync_workers() -> Result<()> {
    plain("sync", Which::Old, with_system_exit(every_class()))
}

#[test]
fn gthread_workers() -> Result<()> {
    plain("gthread", Which::Old, threads())
}

#[test]
fn gevent_workers() -> Result<()> {
    plain("gevent", Which::Old, greenlets())
}

#[test]
fn eventlet_workers() -> Result<()> {
    plain("eventlet", Which::Old, greenlets())
}

#[test]
fn sync_workers_of_a_new_gunicorn() -> Result<()> {
    plain("sync", Which::New, with_system_exit(every_class()))
}

/// Its threads read what came with the request before.
#[test]
fn gthread_workers_of_a_new_gunicorn() -> Result<()> {
    plain("gthread", Which::New, greenlets())
}

#[test]
fn gevent_workers_of_a_new_gunicorn() -> Result<()> {
    plain("gevent", Which::New, greenlets())
}

#[test]
fn sync_workers_with_their_own_tls() -> Result<()> {
    over_tls("sync", every_class())
}

#[test]
fn gthread_workers_with_their_own_tls() -> Result<()> {
    over_tls("gthread", threads())
}

#[test]
fn gevent_workers_with_their_own_tls() -> Result<()> {
    over_tls("gevent", threads())
}

#[test]
fn behind_the_proxy_protocol() -> Result<()> {
    proxied(Which::Old, "--proxy-protocol", PROXY_1)
}

#[test]
fn behind_the_second_version_of_the_proxy_protocol() -> Result<()> {
    proxied(Which::New, "--proxy-protocol=v2", PROXY_2)
}

#[test]
fn in_the_protocol_of_uwsgi() -> Result<()> {
    each(
        Which::New,
        &["sync", "gthread", "gevent"],
        |class, builder| {
            let name = format!("{class} worker, uWSGI");
            let builder = builder.argument("--protocol=uwsgi");
            Stand::new(&name, builder, Place::Uwsgi).try_all(&without_heads())
        },
    )
}

/// A Gunicorn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// Version 23.
    Old,
    /// Version 27.
    New,
}

/// Tries each class; every failed one is named.
fn each(
    which: Which,
    classes: &[&'static str],
    each: impl Fn(&str, Builder) -> Result<()>,
) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let mut failed = Vec::new();
    for &class in classes {
        let python: Python = match which {
            Which::Old => (&Venv::debian()?).into(),
            Which::New => place::Place::find()?.python(&Cell {
                interpreter: interpreter_named("debian-3.11")?,
                gunicorn: "27.0.1",
                class,
            })?,
        };
        let threads = if class == "gthread" { 2 } else { 1 };
        let builder = Builder::new(python, "raw:app")
            .class(class)
            .threads(threads);
        if let Err(error) = each(class, builder) {
            failed.push(format!("{error:#}"));
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn plain(class: &'static str, which: Which, cases: Vec<Case>) -> Result<()> {
    each(which, &[class], |class, builder| {
        let name = format!("{class} worker, {which:?}");
        Stand::new(&name, builder, Place::Port).try_all(&cases)
    })
}

fn over_tls(class: &'static str, mut cases: Vec<Case>) -> Result<()> {
    // Python's `ssl` raises an exception where a plain socket has an end.
    cases.retain(|(name, _)| *name != LEAVING_WITHIN);
    let certificate = Arc::new(Certificate::new()?);
    each(Which::Old, &[class], |class, builder| {
        let (builder, certificate) = (builder.tls(&certificate), Arc::clone(&certificate));
        let https = move |port| Place::Tls(port, Arc::clone(&certificate));
        Stand::new(&format!("{class} worker, TLS"), builder, https).try_all(&cases)
    })
}

fn proxied(which: Which, argument: &str, line: &'static [u8]) -> Result<()> {
    each(which, &["sync", "gthread", "gevent"], |class, builder| {
        let name = format!("{class} worker, {argument}");
        let builder = builder.argument(argument);
        let cases = if class == "sync" {
            every_class()
        } else {
            threads()
        };
        Stand::new(&name, builder, move |port| Place::Proxied(port, line)).try_all(&cases)
    })
}

/// With requests that follow on a connection.
fn threads() -> Vec<Case> {
    let mut cases = every_class();
    cases.push(("requests of a kept connection are numbered", kept()));
    cases.push((
        "an unread body is no request, the next one is",
        unread_then_read(),
    ));
    cases
}

/// With requests that come with the one before.
fn greenlets() -> Vec<Case> {
    let mut cases = threads();
    cases.push(("pipelined requests are distinguished", pipelined()));
    cases
}

fn every_class() -> Vec<Case> {
    let mut cases = without_heads();
    cases.extend([
        (
            "a chunked upload counts its framing",
            answered(upload().chunked(&[b'u'; 100_000], 1000), 200, 7),
        ),
        (
            "a method of its own",
            answered(Request::new("FROBNICATE", "/hello"), 200, 6),
        ),
        ("a request sent a byte at a time", byte_by_byte()),
        ("a client that waits for 100 Continue", continued()),
        ("HTTP/1.0 and a response without length", until_closed()),
        ("an unread body is no request", unread()),
        (
            "a request that cannot be parsed",
            refused(b"GARBAGE\r\n\r\n"),
        ),
        (
            "a method that is none",
            refused(b"get /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ),
        (
            "a request line that is too long",
            refused(&Request::get(&format!("/{}", "x".repeat(LONG_LINE))).bytes()),
        ),
        (
            "a header that is too large",
            refused(
                &Request::get("/hello")
                    .header("X-Large", &"x".repeat(LARGE_HEADER))
                    .bytes(),
            ),
        ),
        (
            "an exception after the first chunk",
            raising_late("/cut-chunks"),
        ),
        ("a client that sends nothing", silent(b"")),
        (
            "a client that leaves within the head",
            silent(b"GET /hello HTTP/1.1\r\nHost: "),
        ),
        (
            LEAVING_WITHIN,
            leaving_early(
                b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
                PART,
            ),
        ),
    ]);
    cases
}

/// Cases that say nothing of the bytes of a request's head.
fn without_heads() -> Vec<Case> {
    vec![
        (
            "a HEAD request has a head and no body",
            answered(Request::new("HEAD", "/hello"), 200, 0),
        ),
        (
            "a 204 has no body",
            answered(Request::get("/no-content"), 204, 0),
        ),
        (
            "a 304 has no body",
            answered(Request::get("/not-modified"), 304, 0),
        ),
        (
            "a chunked response counts its framing",
            answered(Request::get("/chunked"), 200, 80),
        ),
        (
            "a response head of more than 2 KiB",
            answered(Request::get("/large-head"), 200, 6),
        ),
        (
            "a response sent by the write callable",
            answered(Request::get("/write"), 200, 6),
        ),
        (
            "a query is not part of the path",
            answered(Request::get("/slow?seconds=0.05"), 200, 6),
        ),
        (
            "a large download",
            answered(Request::get("/download"), 200, FIVE_MEGABYTES),
        ),
        (
            "a file sent by the file wrapper",
            answered(Request::get("/file"), 200, FIVE_MEGABYTES),
        ),
        (
            "a request body larger than the buffers",
            answered(upload().body(vec![b'u'; FIVE_MEGABYTES]), 200, 8),
        ),
        (
            "a method of WebDAV, with a body",
            answered(
                Request::new("PROPFIND", "/upload").body(vec![b'u'; 100]),
                200,
                4,
            ),
        ),
        (
            "a response to nowhere",
            answered(Request::get("/nowhere"), 404, 0),
        ),
        ("an exception in the application", raising("/raises")),
        (
            "an exception before the first byte of the body",
            raising("/raises-in-body"),
        ),
        (
            "an exception after the headers were sent",
            raising_late("/raises-late"),
        ),
        ("OSError has no response", unanswered("/os-error")),
        ("ConnectionResetError has no response", unanswered("/reset")),
        ("a client that leaves during the response", leaving()),
        ("a client that leaves before the response", leaving_before()),
    ]
}

/// A sync worker answers it like another exception. It ends a thread of gthread, which forgets the
/// connection, and a whole gevent worker.
fn with_system_exit(mut cases: Vec<Case>) -> Vec<Case> {
    cases.push(("SystemExit in the application", raising("/system-exit")));
    cases
}

fn upload() -> Request {
    Request::new("POST", "/upload")
}

fn answered(request: Request, status: u16, body: usize) -> Talk {
    Box::new(move |at| {
        let response = at.fetch(&request)?;
        response.is_whole(status, body)?;
        Ok(vec![Expected::of(&request, &response)])
    })
}

fn byte_by_byte() -> Talk {
    Box::new(|at| {
        let request = Request::get("/hello");
        let send = |client: &mut Client| client.send_byte_by_byte(&request.bytes());
        let response = at.exchange(&request, send)?;
        response.is_whole(200, 6)?;
        Ok(vec![Expected::of(&request, &response)])
    })
}

fn continued() -> Talk {
    Box::new(|at| {
        let waiting = upload().header("Expect", "100-continue");
        let request = waiting.clone().body(vec![b'u'; PART]);
        let response = at.exchange(&request, |client| {
            let bytes = request.bytes();
            let (head, body) = bytes.split_at(bytes.len() - PART);
            client.send(head)?;
            let interim = client.head_bytes()?;
            ensure!(interim == INTERIM.len() as u64, "{interim} bytes");
            client.send(body)
        })?;
        response.is_whole(200, 6)?;
        let mut expected = Expected::of(&request, &response);
        expected.fact.response_bytes = Some(response.bytes() + INTERIM.len() as u64);
        Ok(vec![expected])
    })
}

/// The worker closes after the response, and its body has no framing.
fn until_closed() -> Talk {
    Box::new(|at| {
        let request = Request::get("/chunked");
        let send = |client: &mut Client| client.send(b"GET /chunked HTTP/1.0\r\n\r\n");
        let response = at.exchange(&request, send)?;
        response.is_whole(200, 80)?;
        Ok(vec![Expected::of(&request, &response)])
    })
}

fn unread() -> Talk {
    Box::new(|at| {
        let request = Request::new("POST", "/hello").full_of_requests();
        let request = request.header("Connection", "close");
        let response = at.fetch(&request)?;
        response.is_whole(200, 6)?;
        Ok(vec![Expected {
            upload_below: u64::try_from(request.body_bytes()).ok(),
            ..Expected::of(&request, &response)
        }])
    })
}

fn raising(path: &'static str) -> Talk {
    Box::new(move |at| {
        let request = Request::get(path);
        let response = at.fetch(&request)?;
        response.is_whole(500, response.body.len())?;
        let mut expected = Expected::of(&request, &response);
        expected.fact.error_handled = true;
        Ok(vec![expected])
    })
}

/// Gunicorn can only close: the status the client saw stays the one it was.
fn raising_late(path: &'static str) -> Talk {
    Box::new(move |at| {
        let request = Request::get(path);
        let response = at.fetch(&request)?;
        let seen = (response.status, response.body.len(), response.complete);
        ensure!(seen == (200, 6, false), "answered {seen:?}");
        Ok(vec![Expected::of(&request, &response)])
    })
}

/// Gunicorn takes the exception for one of its socket, and closes.
fn unanswered(path: &'static str) -> Talk {
    Box::new(move |at| {
        let request = Request::get(path);
        let mut client = at.connect()?;
        client.ask(&request)?;
        client.wait_for_close()?;
        Ok(vec![Expected::exactly(Fact {
            method: Some("GET".to_owned()),
            path: Some(path.to_owned()),
            request_body_bytes: Some(0),
            was_cut: true,
            ..Fact::default()
        })])
    })
}

/// Refused by Gunicorn, whose parser may know no method and no path.
fn refused(bytes: &[u8]) -> Talk {
    let bytes = bytes.to_vec();
    Box::new(move |at| {
        let mut client = at.connect()?;
        client.send(&bytes)?;
        let response = client.response("GET")?;
        ensure!((400..500).contains(&response.status), "{response:?}");
        client.wait_for_close()?;
        let fact = Fact {
            status: Some(response.status),
            request_body_bytes: Some(0),
            response_bytes: Some(response.bytes()),
            response_body_bytes: Some(response.body_bytes),
            error_handled: true,
            bad_request: true,
            ..Fact::default()
        };
        Ok(vec![Expected {
            entered: false,
            upload_below: Some(1),
            ..Expected::exactly(fact)
        }])
    })
}

fn silent(bytes: &'static [u8]) -> Talk {
    Box::new(move |at| {
        at.connect()?.send(bytes)?;
        Ok(Vec::new())
    })
}

fn leaving() -> Talk {
    Box::new(|at| {
        let logged = at.server.access_log()?.len();
        let mut client = at.connect()?;
        client.ask(&Request::get("/drip"))?;
        let head_bytes = client.head_bytes()?;
        drop(client);
        at.server.wait_for_access_log(logged + 1)?;
        let fact = Fact {
            method: Some("GET".to_owned()),
            path: Some("/drip".to_owned()),
            status: Some(200),
            request_body_bytes: Some(0),
            response_bytes: Some(head_bytes),
            client_gone: true,
            ..Fact::default()
        };
        Ok(vec![Expected {
            body_below: u64::try_from(FIVE_MEGABYTES).ok(),
            ..Expected::exactly(fact)
        }])
    })
}

/// The head is written to a client that is gone, which the worker learns by the body.
fn leaving_before() -> Talk {
    Box::new(|at| {
        gone(at, &Request::get("/slow?seconds=0.1"), |client, request| {
            client.ask(request)
        })
    })
}

fn leaving_early(head: &'static [u8], body: usize) -> Talk {
    Box::new(move |at| {
        let request = upload().body(vec![b'u'; body]);
        gone(at, &request, |client, _| {
            client.send(&[head, &vec![b'u'; body]].concat())
        })
    })
}

/// The records of a request whose client leaves, and of one before, whose head has as many bytes.
fn gone(
    at: &At,
    request: &Request,
    send: impl Fn(&mut Client, &Request) -> Result<()>,
) -> Result<Vec<Expected>> {
    let before = Request::get("/hello");
    let response = at.fetch(&before)?;
    let logged = at.server.access_log()?.len();
    let mut client = at.connect()?;
    send(&mut client, request)?;
    drop(client);
    at.server.wait_for_access_log(logged + 1)?;
    let mut expected = Expected::of(request, &response);
    expected.fact.client_gone = true;
    expected.fact.response_bytes = Some(response.head_bytes);
    expected.fact.response_body_bytes = Some(0);
    Ok(vec![Expected::of(&before, &response), expected])
}

fn kept() -> Talk {
    Box::new(|at| {
        let requests = [
            Request::get("/hello"),
            upload().body(vec![b'u'; 10_000]),
            Request::new("PROPFIND", "/upload").body(vec![b'u'; 100]),
            Request::new("HEAD", "/hello"),
            Request::get("/large-head"),
            Request::get("/no-content"),
            Request::get("/file"),
            Request::get("/chunked"),
        ];
        let logged = at.server.access_log()?.len();
        let mut client = at.connect()?;
        let responses = requests
            .iter()
            .map(|request| client.request(request))
            .collect::<Result<Vec<_>>>()?;
        at.server.wait_for_access_log(logged + requests.len())?;
        numbered(&requests, &responses)
    })
}

/// The application leaves the body of the first request unread: Gunicorn reads it away before
/// the second, whose first bytes may come with it.
fn unread_then_read() -> Talk {
    Box::new(|at| {
        let requests = [
            Request::new("POST", "/hello").full_of_requests(),
            Request::get("/chunked"),
            Request::get("/hello"),
        ];
        let logged = at.server.access_log()?.len();
        let mut client = at.connect()?;
        let responses = requests
            .iter()
            .map(|request| client.request(request))
            .collect::<Result<Vec<_>>>()?;
        at.server.wait_for_access_log(logged + requests.len())?;
        let mut expected = numbered(&requests, &responses)?;
        expected[0].upload_below = u64::try_from(requests[0].body_bytes()).ok();
        expected[1].upload_below = Some(1);
        expected[1].is_pipelined = true;
        Ok(expected)
    })
}

fn pipelined() -> Talk {
    Box::new(|at| {
        let requests = ["/hello", "/chunked", "/no-content"].map(Request::get);
        let logged = at.server.access_log()?.len();
        let mut client = at.connect()?;
        client.send(&requests.each_ref().map(Request::bytes).concat())?;
        let responses = requests
            .iter()
            .map(|request| client.response(&request.method))
            .collect::<Result<Vec<_>>>()?;
        at.server.wait_for_access_log(logged + requests.len())?;
        let mut expected = numbered(&requests, &responses)?;
        for later in &mut expected[1..] {
            // What came with the request before it cannot be distinguished from that request's body.
            later.upload_below = Some(1);
            later.is_pipelined = true;
        }
        Ok(expected)
    })
}

fn numbered(
    requests: &[Request],
    responses: &[end_to_end::response::Response],
) -> Result<Vec<Expected>> {
    let mut all = Vec::new();
    for (request, response) in requests.iter().zip(responses) {
        ensure!(response.complete, "{} was cut", request.target);
        let mut expected = Expected::of(request, response);
        expected.fact.ordinal = u32::try_from(all.len())?;
        all.push(expected);
    }
    Ok(all)
}
