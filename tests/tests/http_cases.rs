//! Every kind of request and response: one request, and exactly the record it should leave. Sizes
//! are those of the bytes that went over the wire, as the client counted them.

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    case,
    client::{Client, Request},
    facts::Fact,
    observer,
    response::Response,
};

const CLASSES: [&str; 3] = ["sync", "gthread", "gevent"];
const FIVE_MEGABYTES: usize = 5 * 1024 * 1024;

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

/// Compares all but the worker and the time, which differ from run to run.
fn check(fact: &Fact, expected: &Fact) -> Result<()> {
    let fixed = Fact {
        pid: 0,
        duration_ns: None,
        ..fact.clone()
    };
    ensure!(
        fixed == *expected,
        "recorded {fixed:#?}\nexpected {expected:#?}"
    );
    Ok(())
}

/// Under each class: makes the request, checks the answer's status and the record.
fn each_class(request: &Request, status: u16, change: impl Fn(&mut Fact)) -> Result<()> {
    each_class_sending(request, status, change, |client| {
        client.send(&request.bytes())
    })
}

fn each_class_sending(
    request: &Request,
    status: u16,
    change: impl Fn(&mut Fact),
    send: impl Fn(&mut Client) -> Result<()>,
) -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    for class in CLASSES {
        let (response, facts) = case::observe(class, |server| {
            let mut client = Client::connect(server.port)?;
            send(&mut client)?;
            let response = client.response(&request.method)?;
            case::wait_until_logged(server, request.path())?;
            Ok(response)
        })?;
        ensure!(
            response.status == status,
            "{class}: answered {}",
            response.status
        );
        let mut expected = expected(request, &response);
        change(&mut expected);
        let fact = case::only(&facts).with_context(|| format!("{class} worker"))?;
        check(fact, &expected).with_context(|| format!("{class} worker"))?;
        ensure!(
            fact.duration_ns.is_some_and(|ns| ns > 0),
            "{class}: no duration"
        );
    }
    Ok(())
}

fn unchanged(_: &mut Fact) {}

#[test]
fn a_head_request_has_a_head_and_no_body() -> Result<()> {
    each_class(&Request::new("HEAD", "/hello"), 200, unchanged)
}

#[test]
fn a_204_has_no_body() -> Result<()> {
    each_class(&Request::get("/no-content"), 204, unchanged)
}

#[test]
fn a_304_has_no_body() -> Result<()> {
    each_class(&Request::get("/not-modified"), 304, unchanged)
}

#[test]
fn a_chunked_response_counts_its_framing() -> Result<()> {
    each_class(&Request::get("/chunked"), 200, unchanged)
}

#[test]
fn a_response_sent_by_the_write_callable() -> Result<()> {
    each_class(&Request::get("/write"), 200, unchanged)
}

#[test]
fn a_query_is_not_part_of_the_path() -> Result<()> {
    each_class(&Request::get("/slow?seconds=0.05"), 200, unchanged)
}

#[test]
fn a_large_download() -> Result<()> {
    each_class(&Request::get("/download"), 200, unchanged)
}

#[test]
fn a_file_sent_by_the_file_wrapper() -> Result<()> {
    each_class(&Request::get("/file"), 200, unchanged)
}

#[test]
fn a_large_upload() -> Result<()> {
    let request = Request::new("POST", "/upload").body(vec![b'u'; FIVE_MEGABYTES]);
    each_class(&request, 200, unchanged)
}

#[test]
fn a_chunked_upload_counts_its_framing() -> Result<()> {
    let request = Request::new("POST", "/upload").chunked(&[b'u'; 100_000], 1000);
    each_class(&request, 200, unchanged)
}

#[test]
fn a_request_sent_a_byte_at_a_time() -> Result<()> {
    let request = Request::get("/hello");
    each_class_sending(&request, 200, unchanged, |client| {
        client.send_byte_by_byte(&request.bytes())
    })
}

#[test]
fn an_exception_in_the_application() -> Result<()> {
    each_class(&Request::get("/raises"), 500, |fact| {
        fact.error_handled = true;
    })
}

