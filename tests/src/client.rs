//! HTTP/1.1 over a plain socket, with every byte in hand.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::{
    response::{Incoming, Response},
    tls::Certificate,
    wait,
};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    headers: String,
    body: Vec<u8>,
}

impl Request {
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            headers: String::new(),
            body: Vec::new(),
        }
    }

    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Puts this prefix before its path.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.target.insert_str(0, prefix);
        self
    }

    /// A body of known length.
    #[must_use]
    pub fn body(self, body: Vec<u8>) -> Self {
        let length = body.len().to_string();
        Self {
            body,
            ..self.header("Content-Length", &length)
        }
    }

    /// A body in chunks of this size.
    #[must_use]
    pub fn chunked(self, body: &[u8], size: usize) -> Self {
        let mut framed = Vec::new();
        for chunk in body.chunks(size) {
            framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\n\r\n");
        Self {
            body: framed,
            ..self.header("Transfer-Encoding", "chunked")
        }
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Bytes after the head, framing and all.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// All its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let Self {
            method,
            target,
            headers,
            body,
        } = self;
        let mut bytes =
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

/// A socket of either family.
trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// One connection.
pub struct Client {
    stream: Box<dyn Stream>,
    incoming: Incoming,
}

impl Client {
    /// Connects to a port of this host.
    pub fn connect(port: u16) -> Result<Self> {
        Ok(Self::over(connected(port)?))
    }

    /// Connects to a port of this host that serves HTTPS with this certificate.
    pub fn connect_tls(port: u16, certificate: &Certificate) -> Result<Self> {
        Ok(Self::over(certificate.over(connected(port)?)?))
    }

    /// Connects to a unix socket.
    pub fn connect_unix(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("cannot connect to {}", path.display()))?;
        stream.set_read_timeout(Some(wait::BOUND))?;
        stream.set_write_timeout(Some(wait::BOUND))?;
        Ok(Self::over(stream))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            incoming: Incoming::default(),
        }
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    /// Sends these bytes one by one.
    pub fn send_byte_by_byte(&mut self, bytes: &[u8]) -> Result<()> {
        bytes.iter().try_for_each(|byte| self.send(&[*byte]))
    }

    /// Reads the response to a request of this method.
    pub fn response(&mut self, method: &str) -> Result<Response> {
        self.incoming.response(&mut self.stream, method)
    }

    /// Sends a request and reads its response.
    pub fn request(&mut self, request: &Request) -> Result<Response> {
        self.send(&request.bytes())?;
        self.response(&request.method)
            .with_context(|| format!("{} {}", request.method, request.target))
    }

    /// Reads only the head of a response, and returns its length.
    pub fn head_bytes(&mut self) -> Result<u64> {
        self.incoming
            .head(&mut self.stream)
            .map(|head| head.len() as u64)
    }

    /// Reads until the server closes, and returns the number of bytes.
    pub fn rest(&mut self) -> Result<usize> {
        self.incoming.rest(&mut self.stream)
    }

    /// Waits until the server closes.
    pub fn wait_for_close(&mut self) -> Result<()> {
        let more = self.rest()?;
        anyhow::ensure!(more == 0, "the server sent {more} bytes more");
        Ok(())
    }
}

fn connected(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("cannot connect to 127.0.0.1:{port}"))?;
    // What is written is sent at once, so that a byte at a time is that.
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(wait::BOUND))?;
    stream.set_write_timeout(Some(wait::BOUND))?;
    Ok(stream)
}

/// A request on a connection of its own.
pub fn fetch(port: u16, request: &Request) -> Result<Response> {
    Client::connect(port)?.request(request)
}
