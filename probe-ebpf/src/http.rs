//! Parses HTTP/1 heads that come in pieces.

/// Finds the end of a message's head, byte by byte over any number of pieces.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScan {
    /// The last four bytes, the newest lowest.
    recent: u32,
    /// Bytes scanned so far, while the end is not found; [`LOST`] when some were missed.
    seen: u32,
}

const LOST: u32 = u32::MAX;

/// The status that ends HTTP on a connection: no other response follows it.
pub const SWITCHING_PROTOCOLS: u16 = 101;
/// Bytes of a status line that [`status`] needs.
pub const STATUS_BYTES: usize = 12;
/// Bytes of one piece that are scanned for the end of a head. The verifier walks the branches of every
/// byte, and refuses more than 8,192 of them.
pub const SCAN_BYTES: usize = 2048;
/// The end of a head.
pub const HEAD_END: [u8; 4] = *b"\r\n\r\n";

/// A piece of a message. It lives in a map: the verifier does not track map values, so it walks a loop
/// over the bytes once, not once for every length.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Bytes that are filled.
    pub len: u32,
    pub bytes: [u8; SCAN_BYTES],
}

impl HeadScan {
    /// Whether bytes were missed, so that the end cannot be found.
    #[inline(always)]
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.seen == LOST
    }

    /// Scans the next bytes; returns the length of the head if its end is among them, else 0.
    #[inline(always)]
    pub fn scan(&mut self, window: &Window) -> u32 {
        let mut recent = self.recent;
        for (at, &byte) in (0..).zip(&window.bytes) {
            if at >= window.len {
                break;
            }
            recent = recent << 8 | u32::from(byte);
            if recent == u32::from_be_bytes(HEAD_END) {
                return self.seen + at + 1;
            }
        }
        self.recent = recent;
        self.seen += window.len;
        0
    }

    /// Marks that bytes were missed.
    #[inline(always)]
    pub fn give_up(&mut self) {
        self.seen = LOST;
    }
}

/// [`ResponseHead::end`] of a response that ends with its last chunk.
pub const CHUNKED: u64 = u64::MAX;
/// The last chunk of a response, behind the end of another one.
pub const LAST_CHUNK: [u8; 7] = *b"\r\n0\r\n\r\n";
/// Bytes of the last chunk when it is sent alone.
pub const LAST_CHUNK_ALONE: usize = 5;

/// The parsed head of a response. It lives in a map, where the verifier does not track its values:
/// else it would walk the code behind it again for each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// Bytes of the response: 0 when it ends with its connection or its head was not understood;
    /// [`CHUNKED`] when it ends with its last chunk.
    pub end: u64,
    /// Length of the head; 0 when its end was not found.
    pub bytes: u32,
    /// Offset behind the word of `Content-Length`; 0 without one.
    length_at: u32,
    /// Offset behind the word of `Transfer-Encoding`, which is `chunked` if there is one; else 0.
    encoding_at: u32,
    reserved: u32,
}

/// Bytes of a response that are searched for its head.
pub const RESPONSE_BYTES: usize = 1536;

/// Up to eight letters to search for in a head, in lower case.
#[derive(Clone, Copy)]
struct Word {
    letters: u64,
    /// Bits that are compared.
    mask: u64,
    /// Bits that turn capital letters into small ones; they also turn line feeds into `*`.
    small: u64,
}

impl Word {
    const fn new(letters: [u8; 8]) -> Self {
        Self {
            letters: u64::from_be_bytes(letters),
            mask: u64::MAX,
            small: u64::from_be_bytes([b' '; 8]),
        }
    }

    /// The end of the head.
    const END: Self = Self {
        letters: u32::from_be_bytes(HEAD_END) as u64,
        mask: u32::MAX as u64,
        small: 0,
    };
    /// Eight letters of `Content-Length` and of `Transfer-Encoding` that no other field has, unlike
    /// those of `Content-Encoding` and `Accept-Encoding`.
    const LENGTH: Self = Self::new(*b"t-length");
    const ENCODING: Self = Self::new(*b"r-encodi");

    #[inline(always)]
    fn is(self, recent: u64) -> bool {
        (recent | self.small) & self.mask == self.letters
    }
}

/// The bytes before the value of `Content-Length`, from the end of the previous line.
const LENGTH_FIELD: [Word; 2] = [Word::new(*b"*content"), Word::new(*b"-length:")];
/// Digits of a length, and spaces before them.
const LENGTH_BYTES: usize = 20;

impl ResponseHead {
    /// Parses the head of a response. `alone` is its length where the bytes are a head and nothing else,
    /// perhaps longer than what is searched; else 0.
    #[inline(always)]
    pub fn scan(&mut self, window: &Window, alone: u32) {
        self.bytes = match find(window, Word::END) {
            0 => alone,
            found => found,
        };
        self.length_at = find(window, Word::LENGTH);
        self.encoding_at = find(window, Word::ENCODING);
        self.measure(window);
    }

