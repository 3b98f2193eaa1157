//! Requests as Gunicorn's own code shows them: it enters, ends or fails one.

use super::wire::{bounded, read_line};
use super::{Kernel, Machine, Origin};
use crate::abi::{
    Conn, HEAD_BYTES, LineSource, NAME_BYTES, Phase, Stat, Thread, WORDS, flags, marks, target_flags,
};
use crate::gunicorn::Family;
use crate::memory::{Fault, Memory};
use crate::python::fields::{self, FIELDS, Name, Shape};
use crate::python::Layout;

/// Time after a process became a target in which a request without a read was read before that: only
/// parsing lies between the read that completes a head and the entry.
const READ_BEFORE_NS: u64 = 50_000_000;

/// Attributes of Gunicorn's `Request` (`gunicorn/http/message.py`).
const REQUEST: [Name; FIELDS] = [
    *b"method\0\0",
    *b"path\0\0\0\0",
    *b"unreader",
    *b"body\0\0\0\0",
];
/// Attributes of Gunicorn's `Response` (`gunicorn/http/wsgi.py`): `status`, `sent`, `headers_sent`.
const RESPONSE: [Name; FIELDS] = [*b"status\0\0", *b"sent\0\0\0\0", *b"headers_", [0; 8]];
/// `Unreader.buf` (`gunicorn/http/unreader.py`), `Body.reader`, `LengthReader.length`
/// (`gunicorn/http/body.py`) and `TConn.sock` (`gunicorn/workers/gthread.py`).
const BUFFER: [Name; FIELDS] = [*b"buf\0\0\0\0\0", [0; 8], [0; 8], [0; 8]];
const READER: [Name; FIELDS] = [*b"reader\0\0", [0; 8], [0; 8], [0; 8]];
const LENGTH: [Name; FIELDS] = [*b"length\0\0", [0; 8], [0; 8], [0; 8]];
const SOCKET: [Name; FIELDS] = [*b"sock\0\0\0\0", [0; 8], [0; 8], [0; 8]];

/// `string_size` of a `BytesIO` (`Modules/_io/bytesio.c`, `bytesio`).
const BYTES_IO_SIZE: u64 = 32;
/// `sock_fd` of a socket (`Modules/socketmodule.h`, `PySocketSockObject`).
const SOCKET_FD: u64 = 16;
/// Words of a `str` that are read at once.
const STR_WORDS: usize = 8;
/// The status with which Gunicorn answers an HTTP/2 request whose application failed
/// (`_serve_http2_stream`).
const STREAM_FAILED: u16 = 500;

/// A call of Gunicorn's request handling.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub layout: &'a Layout,
    /// A [`Family`].
    pub family: u32,
    /// Whether it handles a stream of an HTTP/2 connection.
    pub is_stream: bool,
    /// The request object.
    pub request: u64,
    /// The object of the connection.
    pub client: u64,
}

/// The end of a request as Gunicorn's `Response` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// 0 while none was chosen.
    pub status: u16,
    /// Bytes of the body that were handed to the connection.
    pub sent: u64,
    pub has_headers_sent: bool,
}

