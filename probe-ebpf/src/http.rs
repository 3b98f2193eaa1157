//! Sniffing of HTTP/1 heads as they pass by in pieces.

/// Where the head of a message ends, found byte by byte over any number of pieces.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScan {
    /// The last four bytes seen, the newest lowest.
    recent: u32,
    /// Bytes seen so far, while the end is not found; [`LOST`] when some were missed.
    seen: u32,
}

const LOST: u32 = u32::MAX;

/// Bytes of a status line that [`status`] needs.
pub const STATUS_BYTES: usize = 12;
/// How much of one piece is scanned for the end of a head.
/// The verifier walks every byte's branches, and refuses more than 8,192 of them.
pub const SCAN_BYTES: usize = 2048;
/// The end of a head.
pub const HEAD_END: [u8; 4] = *b"\r\n\r\n";

impl HeadScan {
    /// Whether bytes were missed, so that the end cannot be found any more.
    #[inline(always)]
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.seen == LOST
    }

    /// Takes the next byte; `Some(length of the head)` when it is the last of it.
    #[inline(always)]
    pub fn push(&mut self, byte: u8) -> Option<u32> {
        self.recent = self.recent << 8 | byte as u32;
        self.seen = self.seen.wrapping_add(1);
        (self.recent == u32::from_be_bytes(HEAD_END)).then_some(self.seen)
    }

    /// Bytes were missed: the end cannot be known.
    #[inline(always)]
    pub fn give_up(&mut self) {
        self.seen = LOST;
    }
}

/// The end of a response that only its last chunk tells.
pub const CHUNKED: u64 = u64::MAX;
/// The last chunk of a response, behind the end of another one.
pub const LAST_CHUNK: [u8; 7] = *b"\r\n0\r\n\r\n";
/// Bytes of it when it is sent alone.
pub const LAST_CHUNK_ALONE: usize = 5;

/// What the head of a response says. Lives in a map, where the verifier does not
/// follow its value: what comes after would be walked anew for each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// Its length; 0 when its end was not found.
    pub bytes: u32,
    /// Where the value of the last `…-Length` begins; 0 without one.
    length_at: u32,
    /// 1 if a field ends with `chunked`, as only `Transfer-Encoding` does.
    chunked: u32,
}

/// Bytes of a response looked through for its head.
const RESPONSE_BYTES: usize = 1536;
/// Bytes of a field looked at together.
const WORD: usize = 8;
/// Capital letters become small ones by this bit, which also turns a line feed
/// into `*` and a carriage return into `-`.
const SMALL: u64 = u64::from_be_bytes([b' '; WORD]);
/// `Content-Length:` and the end of the line before it, so changed.
const LENGTH: [[u8; WORD]; 2] = [*b"*content", *b"-length:"];
/// The end of a line that ends with `chunked`, so changed.
const CHUNKED_END: [u8; WORD] = *b"hunked-*";
/// Digits of a length, and spaces before them.
const LENGTH_BYTES: usize = 20;

impl ResponseHead {
    /// Looks through the first `len` bytes of `piece`.
    ///
    /// The verifier walks every way of every byte, and gives up at 8,192 branches
    /// in a row or a million instructions: hence so few bytes, and so little for each.
    #[inline(always)]
    pub fn scan(&mut self, piece: &[u8; SCAN_BYTES], len: u32) {
        let mut recent = 0_u64;
        for (seen, &byte) in (1..).zip(piece.iter().take(RESPONSE_BYTES)) {
            if seen > len {
                break;
            }
            recent = recent << 8 | u64::from(byte);
            if byte == b'\n' {
                if recent << 32 == u64::from(u32::from_be_bytes(HEAD_END)) << 32 {
                    self.bytes = seen;
                    return;
                }
                if recent | SMALL == u64::from_be_bytes(CHUNKED_END) {
                    self.chunked = 1;
                }
            } else if byte == b':' && recent | SMALL == u64::from_be_bytes(LENGTH[1]) {
                self.length_at = seen;
            }
        }
    }

    /// How many bytes the response has: 0 when it ends with its connection, or
    /// its head was not understood.
    #[inline(always)]
    #[must_use]
    pub fn response_end(&self, piece: &[u8; SCAN_BYTES]) -> u64 {
        if self.chunked != 0 {
            return CHUNKED;
        }
        if self.bytes == 0 {
            return 0;
        }
        match self.length(piece) {
            Some(length) => length.wrapping_add(u64::from(self.bytes)),
            None => 0,
        }
    }

