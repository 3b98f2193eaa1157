//! Requests that are none, and what each Gunicorn makes of them: as data.

/// A malformed request, and its outcomes under Gunicorn 20, 23 and 27.
pub struct Bad {
    pub what: &'static str,
    pub bytes: fn() -> Vec<u8>,
    pub comes: [Comes; 3],
}

/// The outcome of a malformed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comes {
    /// Gunicorn's `handle_error` answers this status to this class.
    Refused(u16, &'static str),
    /// The same, after it was raised in the application, which read the body.
    RefusedInside(u16, &'static str),
    /// Raised in the application, and not answered, being an `OSError`.
    ClosedInside(&'static str),
    /// The application answers.
    Served,
    /// Gunicorn waits for more.
    Awaited,
}

use Comes::{Awaited, ClosedInside, Refused, RefusedInside, Served};

/// The origin of the exception that is answered with a 5xx.
pub const CODING_RAISED_IN: &str = "gunicorn/http/message.py:Message.set_body_reader";

/// Requests to the application `raw`, whose `/upload` reads the body.
pub const BAD: [Bad; 9] = [
    Bad {
        what: "a line that is none",
        bytes: || b"GARBAGE\r\n\r\n".to_vec(),
        comes: [Refused(400, "InvalidRequestLine"); 3],
    },
    Bad {
        what: "a method that is none",
        bytes: || b"g(t / HTTP/1.1\r\n\r\n".to_vec(),
        comes: [Refused(400, "InvalidRequestMethod"); 3],
    },
    Bad {
        what: "a line that is too long",
        bytes: || long(b"GET /", b" HTTP/1.1\r\n\r\n"),
        comes: [
            Refused(400, "LimitRequestLine"),
            Refused(400, "LimitRequestLine"),
            Refused(414, "LimitRequestLine"),
        ],
    },
    Bad {
        what: "a header that is too large",
        bytes: || long(b"GET /hello HTTP/1.1\r\nX: ", b"\r\n\r\n"),
        comes: [
            Refused(400, "LimitRequestHeaders"),
            Refused(431, "LimitRequestHeaders"),
            Refused(431, "LimitRequestHeaders"),
        ],
    },
    Bad {
        what: "a header's name with a space",
        bytes: || b"GET /hello HTTP/1.1\r\nX Y: 1\r\n\r\n".to_vec(),
        comes: [Refused(400, "InvalidHeaderName"); 3],
    },
    Bad {
        what: "a coding that is unknown",
        bytes: || b"POST /upload HTTP/1.1\r\nTransfer-Encoding: zip\r\n\r\n".to_vec(),
        comes: [
            Served,
            Refused(501, "UnsupportedTransferCoding"),
            Refused(501, "UnsupportedTransferCoding"),
        ],
    },
    Bad {
        what: "a chunk's size that is no number",
        bytes: || chunked(b"zz\r\nabc\r\n0\r\n\r\n"),
        comes: [
            ClosedInside("InvalidChunkSize"),
            ClosedInside("InvalidChunkSize"),
            RefusedInside(400, "InvalidChunkSize"),
        ],
    },
    Bad {
        what: "a chunk longer than it says",
        bytes: || chunked(b"3\r\nabcXX0\r\n\r\n"),
        comes: [
            ClosedInside("ChunkMissingTerminator"),
            ClosedInside("ChunkMissingTerminator"),
            RefusedInside(400, "ChunkMissingTerminator"),
        ],
    },
    Bad {
        what: "TLS",
        bytes: client_hello,
        comes: [Awaited; 3],
    },
];

fn long(before: &[u8], after: &[u8]) -> Vec<u8> {
    [before, &[b'x'; 9000], after].concat()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let head = b"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    [head.as_slice(), body].concat()
}

/// The beginning of TLS 1.2 (RFC 5246, section 7.4.1.2): a record of 47 bytes with a hello of 43.
fn client_hello() -> Vec<u8> {
    let random: Vec<u8> = (32..64).collect();
    let head = [0x16, 3, 1, 0, 47, 1, 0, 0, 43, 3, 3];
    let rest = [0, 0, 2, 0x13, 1, 1, 0, 0, 0];
    [head.as_slice(), &random, &rest].concat()
}
