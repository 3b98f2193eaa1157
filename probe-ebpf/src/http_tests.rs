extern crate std;

use super::*;

/// A window with this piece, and leftovers behind it that must be ignored.
fn window(piece: &[u8]) -> Window {
    let mut bytes = [b'\n'; SCAN_BYTES];
    bytes[..piece.len()].copy_from_slice(piece);
    let len = piece.len().try_into().unwrap();
    Window { len, bytes }
}

/// Length of the head, in one piece and cut into two at every offset.
fn end_of(bytes: &[u8]) -> Option<u32> {
    let mut ends = (0..=bytes.len()).map(|cut| {
        let mut scan = HeadScan::default();
        let (first, second) = bytes.split_at(cut);
        [first, second]
            .into_iter()
            .find_map(|piece| match scan.scan(&window(piece)) {
                0 => None,
                end => Some(end),
            })
    });
    let end = ends.next().unwrap();
    assert!(ends.all(|other| other == end));
    end
}

#[test]
fn a_head_ends_at_the_first_empty_line() {
    assert_eq!(
        end_of(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n"),
        Some(27)
    );
    assert_eq!(end_of(b"\r\n\r\n"), Some(4));
}

#[test]
fn an_unfinished_head_has_no_end() {
    assert_eq!(end_of(b"GET / HTTP/1.1\r\nHost: a\r\n"), None);
    assert_eq!(end_of(b"\n\n\r\n\n\r"), None);
    assert_eq!(end_of(b""), None);
}

#[test]
fn a_scan_that_missed_bytes_reports_that_it_is_lost() {
    let mut scan = HeadScan::default();
    assert!(!scan.is_lost());
    scan.give_up();
    assert!(scan.is_lost());
}

fn response(text: &[u8]) -> (u32, u64) {
    let mut head = ResponseHead::default();
    head.scan(&window(text), 0);
    (head.bytes, head.end)
}

#[test]
fn the_head_of_a_response_gives_its_length() {
    let cases: [(&[u8], (u32, u64)); 10] = [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n",
            (38, 44),
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-LENGTH:1234567890123\r\n\r\n",
            (49, 1_234_567_890_172),
        ),
        (b"HTTP/1.1 200 OK\r\nX-Content-Length: 6\r\n\r\n", (40, 0)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: six\r\n\r\n", (40, 0)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6x\r\n\r\n", (39, 0)),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            (57, 0),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n",
            (47, CHUNKED),
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n",
            (66, CHUNKED),
        ),
        (
            b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nContent-Length: 6\r\n",
            (30, 0),
        ),
        // Another write sends the rest of the head.
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n", (0, 0)),
    ];
    for (text, expected) in cases {
        assert_eq!(
            response(text),
            expected,
            "{}",
            std::string::String::from_utf8_lossy(text)
        );
    }
}

#[test]
fn a_long_head_that_is_written_alone_gives_its_length() {
    let mut text = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX: ".to_vec();
    text.resize(RESPONSE_BYTES + 300, b'x');
    text.extend(b"\r\n\r\n");
    let mut head = ResponseHead::default();
    let alone = u32::try_from(text.len()).unwrap();
    head.scan(&window(&text), 0);
    assert_eq!((head.bytes, head.end), (0, 0));
    head.scan(&window(&text), alone);
    assert_eq!((head.bytes, head.end), (alone, u64::from(alone) + 6));
}

#[test]
fn responses_to_head_and_of_1xx_204_and_304_have_no_body() {
    assert!(has_no_body(200, *b"HEAD"));
    assert!(has_no_body(204, *b"GET "));
    assert!(has_no_body(304, *b"GET "));
    assert!(has_no_body(101, *b"GET "));
    assert!(!has_no_body(200, *b"GET "));
    assert!(!has_no_body(404, *b"POST"));
}

#[test]
fn a_status_is_read_only_from_a_status_line() {
    assert_eq!(status(b"HTTP/1.1 200"), Some(200));
    assert_eq!(status(b"HTTP/1.0 503"), Some(503));
    assert_eq!(status(b"HTTP/2.0 404"), Some(404));
    assert_eq!(status(b"HTTP/1.1 2x0"), None);
    assert_eq!(status(b"<html><body>"), None);
    assert_eq!(status(&[0; STATUS_BYTES]), None);
}

#[test]
fn a_request_begins_with_a_method_and_a_target() {
    for line in [
        "GET /abc",
        "GET http:",
        "PUT /a/b",
        "DELETE /",
        "OPTIONS ",
        "CONNECT ",
        "PROPFIND /",
        "PROPPATCH /",
        "REPORT /",
        "PURGE /a",
        "QUERY /a",
        "MKCALENDAR /",
        "M-SEARCH *",
        "VERSION-CONTROL /",
        "LOCK /ab",
        "ACL /abc",
        "OPTIONS *",
    ] {
        let start = line.as_bytes()[..START_BYTES].try_into().unwrap();
        assert!(begins_request(start), "{line}");
    }
    for start in [
        *b"GETaaaaa",
        *b"GET aaaa",
        *b"get /abc",
        *b"G /abcde",
        *b"CATEGORY",
        *b"AAAAAAAA",
        *b" GET /ab",
        *b"GET\t/abc",
        [0; START_BYTES],
        [0xff; START_BYTES],
    ] {
        assert!(!begins_request(start), "{start:?}");
    }
}

#[test]
fn bytes_are_compared_at_their_bounds() {
    let between = |byte: u8| is_between(byte.into(), b'A', b'Z') == 1;
    for byte in 0..=u8::MAX {
        assert_eq!(between(byte), byte.is_ascii_uppercase(), "{byte}");
    }
}