impl<K: Kernel> Machine<'_, K> {
    /// A request enters the application. `shape` is that of its class.
    #[inline(always)]
    pub fn entered(&self, call: &Call<'_>, shape: &mut Shape) {
        let target = self.kernel.target();
        let now = self.kernel.now();
        let Some(mut thread) = self.kernel.make_thread() else {
            return;
        };
        let mut at = self.find(call, thread.last_read);
        if let Some(sock) = at
            && let Some(mut conn) = self.kernel.conn(self.key(sock))
        {
            self.finish_earlier(&mut conn);
        } else {
            at = None;
        }
        if at.is_none() {
            if now.wrapping_sub(target.generation) < READ_BEFORE_NS {
                // It was read before the observer came. Its exit finds no entry and is counted as
                // unmatched, like that of other requests in flight then.
                return;
            }
            self.kernel.count(Stat::FlowWithoutConn);
        }
        let sock = at.unwrap_or(call.request);
        let key = self.key(sock);
        let found = if at.is_some() {
            self.kernel.conn(key)
        } else {
            self.kernel.open(key)
        };
        let Some(mut conn) = found else { return };
        if at.is_none() {
            conn.flags = flags::NO_CONNECTION;
        } else if conn.phase != Phase::Reading as u16 {
            // Its bytes were read together with an earlier request.
            conn.flags |= flags::PIPELINED;
            conn.first_read_ns = 0;
            conn.request_bytes = 0;
            conn.marks &= !marks::HEAD_ALONE;
        }
        conn.phase = Phase::Entered as u16;
        conn.request = call.request;
        conn.entered_ns = now;
        conn.tid = self.kernel.tid();
        conn.family = call.family as u16;
        if call.family != Family::Sync as u32 && conn.client != call.client && at.is_some() {
            conn.client = call.client;
            self.kernel.keep_client(self.key(call.client), sock);
        }
        thread.serving = sock;
        if self
            .describe(call, &mut conn, shape, &mut thread)
            .is_err()
        {
            self.kernel.count(Stat::LineUnreadable);
        }
    }

    /// The connection of a request: that of the connection's object, else the one that its thread read
    /// last, because nothing yields between the read that completes a head and the entry. A pipelined
    /// request is taken out of a buffer, perhaps by another thread or greenlet.
    #[inline(always)]
    fn find(&self, call: &Call<'_>, last_read: u64) -> Option<u64> {
        if call.family != Family::Sync as u32
            && let Some(sock) = self.kernel.client(self.key(call.client))
            && let Some(conn) = self.kernel.conn(self.key(sock))
            && conn.client == call.client
        {
            return Some(sock);
        }
        if last_read != 0
            && let Some(conn) = self.kernel.conn(self.key(last_read))
            && (conn.request == 0 || conn.phase == Phase::Entered as u16)
        {
            return Some(last_read);
        }
        None
    }

    /// Ends a request that is still open when the next one of its connection enters: an exception
    /// bypassed everything that would have ended it.
    #[inline(always)]
    fn finish_earlier(&self, conn: &mut Conn) {
        if conn.request == 0 {
            return;
        }
        self.kernel.count(Stat::FlowReplaced);
        if conn.exited_ns == 0 {
            conn.exited_ns = self.kernel.now();
        }
        self.finish(conn, Origin::Python);
    }

    /// Keeps method and path of a request, and the length of its head.
    #[inline(always)]
    fn describe(
        &self,
        call: &Call<'_>,
        conn: &mut Conn,
        shape: &mut Shape,
        thread: &mut Thread,
    ) -> Result<(), Fault> {
        let (user, layout) = (self.kernel.user(), call.layout);
        let space = &mut thread.words;
        let found = fields::read(user, layout, call.request, &REQUEST, shape, space)?;
        let [method, path, unreader, body] = found;
        let method_start = self.keep_names(layout, conn, method, path, space)?;
        let is_plain = method_start == u64::from_le_bytes(*b"GET\0\0\0\0\0")
            || method_start == u64::from_le_bytes(*b"HEAD\0\0\0\0");
        let is_tls = self.kernel.target().flags & target_flags::TLS != 0;
        if conn.request_bytes == 0 {
            conn.marks &= !marks::HEAD_ALONE;
        } else if conn.marks & marks::HEAD_ALONE != 0 || (is_plain && (is_tls || call.is_stream)) {
            conn.request_head_bytes = conn.request_bytes as u32;
        } else if is_tls {
            // Its bytes are encrypted, and more than those of the body.
            if let Some(body) = self.announced(layout, body, thread) {
                conn.request_head_bytes = conn.request_bytes as u32;
                conn.request_bytes += body;
                conn.marks |= marks::ENCRYPTED;
            }
        } else if !call.is_stream {
            self.measure_head(layout, conn, unreader, body, thread);
        }
        Ok(())
    }

    /// Sets the length of the head: what was read so far, less what Gunicorn has not used yet.
    #[inline(always)]
    fn measure_head(
        &self,
        layout: &Layout,
        conn: &mut Conn,
        unreader: u64,
        body: u64,
        thread: &mut Thread,
    ) {
        let user = self.kernel.user();
        if unreader == 0 || body == 0 {
            return;
        }
        let Ok(buffer) = seldom(user, layout, unreader, &BUFFER, thread) else {
            return;
        };
        if let Ok(left) = user.word(buffer.wrapping_add(BYTES_IO_SIZE))
            && left < conn.request_bytes
        {
            conn.request_head_bytes = (conn.request_bytes - left) as u32;
        }
    }

    /// Keeps method and path; returns the first letters of the method.
    #[inline(always)]
    fn keep_names(
        &self,
        layout: &Layout,
        conn: &mut Conn,
        method: u64,
        path: u64,
        space: &mut [u64; WORDS],
    ) -> Result<u64, Fault> {
        const PATH_BYTES: usize = HEAD_BYTES - NAME_BYTES;
        let user = self.kernel.user();
        let (at, len) = text(user, layout, method, space)?;
        let kept = bounded(len.min(NAME_BYTES as u64), 2 * NAME_BYTES);
        conn.line[..NAME_BYTES].fill(0);
        read_line(user, at, &mut conn.line, 0, kept)?;
        let start = u64::from_le_bytes(*conn.line.first_chunk().ok_or(Fault)?);
        let (path, len) = text(user, layout, path, space)?;
        let kept = bounded(len.min(PATH_BYTES as u64), HEAD_BYTES);
        read_line(user, path, &mut conn.line, NAME_BYTES, kept)?;
        conn.line_len = (NAME_BYTES + kept) as u32;
        conn.line_source = LineSource::Python as u16;
        Ok(start)
    }

    /// The connection whose request is this one, if it entered.
    #[inline(always)]
    pub fn serving(&self, request: u64, client: u64) -> Option<K::Conn<'_>> {
        let serving = self.kernel.thread().map_or(0, |thread| thread.serving);
        if serving != 0
            && let Some(conn) = self.kernel.conn(self.key(serving))
            && conn.request == request
        {
            return Some(conn);
        }
        if let Some(sock) = self.kernel.client(self.key(client))
            && let Some(conn) = self.kernel.conn(self.key(sock))
            && conn.request == request
        {
            return Some(conn);
        }
        let conn = self.kernel.conn(self.key(request))?;
        (conn.request == request).then_some(conn)
    }

    /// The response is complete, or an exception interrupted it. If no byte was sent, `handle_error` may
    /// follow, and its answer or the close sends the record.
    #[inline(always)]
    pub fn exited(&self, call: &Call<'_>, response: u64, shape: &mut Shape) {
        let Some(mut conn) = self.serving(call.request, call.client) else {
            self.kernel.count(Stat::ExitUnmatched);
            return;
        };
        conn.exited_ns = self.kernel.now();
        conn.flags |= flags::EXITED;
        if conn.status == 0 {
            let ended = self.ended(call.layout, response, shape).unwrap_or_default();
            if ended.has_headers_sent {
                conn.status = ended.status;
            } else if call.is_stream {
                conn.status = STREAM_FAILED;
            } else {
                return;
            }
            // Encrypted, or in frames: the body is what Gunicorn handed over.
            conn.response_head_bytes = conn.response_bytes.saturating_sub(ended.sent) as u32;
            if conn.response_bytes == 0 && conn.flags & flags::NO_CONNECTION == 0 {
                conn.response_bytes = ended.sent;
            }
        }
        self.leave(&mut conn);
    }

    /// Finishes a request and forgets it, if it has no connection.
    #[inline(always)]
    fn leave(&self, conn: &mut Conn) {
        let (flags, request) = (conn.flags, conn.request);
        self.finish(conn, Origin::Python);
        if flags & flags::NO_CONNECTION != 0 {
            self.kernel.forget(self.key(request));
        }
    }

    /// What the response object shows.
    #[inline(always)]
    fn ended(&self, layout: &Layout, response: u64, shape: &mut Shape) -> Result<Ended, Fault> {
        let user = self.kernel.user();
        let mut thread = self.kernel.make_thread().ok_or(Fault)?;
        let found = fields::read(user, layout, response, &RESPONSE, shape, &mut thread.words)?;
        let [status, sent, headers_sent, _] = found;
        Ok(Ended {
            status: self.status_of(layout, status),
            sent: int(user, layout, sent)?,
            has_headers_sent: int(user, layout, headers_sent)? != 0,
        })
    }

    /// The number at the start of a status such as `200 OK`; 0 for anything else.
    #[inline(always)]
    fn status_of(&self, layout: &Layout, status: u64) -> u16 {
        let user = self.kernel.user();
        let Ok((text, _)) = layout.narrow_str(user, status) else {
            return 0;
        };
        let mut digits = [0; 3];
        if user.read(text, &mut digits).is_err() || !digits.iter().all(u8::is_ascii_digit) {
            return 0;
        }
        let [a, b, c] = digits.map(|digit| u16::from(digit - b'0'));
        a * 100 + b * 10 + c
    }

    /// The value of a small `int`; 0 for anything else.
    #[inline(always)]
    pub fn number(&self, layout: &Layout, object: u64) -> u64 {
        int(self.kernel.user(), layout, object).unwrap_or(0)
    }

    /// `handle_error` runs: for a request that entered, or for bytes that are no request. `key` is that
    /// of its exception; `status` is that of its answer, 0 while it has not chosen one.
    #[inline(always)]
    pub fn failed(&self, call: &Call<'_>, key: u64, status: u16, is_none: bool) {
        if let Some(mut conn) = self.serving(call.request, call.client) {
            conn.flags |= flags::ERROR_HANDLED;
            if conn.exited_ns == 0 {
                conn.exited_ns = self.kernel.now();
            }
            if status != 0 {
                conn.response_end = u64::from(status);
            }
            if conn.flags & flags::NO_CONNECTION != 0 && status != 0 {
                conn.status = status;
                self.leave(&mut conn);
            }
            return;
        }
        let last_read = self.kernel.thread().map_or(0, |thread| thread.last_read);
        let found = self.find(call, last_read);
        match found.and_then(|sock| self.kernel.conn(self.key(sock))) {
            Some(mut conn) if conn.request == 0 => {
                if is_none || conn.phase == Phase::Reading as u16 {
                    conn.phase = Phase::Refused as u16;
                    if conn.refused_ns == 0 {
                        conn.refused_ns = key;
                    }
                    if status != 0 {
                        conn.response_end = u64::from(status);
                    }
                }
            }
            _ if is_none => {
                if let Some(mut conn) = self.kernel.open(self.key(call.client)) {
                    conn.flags = flags::NO_CONNECTION;
                    conn.refused_ns = key;
                    self.kernel.send(&conn, Origin::Refused);
                }
                self.kernel.forget(self.key(call.client));
            }
            // It entered before the observer came, or its connection is unknown.
            _ => self.kernel.count(Stat::ExitUnmatched),
        }
    }

    /// Whether `handle_error` ran before for the bytes that this thread read last.
    #[inline(always)]
    pub fn is_refused(&self, call: &Call<'_>) -> bool {
        let last_read = self.kernel.thread().map_or(0, |thread| thread.last_read);
        let found = self.find(call, last_read);
        let conn = found.and_then(|sock| self.kernel.conn(self.key(sock)));
        conn.is_some_and(|conn| conn.phase == Phase::Refused as u16)
    }

    /// The descriptor of a connection's object; -1 if it is not found.
    #[inline(always)]
    pub fn descriptor(&self, call: &Call<'_>, thread: &mut Thread) -> i32 {
        let user = self.kernel.user();
        let mut socket = call.client;
        if call.family == Family::Gthread as u32 {
            match seldom(user, call.layout, socket, &SOCKET, thread) {
                Ok(found) => socket = found,
                Err(Fault) => return -1,
            }
        }
        user.word(socket.wrapping_add(SOCKET_FD))
            .map_or(-1, |word| word as i32)
    }

    /// Bytes of the body that a request announces; `None` if it announces none.
    #[inline(always)]
    fn announced(&self, layout: &Layout, body: u64, thread: &mut Thread) -> Option<u64> {
        let user = self.kernel.user();
        let reader = seldom(user, layout, body, &READER, thread).ok()?;
        let length = seldom(user, layout, reader, &LENGTH, thread).ok()?;
        int(user, layout, length).ok()
    }
}

