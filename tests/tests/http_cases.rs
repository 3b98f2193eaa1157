//! Every kind of request and response makes exactly the expected records. Sizes are bytes on the wire,
//! as the client counted them. One worker serves all cases of its class; a failure names its case.

use anyhow::{Result, ensure};
use end_to_end::{
    case::{self, Expected, Talk},
    client::{Client, Request},
    facts::Fact,
    gunicorn::GunicornServer,
    response::Response,
    skip,
};

const FIVE_MEGABYTES: usize = 5 * 1024 * 1024;

#[test]
fn sync_workers() -> Result<()> {
    each_case("sync", Vec::new())
}

#[test]
fn gthread_workers() -> Result<()> {
    each_case("gthread", on_one_connection())
}

#[test]
fn gevent_workers() -> Result<()> {
    each_case("gevent", greenlets())
}

#[test]
fn eventlet_workers() -> Result<()> {
    each_case("eventlet", greenlets())
}

fn on_one_connection() -> Vec<(&'static str, Talk)> {
    vec![
        ("requests of a kept connection are numbered", kept()),
        ("a body that nobody read is no request", unread()),
    ]
}

/// Gunicorn's threads do not read what came with the request before.
fn greenlets() -> Vec<(&'static str, Talk)> {
    let mut cases = on_one_connection();
    cases.push(("pipelined requests are distinguished", pipelined()));
    cases
}

fn each_case(class: &str, of_class: Vec<(&'static str, Talk)>) -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    case::try_all(class, every_class().into_iter().chain(of_class))
}

fn every_class() -> Vec<(&'static str, Talk)> {
    let large = vec![b'u'; FIVE_MEGABYTES];
    let upload = || Request::new("POST", "/upload");
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
        ("a large upload", answered(upload().body(large), 200, 8)),
        (
            "a chunked upload counts its framing",
            answered(upload().chunked(&[b'u'; 100_000], 1000), 200, 7),
        ),
        ("a request sent a byte at a time", byte_by_byte()),
        ("an exception in the application", raising("/raises")),
        (
            "an exception before the first byte of the body",
            raising("/raises-in-body"),
        ),
        ("an exception after the headers were sent", raising_late()),
        ("a request that cannot be parsed", garbage()),
        ("a client that leaves early", leaving()),
    ]
}

/// The record of a request that went well.
fn expected(request: &Request, response: &Response) -> Fact {
    Fact {
        method: Some(request.method.clone()),
        path: Some(request.path().to_owned()),
        status: Some(response.status),
        request_body_bytes: u64::try_from(request.body_bytes()).ok(),
        response_bytes: Some(response.bytes()),
        response_body_bytes: Some(response.body_bytes),
        ..Fact::default()
    }
}

/// Reads the response, and waits until the worker is done with the request: until it is logged,
/// and the connection closed if that was its last.
fn exchange(
    server: &GunicornServer,
    request: &Request,
    send: impl Fn(&mut Client) -> Result<()>,
) -> Result<Response> {
    let logged = server.access_log()?.len();
    let mut client = Client::connect(server.port)?;
    send(&mut client)?;
    let response = client.response(&request.method)?;
    server.wait_for_access_log(logged + 1)?;
    if response.closes {
        client.wait_for_close()?;
    }
    Ok(response)
}

fn fetched(server: &GunicornServer, request: &Request) -> Result<Response> {
    exchange(server, request, |client| client.send(&request.bytes()))
}

/// A whole answer of this status, with so many bytes of a body, framing aside.
fn whole(response: &Response, status: u16, body: usize) -> Result<()> {
    let seen = (response.status, response.body.len(), response.complete);
    ensure!(
        seen == (status, body, true),
        "status, bytes and completeness of the answer: {seen:?}"
    );
    Ok(())
}

fn answered(request: Request, status: u16, body: usize) -> Talk {
    Box::new(move |server| {
        let response = fetched(server, &request)?;
        whole(&response, status, body)?;
        Ok(vec![Expected::exactly(expected(&request, &response))])
    })
}

fn byte_by_byte() -> Talk {
    Box::new(|server| {
        let request = Request::get("/hello");
        let response = exchange(server, &request, |client| {
            client.send_byte_by_byte(&request.bytes())
        })?;
        whole(&response, 200, 6)?;
        Ok(vec![Expected::exactly(expected(&request, &response))])
    })
}

