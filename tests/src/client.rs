//! HTTP/1.1 over a plain socket, with every byte in hand.

use std::{
    io::{Read, Write},
    mem,
    net::{Ipv4Addr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
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
    /// Bytes of the body without the framing of chunks.
    data_bytes: usize,
}

impl Request {
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            headers: String::new(),
            body: Vec::new(),
            data_bytes: 0,
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
            data_bytes: body.len(),
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
            data_bytes: body.len(),
            body: framed,
            ..self.header("Transfer-Encoding", "chunked")
        }
    }

    /// A body that has a request at each whole KiB from the first byte of the head on: where a worker
    /// begins to read. Headers come first.
    #[must_use]
    pub fn full_of_requests(self) -> Self {
        let mut forged = b"DELETE /forged HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
        forged.resize(1024, b'z');
        let padded = self.body(forged.repeat(24));
        let head = padded.bytes().len() - padded.body_bytes();
        let header = "X-Pad: \r\n".len();
        padded.header("X-Pad", &"p".repeat(1024 - head - header))
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

    /// Bytes of the body, without the framing of chunks.
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// All its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let Self {
            method,
            target,
            headers,
            body,
            ..
        } = self;
        let mut bytes =
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    /// The same in the protocol of uWSGI, as nginx sends it (`uwsgi_pass`), as the only request of its
    /// connection. It has no place for chunks.
    #[must_use]
    pub fn uwsgi_bytes(&self) -> Vec<u8> {
        let length = self.body.len().to_string();
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let variables = [
            ("REQUEST_METHOD", self.method.as_str()),
            ("REQUEST_URI", &self.target),
            ("PATH_INFO", self.path()),
            ("QUERY_STRING", query),
            ("CONTENT_LENGTH", &length),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("HTTP_HOST", "localhost"),
            ("HTTP_CONNECTION", "close"),
        ];
        let mut head = Vec::new();
        for text in variables
            .into_iter()
            .flat_map(|(name, value)| [name, value])
        {
            head.extend_from_slice(&uwsgi_length(text.len()));
            head.extend_from_slice(text.as_bytes());
        }
        let [low, high] = uwsgi_length(head.len());
        [&[0, low, high, 0], head.as_slice(), &self.body].concat()
    }
}

/// A length as the protocol of uWSGI has it.
fn uwsgi_length(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
}

/// Where and how clients reach a server.
#[derive(Clone, Debug)]
pub enum Place {
    /// A port of 127.0.0.1.
    Port(u16),
    Unix(PathBuf),
    /// A port that serves HTTPS with this certificate.
    Tls(u16, Arc<Certificate>),
    /// A port; each connection begins with this line of the PROXY protocol.
    Proxied(u16, &'static [u8]),
    /// A port that speaks the protocol of uWSGI.
    Uwsgi(u16),
}

impl Place {
    pub fn connect(&self) -> Result<Client> {
        match self {
            Self::Port(port) => Client::connect(*port),
            Self::Unix(path) => Client::connect_unix(path),
            Self::Tls(port, certificate) => Ok(Client::over(certificate.over(connected(*port)?)?)),
            Self::Proxied(port, line) => Ok(Client {
                unsent: line.to_vec(),
                ..Client::connect(*port)?
            }),
            Self::Uwsgi(port) => Ok(Client {
                encode: Request::uwsgi_bytes,
                ..Client::connect(*port)?
            }),
        }
    }

    /// Whether the bytes on the wire are others than those that Gunicorn writes.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(..))
    }
}

/// A socket of either family.
trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// One connection.
pub struct Client {
    stream: Box<dyn Stream>,
    incoming: Incoming,
    /// What goes before the first bytes sent.
    unsent: Vec<u8>,
    encode: fn(&Request) -> Vec<u8>,
}

impl Client {
    /// Connects to a port of this host.
    pub fn connect(port: u16) -> Result<Self> {
        Ok(Self::over(connected(port)?))
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
            unsent: Vec::new(),
            encode: Request::bytes,
        }
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let mut all = mem::take(&mut self.unsent);
        all.extend_from_slice(bytes);
        self.stream.write_all(&all).context("cannot send")
    }

    /// Sends a request, and reads nothing.
    pub fn ask(&mut self, request: &Request) -> Result<()> {
        self.send(&(self.encode)(request))
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
        self.ask(request)?;
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
