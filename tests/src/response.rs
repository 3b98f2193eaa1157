//! Reads a response, and counts every byte.

use std::io::{ErrorKind, Read};

use anyhow::{Context as _, Result, bail, ensure};

/// A response as it came over the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Bytes of the head, with the empty line.
    pub head_bytes: u64,
    /// Bytes of the body, with the framing of a chunked one.
    pub body_bytes: u64,
    /// The body, without framing.
    pub body: Vec<u8>,
    /// Whether it is complete: not if the server closed before the announced end.
    pub complete: bool,
    /// Whether the server will close the connection.
    pub closes: bool,
}

impl Response {
    /// Bytes of head and body.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.head_bytes + self.body_bytes
    }

    /// Fails unless it is whole, with this status and so many bytes of a body, framing aside.
    pub fn is_whole(&self, status: u16, body: usize) -> Result<()> {
        let seen = (self.status, self.body.len(), self.complete);
        ensure!(
            seen == (status, body, true),
            "status, bytes and completeness of the answer: {seen:?}"
        );
        Ok(())
    }
}

/// How a response ends.
enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClosed,
}

/// The end of a head. From Python 3.14 on `textwrap.dedent` takes the `\r` of an empty line for
/// indentation, so error pages of Gunicorn (27.0.1, `util.py`, `write_error`) have `\n` alone
/// there, which clients accept (RFC 9112, section 2.2).
fn head_length(bytes: &[u8]) -> Option<usize> {
    let ends = [b"\r\n\r\n".as_slice(), b"\r\n\n"];
    let ends = ends.map(|end| find(bytes, end).map(|at| at + end.len()));
    ends.into_iter().flatten().min()
}

/// A connection's incoming bytes; those of the next response wait here.
#[derive(Default)]
pub struct Incoming {
    bytes: Vec<u8>,
}

impl Incoming {
    /// Reads a head, with the empty line after it.
    pub fn head(&mut self, source: &mut impl Read) -> Result<Vec<u8>> {
        let length = loop {
            if let Some(length) = head_length(&self.bytes) {
                break length;
            }
            if !self.fill(source)? {
                bail!(
                    "the server closed with {} bytes of a head sent",
                    self.bytes.len()
                );
            }
        };
        Ok(self.take(length))
    }

    /// Reads to the end, and returns the number of new bytes.
    pub fn rest(&mut self, source: &mut impl Read) -> Result<usize> {
        while self.fill(source)? {}
        Ok(self.take(usize::MAX).len())
    }

    /// Reads one response to a request of this method.
    pub fn response(&mut self, source: &mut impl Read, method: &str) -> Result<Response> {
        let head = self.head(source)?;
        let mut response = Response {
            status: status(&head)?,
            head_bytes: u64::try_from(head.len())?,
            complete: true,
            ..Response::default()
        };
        let framing = framing(&head, response.status, method)?;
        response.closes = matches!(framing, Framing::UntilClosed)
            || header(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        match framing {
            Framing::None => {}
            Framing::Length(length) => {
                response.complete = self.fill_to(source, length)?;
                response.body = self.take(length);
                response.body_bytes = u64::try_from(response.body.len())?;
            }
            Framing::Chunked => self.chunks(source, &mut response)?,
            Framing::UntilClosed => {
                while self.fill(source)? {}
                response.body = self.take(usize::MAX);
                response.body_bytes = u64::try_from(response.body.len())?;
            }
        }
        Ok(response)
    }

    fn chunks(&mut self, source: &mut impl Read, response: &mut Response) -> Result<()> {
        loop {
            let line = loop {
                if let Some(at) = find(&self.bytes, b"\r\n") {
                    break at + 2;
                }
                if !self.fill(source)? {
                    return self.cut(response);
                }
            };
            let size = std::str::from_utf8(&self.bytes[..line - 2])?;
            let size = usize::from_str_radix(size, 16)
                .with_context(|| format!("{size} is no chunk size"))?;
            if !self.fill_to(source, line + size + 2)? {
                return self.cut(response);
            }
            let chunk = self.take(line + size + 2);
            response.body_bytes += u64::try_from(chunk.len())?;
            if size == 0 {
                return Ok(());
            }
            response.body.extend_from_slice(&chunk[line..line + size]);
        }
    }

    /// The server closed inside a chunk.
    fn cut(&mut self, response: &mut Response) -> Result<()> {
        response.body_bytes += u64::try_from(self.take(usize::MAX).len())?;
        response.complete = false;
        response.closes = true;
        Ok(())
    }

    /// Reads once; false at the end.
    fn fill(&mut self, source: &mut impl Read) -> Result<bool> {
        let mut buffer = [0; 65536];
        match source.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.bytes.extend_from_slice(&buffer[..length]);
                Ok(true)
            }
            // The server closed while bytes of ours were unread, or without an end of TLS.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error).context("cannot read the response"),
        }
    }

    fn fill_to(&mut self, source: &mut impl Read, length: usize) -> Result<bool> {
        while self.bytes.len() < length {
            if !self.fill(source)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.bytes.split_off(length.min(self.bytes.len()));
        std::mem::replace(&mut self.bytes, rest)
    }
}