#[test]
fn an_exception_before_the_first_byte_of_the_body() -> Result<()> {
    each_class(&Request::get("/raises-in-body"), 500, |fact| {
        fact.error_handled = true;
    })
}

/// Gunicorn can only close: the status the client saw stays the one it was.
#[test]
fn an_exception_after_the_headers_were_sent() -> Result<()> {
    each_class(&Request::get("/raises-late"), 200, unchanged)
}

#[test]
fn a_request_that_cannot_be_parsed() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    for class in CLASSES {
        let (response, facts) = case::observe(class, |server| {
            let mut client = Client::connect(server.port)?;
            client.send(b"GARBAGE\r\n\r\n")?;
            client.response("GET")
        })?;
        let fact = case::only(&facts).with_context(|| format!("{class} worker"))?;
        let refused = fact.status == Some(400) && fact.bad_request && fact.error_handled;
        ensure!(refused, "{class}: {fact:#?}");
        ensure!(
            fact.duration_ns.is_none(),
            "{class}: it never entered the application"
        );
        ensure!(
            fact.response_bytes == Some(response.bytes()),
            "{class}: {fact:#?}"
        );
    }
    Ok(())
}

#[test]
fn a_client_that_leaves_early() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    for class in CLASSES {
        let ((), facts) = case::observe(class, |server| {
            let mut client = Client::connect(server.port)?;
            client.send(&Request::get("/drip").bytes())?;
            client.wait_for_first_bytes()?;
            drop(client);
            case::wait_until_logged(server, "/drip")
        })?;
        let fact = case::only(&facts).with_context(|| format!("{class} worker"))?;
        ensure!(
            fact.client_gone && fact.status == Some(200),
            "{class}: {fact:#?}"
        );
        let whole = u64::try_from(FIVE_MEGABYTES)?;
        ensure!(
            fact.response_body_bytes.is_some_and(|bytes| bytes < whole),
            "{class}: {fact:#?}"
        );
        ensure!(fact.path.as_deref() == Some("/drip"), "{class}: {fact:#?}");
    }
    Ok(())
}

#[test]
fn requests_of_a_kept_connection_are_numbered() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    for class in ["gthread", "gevent", "eventlet"] {
        let requests = [
            Request::get("/hello"),
            Request::new("POST", "/upload").body(vec![b'u'; 10_000]),
            Request::get("/chunked"),
        ];
        let (responses, facts) = case::observe(class, |server| {
            let mut client = Client::connect(server.port)?;
            requests
                .iter()
                .map(|request| client.request(request))
                .collect::<Result<Vec<_>>>()
        })?;
        check_all(&facts, &requests, &responses, unchanged)
            .with_context(|| format!("{class} worker"))?;
    }
    Ok(())
}

#[test]
fn pipelined_requests_are_told_apart() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    let requests = [
        Request::get("/hello"),
        Request::get("/chunked"),
        Request::get("/no-content"),
    ];
    let (responses, facts) = case::observe("gevent", |server| {
        let mut client = Client::connect(server.port)?;
        let bytes: Vec<_> = requests.iter().map(Request::bytes).collect();
        client.send(&bytes.concat())?;
        requests
            .iter()
            .map(|request| client.response(&request.method))
            .collect::<Result<Vec<_>>>()
    })?;
    check_all(&facts, &requests, &responses, |fact| {
        // What came with the request before it cannot be told apart from that one's body.
        fact.request_body_bytes = None;
    })
}

/// Compares each record; `later` changes what is expected of those after the first.
fn check_all(
    facts: &[Fact],
    requests: &[Request],
    responses: &[Response],
    later: impl Fn(&mut Fact),
) -> Result<()> {
    ensure!(
        facts.len() == requests.len(),
        "{} records: {facts:#?}",
        facts.len()
    );
    for (ordinal, fact) in facts.iter().enumerate() {
        let mut expected = expected(&requests[ordinal], &responses[ordinal]);
        expected.ordinal = u32::try_from(ordinal)?;
        if ordinal > 0 {
            later(&mut expected);
        }
        check(fact, &expected)?;
    }
    Ok(())
}
