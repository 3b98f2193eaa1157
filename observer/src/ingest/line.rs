//! The request line: method, path and protocol of a request.
//!
//! The query is dropped here, before anything else sees it.

use probe_ebpf::abi::NAME_BYTES;

/// A method or protocol longer than this is cut.
const TOKEN_BYTES: usize = 16;

/// What a request line says. What is malformed or was not captured is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestLine {
    pub method: Option<String>,
    /// Path as sent, not decoded, without the query.
    pub path: Option<String>,
    /// The path goes on after what was captured.
    pub path_cut: bool,
    pub protocol: Option<String>,
}

/// Reads the first bytes of a request as the client sent them.
#[must_use]
pub fn from_wire(bytes: &[u8]) -> RequestLine {
    // An empty line before a request is to be ignored (RFC 9112, 2.2).
    let begin = bytes
        .iter()
        .position(|b| !matches!(b, b'\r' | b'\n'))
        .unwrap_or(bytes.len());
    let bytes = bytes.get(begin..).unwrap_or_default();
    let end = bytes.iter().position(|b| matches!(b, b'\r' | b'\n'));
    let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();

    let mut words = line.splitn(3, |&b| b == b' ');
    let method = words.next().and_then(token);
    // Without a line of a known shape nothing else in it can be trusted.
    let (Some(method), Some(target)) = (method, words.next()) else {
        return RequestLine::default();
    };
    let last = words.next();
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
pub fn from_python(bytes: &[u8], capacity: usize) -> RequestLine {
    let (method, path) = bytes.split_at(NAME_BYTES.min(bytes.len()));
    let method = method.split(|&b| b == 0).next().and_then(token);
    let full = bytes.len() >= capacity;
    let path = path.split(|&b| b == 0).next().unwrap_or_default();
    let (path, path_cut) = match path {
        // `Request.path` of a target without one.
        [] if method.is_some() => (Some("/".to_owned()), false),
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

/// The path of a request target, and whether something came after it.
fn path_of(target: &[u8]) -> Option<(String, bool)> {
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
    let end = rest.iter().position(|b| matches!(b, b'?' | b'#'));
    let path = rest.get(..end.unwrap_or(rest.len()))?;
    let path = if path.is_empty() {
        "/".into()
    } else {
        String::from_utf8_lossy(path)
    };
    Some((path.into_owned(), end.is_some()))
}

fn token(bytes: &[u8]) -> Option<String> {
    let legal = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if bytes.is_empty() || !bytes.iter().all(legal) {
        return None;
    }
    let bytes = bytes.get(..TOKEN_BYTES.min(bytes.len()))?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn protocol(bytes: &[u8]) -> Option<String> {
    let is_http = bytes.starts_with(b"HTTP/") && bytes.len() <= TOKEN_BYTES;
    let text = std::str::from_utf8(bytes).ok()?;
    (is_http && bytes.iter().all(u8::is_ascii_graphic)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(bytes: &str) -> (String, String, String) {
        let line = from_wire(bytes.as_bytes());
        let text = |o: Option<String>| o.unwrap_or_else(|| "-".to_owned());
        let cut = if line.path_cut { "+" } else { "" };
        (
            text(line.method),
            text(line.path) + cut,
            text(line.protocol),
        )
    }

    #[test]
    fn a_line_is_read_as_the_client_sent_it() {
        let cases = [
            (
                "GET /a?x=1 HTTP/1.1\r\nHost: h\r\n",
                ("GET", "/a", "HTTP/1.1"),
            ),
            ("\r\nPOST /b/ HTTP/1.0\n", ("POST", "/b/", "HTTP/1.0")),
            (
                "GET http://u:p@host:80/c?q HTTP/1.1\r\n",
                ("GET", "/c", "HTTP/1.1"),
            ),
            ("GET http://host?q HTTP/1.1\r\n", ("GET", "/", "HTTP/1.1")),
            ("GET http://host HTTP/1.1\r\n", ("GET", "/", "HTTP/1.1")),
            ("OPTIONS * HTTP/1.1\r\n", ("OPTIONS", "*", "HTTP/1.1")),
            (
                "CONNECT host:443 HTTP/1.1\r\n",
                ("CONNECT", "-", "HTTP/1.1"),
            ),
            ("GET /a#f HTTP/1.1\r\n", ("GET", "/a", "HTTP/1.1")),
            ("GET /a\r\n", ("GET", "/a", "-")),
            ("BREW /pot HTCPCP/1.0\r\n", ("BREW", "/pot", "-")),
        ];
        for (bytes, (method, path, protocol)) in cases {
            assert_eq!(
                wire(bytes),
                (method.into(), path.into(), protocol.into()),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_malformed_line_says_nothing() {
        for bytes in [
            "",
            "\r\n",
            "GET",
            "G\u{1}T / HTTP/1.1\r\n",
            " / HTTP/1.1\r\n",
            "\u{16}\u{3}",
        ] {
            assert_eq!(
                from_wire(bytes.as_bytes()),
                RequestLine::default(),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_path_beyond_what_was_captured_is_marked() {
        assert_eq!(
            wire("GET /long/pa"),
            ("GET".into(), "/long/pa+".into(), "-".into())
        );
        assert_eq!(
            wire("GET /long?que"),
            ("GET".into(), "/long".into(), "-".into())
        );
        assert_eq!(
            wire("GET /long HTTP/1."),
            ("GET".into(), "/long".into(), "-".into())
        );
    }

    #[test]
    fn a_path_that_is_not_utf8_is_kept_readable() {
        let line = from_wire(b"GET /\xff\xfe HTTP/1.1\r\n");
        assert_eq!(line.path.as_deref(), Some("/\u{fffd}\u{fffd}"));
    }

    #[test]
    fn pythons_method_and_path_are_read() {
        let line = from_python(b"DELETE\0\0\0\0\0\0\0\0\0\0/users/7", 256);
        assert_eq!(line.method.as_deref(), Some("DELETE"));
        assert_eq!(line.path.as_deref(), Some("/users/7"));
        assert!(!line.path_cut);
        assert!(from_python(b"GET\0\0\0\0\0\0\0\0\0\0\0\0\0/use", 20).path_cut);
        assert_eq!(
            from_python(b"GET\0\0\0\0\0\0\0\0\0\0\0\0\0", 256)
                .path
                .as_deref(),
            Some("/")
        );
        assert_eq!(from_python(b"", 256), RequestLine::default());
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for line in [from_wire(&bytes), from_python(&bytes, 256)] {
                let path = line.path.unwrap_or_default();
                prop_assert!(!path.contains('?'));
                prop_assert!(line.method.unwrap_or_default().len() <= TOKEN_BYTES);
            }
        }
    }
}