    /// Sets `end`.
    #[inline(never)]
    fn measure(&mut self, window: &Window) {
        // A word behind the head is part of the body.
        self.end = if self.bytes == 0 {
            0
        } else if self.encoding_at != 0 && self.encoding_at < self.bytes {
            CHUNKED
        } else if self.length_at != 0 && self.length_at < self.bytes {
            match self.length(&window.bytes) {
                Some(length) => length.wrapping_add(u64::from(self.bytes)),
                None => 0,
            }
        } else {
            0
        };
    }

    /// The value of `Content-Length`.
    #[inline(always)]
    fn length(&self, bytes: &[u8; SCAN_BYTES]) -> Option<u64> {
        /// From the line feed before the field to the end of the word.
        const BEFORE: usize = 15;
        let at = (self.length_at as usize).checked_sub(BEFORE)? & (SCAN_BYTES - 1);
        let field: &[u8; 16 + LENGTH_BYTES] = bytes.get(at..)?.first_chunk()?;
        let (first, rest) = field.split_first_chunk()?;
        let (second, value) = rest.split_first_chunk()?;
        let is_field = LENGTH_FIELD[0].is(u64::from_be_bytes(*first))
            && LENGTH_FIELD[1].is(u64::from_be_bytes(*second));
        is_field.then(|| number(value)).flatten()
    }
}

/// Offset behind the first `word`; 0 without one.
///
/// The verifier walks every path of every byte, and gives up at 8,192 branches in a row or a million
/// instructions. Hence the few bytes, and one comparison of each that leaves the loop: the verifier
/// prunes paths that join again.
#[inline(never)]
fn find(window: &Window, word: Word) -> u32 {
    let mut recent = 0;
    for (end, &byte) in (1..).zip(window.bytes.iter().take(RESPONSE_BYTES)) {
        if end > window.len {
            break;
        }
        recent = recent << 8 | u64::from(byte);
        if word.is(recent) {
            return end;
        }
    }
    0
}

/// The number at the start of `text`, behind any spaces.
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

/// Whether a response of this status to a request that begins with `line` ends with its head
/// (RFC 9112, 6.3).
#[inline(always)]
#[must_use]
pub fn has_no_body(status: u16, line: [u8; 4]) -> bool {
    line == *b"HEAD" || status < 200 || status == 204 || status == 304
}

/// The status code of a response that begins with `line`, if that is a status line.
#[inline(always)]
#[must_use]
pub fn status(line: &[u8; STATUS_BYTES]) -> Option<u16> {
    // Gunicorn up to 21 answers in the version that the client named, whatever it is.
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

/// The version of HTTP in a status line, as major << 8 | minor.
#[inline(always)]
#[must_use]
pub fn version(line: &[u8; STATUS_BYTES]) -> u32 {
    let [_, _, _, _, _, major, _, minor, ..] = *line;
    let digit = |byte: u8| u32::from(byte.wrapping_sub(b'0'));
    digit(major) << 8 | digit(minor)
}

/// Whether a request that begins with `start` has no body in practice: its head ends where its bytes
/// end.
#[inline(always)]
#[must_use]
pub fn is_bodiless(start: [u8; 4]) -> bool {
    start == *b"GET " || start == *b"HEAD"
}

/// Bytes that [`begins_request`] needs.
pub const START_BYTES: usize = 8;

/// Registered methods that are as long or longer, cut (IANA, HTTP Method Registry; `M-SEARCH` is UPnP's):
/// of those no more is seen than letters, as in any text.
const LONG_METHODS: [&[u8; START_BYTES]; 14] = [
    b"BASELINE",
    b"CHECKOUT",
    b"M-SEARCH",
    b"MKACTIVI",
    b"MKCALEND",
    b"MKREDIRE",
    b"MKWORKSP",
    b"ORDERPAT",
    b"PROPFIND",
    b"PROPPATC",
    b"SUBSCRIB",
    b"UNCHECKO",
    b"UPDATERE",
    b"VERSION-",
];

/// Whether `start` could begin a request line: a method of capital letters, whatever it is, and the begin
/// of a target.
#[inline(always)]
#[must_use]
pub fn begins_request(start: [u8; START_BYTES]) -> bool {
    let word = u64::from_le_bytes(start);
    // How many letters come first. Without branches: the verifier would walk both ways for each.
    let (mut is_method, mut letters) = (1, 0);
    for at in 0..START_BYTES {
        let byte = word >> (at * 8) & 0xff;
        is_method &= is_between(byte, b'A', b'Z') | is_between(byte, b'-', b'-');
        letters += is_method;
    }
    let byte = |at: u64| word >> ((at * 8) & 63) & 0xff;
    match letters {
        8 => LONG_METHODS
            .iter()
            .any(|method| u64::from_le_bytes(**method) == word),
        // The target does not fit.
        7 => byte(7) == u64::from(b' '),
        2..=6 => {
            let target = [b'/', b'h', b'*'].map(u64::from);
            byte(letters) == u64::from(b' ') && target.contains(&byte(letters + 1))
        }
        _ => false,
    }
}

/// 1 if a byte is not below `first` and not above `last`, else 0.
#[inline(always)]
fn is_between(byte: u64, first: u8, last: u8) -> u64 {
    let (first, last) = (u64::from(first), u64::from(last));
    let out = byte.wrapping_sub(first) | last.wrapping_sub(byte);
    // The compiler would make a branch of it.
    core::hint::black_box(out >> 63) ^ 1
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