fn framing(head: &[u8], status: u16, method: &str) -> Result<Framing> {
    if method == "HEAD" || status == 204 || status == 304 {
        return Ok(Framing::None);
    }
    if header(head, "transfer-encoding").is_some_and(|value| value == "chunked") {
        return Ok(Framing::Chunked);
    }
    match header(head, "content-length") {
        Some(length) => Ok(Framing::Length(
            length.parse().with_context(|| format!("length {length}"))?,
        )),
        None => Ok(Framing::UntilClosed),
    }
}

fn status(head: &[u8]) -> Result<u16> {
    let line = String::from_utf8_lossy(head);
    let line = line.lines().next().unwrap_or_default();
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.with_context(|| format!("no status in {line:?}"))
}

fn header(head: &[u8], name: &str) -> Option<String> {
    String::from_utf8_lossy(head).lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::Incoming;

    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";

    #[test]
    fn chunks_are_counted_with_their_framing() {
        let response = Incoming::default()
            .response(&mut &*CHUNKED, "GET")
            .expect("a response");
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, b"abc".as_slice())
        );
        assert_eq!((response.head_bytes, response.body_bytes), (47, 13));
        assert!(response.complete);
    }

    #[test]
    fn an_error_page_of_newer_pythons_has_its_empty_line_without_carriage_return() {
        let page = b"HTTP/1.1 500 Error\r\nContent-Length: 6\r\n\n<html>\r\n\r\n";
        let response = Incoming::default()
            .response(&mut page.as_slice(), "GET")
            .expect("a response");
        assert_eq!((response.status, response.head_bytes), (500, 40));
        assert_eq!(response.body, b"<html>");
    }

    #[test]
    fn a_chunked_response_that_is_cut_is_incomplete() {
        let mut cut = &CHUNKED[..CHUNKED.len() - 7];
        let response = Incoming::default()
            .response(&mut cut, "GET")
            .expect("a response");
        assert!(!response.complete);
        assert_eq!(response.body_bytes, 6);
    }

    #[test]
    fn two_responses_in_one_read_are_two() {
        let mut both: &[u8] =
            b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
        let mut incoming = Incoming::default();
        assert_eq!(
            incoming
                .response(&mut both, "GET")
                .expect("the first")
                .status,
            204
        );
        let second = incoming.response(&mut both, "GET").expect("the second");
        assert_eq!(
            (second.status, second.body_bytes, second.bytes()),
            (200, 1, 39)
        );
    }

    #[test]
    fn a_head_answer_has_no_body() {
        let mut head: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
        let response = Incoming::default()
            .response(&mut head, "HEAD")
            .expect("a response");
        assert_eq!((response.body_bytes, response.complete), (0, true));
    }
}