    /// The value of `Content-Length`.
    #[inline(always)]
    fn length(&self, piece: &[u8; SCAN_BYTES]) -> Option<u64> {
        let name = (self.length_at as usize).checked_sub(2 * WORD)? & (SCAN_BYTES - 1);
        let field: &[u8; 2 * WORD + LENGTH_BYTES] = piece.get(name..)?.first_chunk()?;
        let (name, value) = field.split_first_chunk::<WORD>()?;
        if u64::from_be_bytes(*name) | SMALL != u64::from_be_bytes(LENGTH[0]) {
            return None;
        }
        let (_, value) = value.split_first_chunk::<WORD>()?;
        number(value)
    }
}

/// The number that `text` begins with, spaces before it aside.
#[inline(always)]
fn number(text: &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    let mut digits = 0_u32;
    for &byte in text {
        if byte.is_ascii_digit() {
            value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            digits += 1;
        } else if byte != b' ' || digits > 0 {
            return (byte == b'\r' && digits > 0).then_some(value);
        }
    }
    None
}

/// Whether a response of this status to a request that begins with `line` ends
/// with its head (RFC 9112, 6.3).
#[inline(always)]
#[must_use]
pub fn has_no_body(status: u16, line: [u8; 4]) -> bool {
    line == *b"HEAD" || status < 200 || status == 204 || status == 304
}

/// The status code of a response that begins with `line`, if that is a status line.
#[inline(always)]
#[must_use]
pub fn status(line: &[u8; STATUS_BYTES]) -> Option<u16> {
    // Gunicorn up to 21 answers in the version that the client named, whichever that is.
    let [
        b'H',
        b'T',
        b'T',
        b'P',
        b'/',
        b'0'..=b'9',
        b'.',
        _,
        b' ',
        a,
        b,
        c,
    ] = *line
    else {
        return None;
    };
    if !(a.is_ascii_digit() && b.is_ascii_digit() && c.is_ascii_digit()) {
        return None;
    }
    Some((a - b'0') as u16 * 100 + (b - b'0') as u16 * 10 + (c - b'0') as u16)
}

/// Whether a request that begins so cannot have a body in practice: its head
/// ends where its bytes end.
#[inline(always)]
#[must_use]
pub fn is_bodiless(start: [u8; 4]) -> bool {
    start == *b"GET " || start == *b"HEAD"
}

/// Bytes that [`begins_request`] looks at.
pub const START_BYTES: usize = 8;

/// Whether `start` could begin a request line: a method of capital letters.
#[inline(always)]
#[must_use]
pub fn begins_request(start: [u8; START_BYTES]) -> bool {
    matches!(
        &start,
        [b'G', b'E', b'T', b' ', b'/' | b'h', ..]
            | b"OPTIONS "
            | [b'H', b'E', b'A', b'D', b' ', b'/' | b'h', ..]
            | [b'P', b'O', b'S', b'T', b' ', b'/' | b'h', ..]
            | [b'P', b'U', b'T', b' ', b'/' | b'h', ..]
            | [b'D', b'E', b'L', b'E', b'T', b'E', b' ', b'/' | b'h']
            | [b'P', b'A', b'T', b'C', b'H', b' ', b'/' | b'h', _]
    )
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn end_of(bytes: &[u8]) -> Option<u32> {
        let mut scan = HeadScan::default();
        bytes.iter().find_map(|&b| scan.push(b))
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
    fn a_scan_that_missed_bytes_is_lost() {
        let mut scan = HeadScan::default();
        assert!(!scan.is_lost());
        scan.give_up();
        assert!(scan.is_lost());
    }

    fn response(text: &[u8]) -> (u32, u64) {
        let mut piece = [0; SCAN_BYTES];
        piece[..text.len()].copy_from_slice(text);
        let mut head = ResponseHead::default();
        head.scan(&piece, text.len().try_into().unwrap());
        (head.bytes, head.response_end(&piece))
    }

    #[test]
    fn a_response_says_where_it_ends() {
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
            // The rest of the head comes with another write.
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
    fn some_responses_have_no_body() {
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
        assert!(begins_request(*b"GET /abc"));
        assert!(begins_request(*b"DELETE /"));
        assert!(begins_request(*b"OPTIONS "));
        assert!(!begins_request(*b"GETaaaaa"));
        assert!(!begins_request(*b"\0\0\0\0\0\0\0\0"));
    }
}