/// An attribute that is read seldom.
///
/// Not inlined: the verifier walks it once.
#[inline(never)]
fn seldom<M: Memory>(
    user: &M,
    layout: &Layout,
    object: u64,
    names: &[Name; FIELDS],
    thread: &mut Thread,
) -> Result<u64, Fault> {
    thread.shape = Shape::NONE;
    let (shape, space) = (&mut thread.shape, &mut thread.words);
    let [found, ..] = fields::read(user, layout, object, names, shape, space)?;
    Ok(found)
}

/// Address and number of the characters of a `str`, if they are one byte wide. Its first words stay in
/// `space`, unless it ends where the memory ends.
#[inline(always)]
fn text<M: Memory>(
    user: &M,
    layout: &Layout,
    object: u64,
    space: &mut [u64; WORDS],
) -> Result<(u64, u64), Fault> {
    let words: &mut [u64; STR_WORDS] = space.first_chunk_mut().ok_or(Fault)?;
    if user.words(object, words).is_err() {
        return layout.narrow_str(user, object);
    }
    let word = |offset: u32| words.get((offset as usize / 8) & (STR_WORDS - 1)).copied();
    let state = word(layout.str_state).ok_or(Fault)?;
    let length = word(layout.str_length).ok_or(Fault)?;
    let data = if state >> 6 & 1 == 1 {
        layout.str_ascii
    } else {
        layout.str_latin1
    };
    if state >> 2 & 7 != 1 {
        return Err(Fault);
    }
    Ok((object.wrapping_add(u64::from(data)), length))
}

/// A small `int`, or a `bool`; large ones are cut.
#[inline(always)]
fn int<M: Memory>(user: &M, layout: &Layout, object: u64) -> Result<u64, Fault> {
    const DIGIT_BITS: u32 = 30;
    if object == 0 {
        return Err(Fault);
    }
    let mut words = [0_u64; 2];
    // The digits follow the size: two of 32 bits in a word.
    user.words(object.wrapping_add(u64::from(layout.int_size)), &mut words)?;
    let [size, digits] = words;
    let (first, second) = (digits & 0xffff_ffff, digits >> 32);
    Ok(match size >> layout.int_size_shift {
        0 => 0,
        1 => first,
        _ => first | second << DIGIT_BITS,
    })
}
