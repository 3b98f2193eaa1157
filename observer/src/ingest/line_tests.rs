use super::*;
use proptest::prelude::*;

fn wire(bytes: &str) -> (String, String, String) {
    let line = from_wire(bytes.as_bytes());
    let text = |of: Option<Cow<str>>| of.unwrap_or("-".into()).into_owned();
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
fn a_malformed_line_is_not_trusted() {
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

#[test]
fn queries_and_headers_are_redacted() {
    for (bytes, expected) in [
        (
            "GET /a?b=c HTTP/1.1\r\nCookie: d",
            "GET /a?xxx HTTP/1.1\r\0\0\0\0\0\0\0\0\0\0",
        ),
        (
            "GET http://u:p@h/a?b HTTP/1.1\n",
            "GET http://xxxxx/a?x HTTP/1.1\n",
        ),
        ("CONNECT h:1 HTTP/1.1\n", "CONNECT xxx HTTP/1.1\n"),
        ("GET /a secret words", "GET /a xxxxxxxxxxxx"),
        ("secret", "\0\0\0\0\0\0"),
    ] {
        let mut kept = bytes.as_bytes().to_vec();
        redact_wire(&mut kept);
        assert_eq!(String::from_utf8_lossy(&kept), expected);
    }
}

proptest! {
    #[test]
    fn redaction_keeps_method_path_and_protocol(
        text in "(\r?\n)?[A-Z]{1,4} ([a-z]{0,4}://[a-z:@]{0,6})?/?[a-z/?#]{0,9}( HTTP/1.[01])?[a-z \r\n]{0,9}",
    ) {
        let mut kept = text.clone().into_bytes();
        redact_wire(&mut kept);
        prop_assert_eq!(from_wire(&kept), from_wire(text.as_bytes()));
    }

    #[test]
    fn redaction_of_any_bytes_keeps_method_path_and_protocol(
        bytes in proptest::collection::vec(any::<u8>(), 0..300)
    ) {
        let mut kept = bytes.clone();
        redact_wire(&mut kept);
        prop_assert_eq!(from_wire(&kept), from_wire(&bytes));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for line in [from_wire(&bytes), from_python(&bytes, 256)] {
            let path = line.path.unwrap_or_default();
            prop_assert!(!path.contains('?'));
            prop_assert!(line.method.unwrap_or_default().len() <= TOKEN_BYTES);
        }
    }
}
