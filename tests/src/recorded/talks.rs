//! What clients say to a worker while it is recorded.

use std::{sync::Barrier, thread};

use anyhow::{Result, anyhow, ensure};

use crate::client::{Client, Place, Request};

/// A conversation, with a name.
pub type Talk = (&'static str, fn(&At) -> Result<()>);

/// A server.
pub struct At {
    pub place: Place,
    /// Whether its connections are kept.
    pub is_kept: bool,
    /// Whether requests that came with the one before are answered.
    pub is_pipelined: bool,
}

impl At {
    pub fn connect(&self) -> Result<Client> {
        self.place.connect()
    }

    fn fetch(&self, request: &Request) -> Result<()> {
        self.connect()?.request(request).map(|_| ())
    }

    /// Sends these bytes, and reads to the end.
    fn say(&self, bytes: &[u8]) -> Result<()> {
        let mut client = self.connect()?;
        client.send(bytes)?;
        client.rest().map(|_| ())
    }
}

/// Without and with TLS.
pub const EVERYWHERE: &[Talk] = &[
    ("one request", |at| {
        at.fetch(&Request::get("/hello").header("Connection", "close"))
    }),
    ("three requests of a kept connection", |at| {
        let mut client = at.connect()?;
        let upload = Request::new("POST", "/upload").body(vec![b'u'; 10_000]);
        let requests = [Request::get("/hello"), upload, Request::get("/chunked")];
        for request in &requests[..if at.is_kept { 3 } else { 1 }] {
            client.request(request)?;
        }
        Ok(())
    }),
    ("a request body larger than the buffers", |at| {
        at.fetch(&Request::new("POST", "/upload").body(vec![b'u'; 300_000]))
    }),
    ("a refused request", |at| at.say(b"GARBAGE\r\n\r\n")),
    ("an exception before the response", |at| {
        at.fetch(&Request::get("/raises"))
    }),
    ("a client that leaves during the response", |at| {
        let mut client = at.connect()?;
        client.ask(&Request::get("/drip"))?;
        client.head_bytes().map(|_| ())
    }),
];

/// Without TLS.
pub const PLAIN: &[Talk] = &[
    ("HEAD", |at| at.fetch(&Request::new("HEAD", "/hello"))),
    ("204", |at| at.fetch(&Request::get("/no-content"))),
    ("304", |at| at.fetch(&Request::get("/not-modified"))),
    ("a chunked response", |at| {
        at.fetch(&Request::get("/chunked"))
    }),
    ("a file sent by sendfile", |at| {
        at.fetch(&Request::get("/file"))
    }),
    ("a large response", |at| {
        at.fetch(&Request::get("/download"))
    }),
    ("a response head of more than 2 KiB", |at| {
        at.fetch(&Request::get("/large-head"))
    }),
    ("HTTP/1.0 and a response without length", |at| {
        at.say(b"GET /chunked HTTP/1.0\r\n\r\n")
    }),
    ("a chunked request", |at| {
        at.fetch(&Request::new("POST", "/upload").chunked(&[b'u'; 100_000], 10_000))
    }),
    ("a request in pieces", |at| {
        let mut client = at.connect()?;
        for piece in Request::get("/hello").bytes().chunks(12) {
            client.send(piece)?;
        }
        client.response("GET").map(|_| ())
    }),
    ("100-continue", |at| {
        let mut client = at.connect()?;
        client.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\nExpect: 100-continue\r\n\r\n")?;
        client.head_bytes()?;
        client.send(&[b'u'; 10_000])?;
        client.response("POST").map(|_| ())
    }),
    ("three pipelined requests", |at| {
        let requests = ["/hello", "/chunked", "/no-content"].map(Request::get);
        let mut client = at.connect()?;
        client.send(&requests.each_ref().map(Request::bytes).concat())?;
        for request in &requests[..if at.is_pipelined { 3 } else { 1 }] {
            client.response(&request.method)?;
        }
        Ok(())
    }),
    ("an unread body that looks like a request", |at| {
        let mut client = at.connect()?;
        client.ask(&Request::new("POST", "/hello").full_of_requests())?;
        ensure!(client.response("POST")?.status == 200);
        if at.is_kept {
            ensure!(client.request(&Request::get("/chunked"))?.status == 200);
        }
        Ok(())
    }),
    ("three slow requests at once", |at| {
        let start = Barrier::new(3);
        thread::scope(|scope| {
            let clients = [0, 1, 2].map(|_| {
                scope.spawn(|| {
                    start.wait();
                    at.fetch(&Request::get("/slow?seconds=0.05"))
                })
            });
            clients
                .into_iter()
                .try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)
        })
    }),
    ("a client that leaves before the response", |at| {
        let mut client = at.connect()?;
        client.ask(&Request::get("/slow?seconds=0.05"))
    }),
    ("a client that sends nothing", |at| at.connect().map(|_| ())),
    ("a client that leaves within the head", |at| {
        at.connect()?.send(b"GET /hello HTTP/1.1\r\nHost: ")
    }),
    ("a header that is too large", |at| {
        at.say(
            &Request::get("/hello")
                .header("X-Large", &"x".repeat(20_000))
                .bytes(),
        )
    }),
    ("an exception before the body", |at| {
        at.fetch(&Request::get("/raises-in-body"))
    }),
    ("an exception during the response", |at| {
        at.fetch(&Request::get("/raises-late"))
    }),
    ("an exception after the first chunk", |at| {
        at.fetch(&Request::get("/cut-chunks"))
    }),
    ("ConnectionResetError, so no response", |at| {
        at.say(&Request::get("/reset").bytes())
    }),
    ("OSError, so no response", |at| {
        at.say(&Request::get("/os-error").bytes())
    }),
];
