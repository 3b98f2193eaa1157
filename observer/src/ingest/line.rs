//! The request line: method, path and protocol of a request.
//!
//! The query is dropped here, before anything else sees it.

use memchr::{memchr, memchr2};
use probe_ebpf::abi::NAME_BYTES;
use std::borrow::Cow;

/// A method or protocol longer than this is cut.
const TOKEN_BYTES: usize = 16;
/// Methods and protocols of nearly all requests, which are then not copied.
const COMMON: [&str; 9] = [
    "GET", "HTTP/1.1", "POST", "HTTP/1.0", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS",
];
/// Replaces a byte that must not be kept.
const HIDDEN: u8 = b'x';

/// A request line. Parts that are malformed or were not captured are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestLine<'a> {
    pub method: Option<Cow<'static, str>>,
    /// Path as sent, not decoded, without the query.
    pub path: Option<Cow<'a, str>>,
    /// The path goes on after what was captured.
    pub path_cut: bool,
    pub protocol: Option<Cow<'static, str>>,
}

impl RequestLine<'_> {
    /// The line, without the bytes that it was read from.
    #[must_use]
    pub fn into_owned(self) -> RequestLine<'static> {
        RequestLine {
            path: self.path.map(|path| path.into_owned().into()),
            ..self
        }
    }
}

/// Reads the first bytes of a request as the client sent them.
#[must_use]
pub fn from_wire(bytes: &[u8]) -> RequestLine<'_> {
    // An empty line before a request is to be ignored (RFC 9112, 2.2).
    let begin = bytes
        .iter()
        .position(|b| !matches!(b, b'\r' | b'\n'))
        .unwrap_or(bytes.len());
    let bytes = bytes.get(begin..).unwrap_or_default();
    let end = memchr2(b'\r', b'\n', bytes);
    let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();

    let (method, rest) = word(line);
    // Without a line of a known shape nothing else in it can be trusted.
    let (Some(method), Some(rest)) = (token(method), rest) else {
        return RequestLine::default();
    };
    let (target, last) = word(rest);
    let is_cut = end.is_none() && last.is_none();
    let (path, path_cut) = match path_of(target) {
        Some((path, more)) => (Some(path), is_cut && !more),
        None => (None, false),
    };
    let protocol = last.filter(|_| end.is_some()).and_then(protocol);
    RequestLine {
        method: Some(method),
        path,
        path_cut,
        protocol,
    }
}

/// Reads Gunicorn's `Request.method`, padded with zeros, and its `Request.path`.
///
/// `capacity` is how much would have been captured at most.
#[must_use]
pub fn from_python(bytes: &[u8], capacity: usize) -> RequestLine<'_> {
    let (method, path) = bytes.split_at(NAME_BYTES.min(bytes.len()));
    let method = method.split(|&b| b == 0).next().and_then(token);
    let full = bytes.len() >= capacity;
    let path = path.split(|&b| b == 0).next().unwrap_or_default();
    let (path, path_cut) = match path {
        // `Request.path` of a target without one.
        [] if method.is_some() => (Some("/".into()), false),
        path => match path_of(path) {
            Some((path, more)) => (Some(path), full && !more),
            None => (None, false),
        },
    };
    RequestLine {
        method,
        path,
        path_cut,
        protocol: None,
    }
}

/// Overwrites all that [`from_wire`] does not show: queries, authorities, headers.
/// What it shows stays as it is.
pub fn redact_wire(bytes: &mut [u8]) {
    if from_wire(bytes).method.is_none() {
        bytes.fill(0);
        return;
    }
    let begin = bytes
        .iter()
        .position(|b| !matches!(b, b'\r' | b'\n'))
        .unwrap_or(bytes.len());
    let (_, bytes) = bytes.split_at_mut(begin);
    let end = bytes
        .iter()
        .position(|b| matches!(b, b'\r' | b'\n'))
        .unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at_mut(end);
    if let Some((_line_end, headers)) = rest.split_first_mut() {
        headers.fill(0);
    }
    let mut words = line.splitn_mut(3, |&b| b == b' ');
    let _method = words.next();
    if let Some(target) = words.next() {
        redact_target(target);
    }
    if let Some(last) = words.next().filter(|last| protocol(last).is_none()) {
        last.fill(HIDDEN);
    }
}

fn redact_target(target: &mut [u8]) {
    if path_of(target).is_none() {
        target.fill(HIDDEN);
        return;
    }
    let is_absolute = !matches!(&*target, [b'/', ..] | b"*");
    let scheme = target
        .windows(3)
        .position(|w| w == b"://")
        .filter(|_| is_absolute);
    let (_, rest) = target.split_at_mut(scheme.map_or(0, |at| at + 3));
    let is_end = |b: &u8| matches!(b, b'/' | b'?' | b'#');
    let host = if scheme.is_some() {
        rest.iter().position(is_end)
    } else {
        Some(0)
    };
    let (host, rest) = rest.split_at_mut(host.unwrap_or(rest.len()));
    host.fill(HIDDEN);
    let query = rest
        .iter()
        .position(|b| matches!(b, b'?' | b'#'))
        .map(|at| at + 1);
    if let Some((_path, query)) = query.and_then(|at| rest.split_at_mut_checked(at)) {
        query.fill(HIDDEN);
    }
}

/// The path of a request target, and whether something came after it.
fn path_of(target: &[u8]) -> Option<(Cow<'_, str>, bool)> {
    let rest = match target {
        [b'/', ..] | b"*" => target,
        // absolute-form: the path begins after the authority.
        _ => {
            let at = target.windows(3).position(|w| w == b"://")?;
            let scheme = target.get(..at)?;
            if scheme.is_empty() || !scheme.iter().all(u8::is_ascii_alphanumeric) {
                return None;
            }
            let rest = target.get(at + 3..)?;
            let slash = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#'));
            slash.map_or(&b""[..], |at| rest.get(at..).unwrap_or_default())
        }
    };
    let end = memchr2(b'?', b'#', rest);
    let path = rest.get(..end.unwrap_or(rest.len()))?;
    let path = match std::str::from_utf8(path) {
        Ok("") => "/".into(),
        Ok(path) => path.into(),
        Err(_) => String::from_utf8_lossy(path),
    };
    Some((path, end.is_some()))
}

/// The bytes before the first space, and those behind it if there is one.
fn word(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b' ', bytes) {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    }
}

fn token(bytes: &[u8]) -> Option<Cow<'static, str>> {
    if let Some(common) = common(bytes) {
        return Some(common);
    }
    let legal = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if bytes.is_empty() || !bytes.iter().all(legal) {
        return None;
    }
    let bytes = bytes.get(..TOKEN_BYTES.min(bytes.len()))?;
    Some(String::from_utf8_lossy(bytes).into_owned().into())
}

fn common(bytes: &[u8]) -> Option<Cow<'static, str>> {
    let common = COMMON.iter().find(|common| common.as_bytes() == bytes);
    common.map(|&common| common.into())
}

fn protocol(bytes: &[u8]) -> Option<Cow<'static, str>> {
    let is_http = bytes.starts_with(b"HTTP/") && bytes.len() <= TOKEN_BYTES;
    if let Some(common) = common(bytes).filter(|_| is_http) {
        return Some(common);
    }
    let text = std::str::from_utf8(bytes).ok()?;
    (is_http && bytes.iter().all(u8::is_ascii_graphic)).then(|| text.to_owned().into())
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
