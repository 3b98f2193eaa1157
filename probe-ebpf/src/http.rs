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