fn raising(path: &'static str) -> Talk {
    Box::new(move |server| {
        let request = Request::get(path);
        let response = fetched(server, &request)?;
        whole(&response, 500, response.body.len())?;
        Ok(vec![Expected::exactly(Fact {
            error_handled: true,
            ..expected(&request, &response)
        })])
    })
}

/// Gunicorn can only close: the status the client saw stays the one it was.
fn raising_late() -> Talk {
    Box::new(|server| {
        let request = Request::get("/raises-late");
        let response = fetched(server, &request)?;
        let seen = (response.status, response.body.len(), response.complete);
        ensure!(seen == (200, 6, false), "answered {seen:?}");
        Ok(vec![Expected::exactly(expected(&request, &response))])
    })
}

fn garbage() -> Talk {
    Box::new(|server| {
        let mut client = Client::connect(server.port)?;
        client.send(b"GARBAGE\r\n\r\n")?;
        let response = client.response("GET")?;
        whole(&response, 400, response.body.len())?;
        client.wait_for_close()?;
        let fact = Fact {
            status: Some(400),
            request_body_bytes: Some(0),
            response_bytes: Some(response.bytes()),
            response_body_bytes: Some(response.body_bytes),
            error_handled: true,
            bad_request: true,
            ..Fact::default()
        };
        Ok(vec![Expected {
            entered: false,
            ..Expected::exactly(fact)
        }])
    })
}

fn leaving() -> Talk {
    Box::new(|server| {
        let request = Request::get("/drip");
        let logged = server.access_log()?.len();
        let mut client = Client::connect(server.port)?;
        client.send(&request.bytes())?;
        let head_bytes = client.head_bytes()?;
        drop(client);
        server.wait_for_access_log(logged + 1)?;
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

fn kept() -> Talk {
    Box::new(|server| {
        let requests = [
            Request::get("/hello"),
            Request::new("POST", "/upload").body(vec![b'u'; 10_000]),
            Request::get("/chunked"),
        ];
        let logged = server.access_log()?.len();
        let mut client = Client::connect(server.port)?;
        let responses = requests
            .iter()
            .map(|request| client.request(request))
            .collect::<Result<Vec<_>>>()?;
        server.wait_for_access_log(logged + requests.len())?;
        numbered(&requests, &responses)
    })
}

/// The application leaves the body of the first request unread: Gunicorn reads it away before
/// the second.
fn unread() -> Talk {
    Box::new(|server| {
        let requests = [
            Request::new("POST", "/hello").body(vec![b'u'; 100_000]),
            Request::get("/chunked"),
        ];
        let logged = server.access_log()?.len();
        let mut client = Client::connect(server.port)?;
        let responses = requests
            .iter()
            .map(|request| client.request(request))
            .collect::<Result<Vec<_>>>()?;
        server.wait_for_access_log(logged + requests.len())?;
        let mut expected = numbered(&requests, &responses)?;
        for (one, below) in expected.iter_mut().zip([100_000, 1]) {
            one.upload_below = Some(below);
        }
        Ok(expected)
    })
}

fn pipelined() -> Talk {
    Box::new(|server| {
        let requests = ["/hello", "/chunked", "/no-content"].map(Request::get);
        let logged = server.access_log()?.len();
        let mut client = Client::connect(server.port)?;
        client.send(&requests.each_ref().map(Request::bytes).concat())?;
        let responses = requests
            .iter()
            .map(|request| client.response(&request.method))
            .collect::<Result<Vec<_>>>()?;
        server.wait_for_access_log(logged + requests.len())?;
        let mut expected = numbered(&requests, &responses)?;
        for later in &mut expected[1..] {
            // What came with the request before it cannot be distinguished from that request's body.
            later.fact.request_body_bytes = None;
        }
        Ok(expected)
    })
}

fn numbered(requests: &[Request], responses: &[Response]) -> Result<Vec<Expected>> {
    let mut all = Vec::new();
    for (request, response) in requests.iter().zip(responses) {
        ensure!(response.complete, "{} was cut", request.target);
        all.push(Expected::exactly(Fact {
            ordinal: u32::try_from(all.len())?,
            ..expected(request, response)
        }));
    }
    Ok(all)
}
