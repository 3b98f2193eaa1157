//! Requests as Gunicorn's own code shows them: it enters, ends or fails one.

use super::wire::bounded;
use super::{Kernel, Machine, Origin};
use crate::abi::{
    Conn, HEAD_BYTES, LineSource, NAME_BYTES, Phase, Stat, WORDS, flags, marks, target_flags,
};
use crate::gunicorn::Family;
#[cfg(doc)]
use crate::gunicorn::Object;
use crate::memory::{Fault, Memory};
use crate::python::Layout;
use crate::python::fields::FIELDS;

/// Time after a process became a target in which a request without a read was read before that: only
/// parsing lies between the read that completes a head and the entry.
const READ_BEFORE_NS: u64 = 50_000_000;

/// `string_size` of a `BytesIO` (`Modules/_io/bytesio.c`, `bytesio`).
const BYTES_IO_SIZE: u64 = 32;
/// `sock_fd` of a socket (`Modules/socketmodule.h`, `PySocketSockObject`).
const SOCKET_FD: u64 = 16;
/// Bytes that no body of a request has.
const LONGEST: u64 = 1 << 48;
/// Bytes in front of the characters of a `str`, at most.
const LONGEST_STR_HEAD: usize = 128;
/// Characters of a `str` that are read.
const TEXT_BYTES: u64 = 256;
/// Words of a method that are read at once: of the longest head of a `str` and [`NAME_BYTES`].
const METHOD_WORDS: usize = 11;
/// Words of a path that are read at once: of a head and about eighty characters.
const PATH_WORDS: usize = 16;
/// The status with which Gunicorn answers an HTTP/2 request whose application failed
/// (`_serve_http2_stream`).
const STREAM_FAILED: u16 = 500;

/// What Gunicorn's `Request` shows: its attributes as [`Object::Request`] names them.
pub type RequestFields = [u64; FIELDS];

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
    /// Version of HTTP, as [`Machine::version`]; 0 when unknown.
    pub version: u32,
}

impl<K: Kernel> Machine<'_, K> {
    /// A request enters the application. Whether the length of its head is to be measured. `socket` is the
    /// connection's, where reads are not seen; 0 when it is unknown.
    #[inline(always)]
    pub fn entered(&self, call: &Call<'_>, fields: &RequestFields, socket: u64) -> bool {
        let target = self.kernel.target();
        let now = self.kernel.now();
        let Some(mut thread) = self.kernel.make_thread() else {
            return false;
        };
        if socket != 0 {
            self.reached(socket);
            thread.last_read = socket;
        }
        let mut at = self.find(call, thread.last_read);
        if let Some(sock) = at
            && let Some(mut conn) = self.kernel.conn(self.key(sock))
        {
            self.finish_earlier(&mut conn);
        } else {
            at = None;
        }
        if at.is_none() {
            if self.kernel.sees_io() && now.wrapping_sub(target.generation) < READ_BEFORE_NS {
                // It was read before the observer came. Its exit finds no entry and is counted as
                // unmatched, like that of other requests in flight then.
                return false;
            }
            if self.kernel.sees_io() {
                self.kernel.count(Stat::FlowWithoutConn);
            }
            if call.family != Family::Async as u32 {
                self.finish_alone(thread.serving);
            }
            self.finish_alone(call.request);
        }
        let sock = at.unwrap_or(call.request);
        let key = self.key(sock);
        let found = if at.is_some() {
            self.kernel.conn(key)
        } else {
            self.kernel.open(key)
        };
        let Some(mut conn) = found else {
            return false;
        };
        if at.is_none() {
            conn.flags = flags::NO_CONNECTION;
        } else if conn.phase != Phase::Reading as u16
            && !(conn.marks & marks::MAY_DRAIN != 0 && conn.request_bytes != 0)
            && self.kernel.sees_io()
        {
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
        match self.describe(call, &mut conn, fields, &mut thread.words) {
            Ok(is_measured) => !is_measured,
            Err(Fault) => {
                self.kernel.count(Stat::LineUnreadable);
                false
            }
        }
    }

    /// A request is about to enter whose connection was not seen before, or not seen to be closed.
    #[inline(always)]
    fn reached(&self, socket: u64) {
        let Some(birth) = self.kernel.birth(socket) else {
            return;
        };
        let key = self.key(socket);
        let known = match self.kernel.conn(key) {
            Some(conn) => Some(conn),
            None => self.kernel.open(key),
        };
        if let Some(mut conn) = known {
            self.recognise(&mut conn, birth);
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
        self.replaced(conn);
        self.finish(conn, Origin::Python);
    }

    #[inline(always)]
    fn replaced(&self, conn: &mut Conn) {
        if self.kernel.sees_io() {
            self.kernel.count(Stat::FlowReplaced);
        }
        if conn.exited_ns == 0 {
            conn.exited_ns = self.kernel.now();
        }
    }

    /// The same for a request without a connection, when its thread serves another one or its object is
    /// another request: no close ends it.
    #[inline(always)]
    fn finish_alone(&self, request: u64) {
        if let Some(mut conn) = self.alone(request) {
            self.replaced(&mut conn);
            self.leave(&mut conn);
        }
    }

    /// Keeps method and path of a request, and the length of its head if that is known; whether it is.
    #[inline(always)]
    fn describe(
        &self,
        call: &Call<'_>,
        conn: &mut Conn,
        [method, path, ..]: &RequestFields,
        space: &mut [u64; WORDS],
    ) -> Result<bool, Fault> {
        let start = self.keep_names(call.layout, conn, *method, *path, space)?;
        let has_no_body = start == u64::from_le_bytes(*b"GET\0\0\0\0\0")
            || start == u64::from_le_bytes(*b"HEAD\0\0\0\0");
        let is_tls = self.kernel.target().flags & target_flags::TLS != 0;
        if !self.kernel.sees_io() {
            conn.flags |= flags::NO_HEADS;
            conn.request_bytes = 1;
            conn.request_head_bytes = has_no_body.into();
            return Ok(has_no_body || call.is_stream);
        }
        if conn.request_bytes == 0 {
            conn.marks &= !marks::HEAD_ALONE;
            return Ok(true);
        }
        if call.is_stream {
            // Later frames are no body: they make room for the response, too.
            conn.marks |= marks::ENCRYPTED;
        }
        if has_no_body && (conn.marks & marks::HEAD_ALONE != 0 || is_tls || call.is_stream) {
            conn.request_head_bytes = conn.request_bytes as u32;
            return Ok(true);
        }
        // A body may end like a head, as its last chunk does.
        conn.marks &= !marks::HEAD_ALONE;
        Ok(call.is_stream)
    }

    /// Sets the length of the head of a request that entered: what was read so far, less what Gunicorn
    /// has not used yet, which is in `buffer`, a `BytesIO`.
    #[inline(always)]
    pub fn measure_head(&self, call: &Call<'_>, buffer: u64) {
        let left = self.kernel.user().word(buffer.wrapping_add(BYTES_IO_SIZE));
        let left = left.unwrap_or(u64::MAX);
        if let Some(mut conn) = self.serving(call.request, call.client)
            && left < conn.request_bytes
        {
            conn.request_head_bytes = (conn.request_bytes - left) as u32;
        }
    }

    /// The same where bytes are not seen, or encrypted and more than those of the request: its body is as
    /// long as it announces, `length`, an `int`.
    #[inline(always)]
    pub fn announced(&self, call: &Call<'_>, length: u64) {
        // Not a `Result`: on 5.10 the verifier takes what is in the register of its value for one, though
        // there is none.
        let length = int(self.kernel.user(), call.layout, length).unwrap_or(LONGEST);
        if length < LONGEST
            && let Some(mut conn) = self.serving(call.request, call.client)
        {
            conn.request_head_bytes = conn.request_bytes as u32;
            conn.request_bytes += length;
            conn.marks |= marks::ENCRYPTED;
        }
    }

    /// The version of HTTP in a tuple of two small `int`s, as major << 8 | minor; 0 if it cannot be read.
    #[inline(always)]
    pub fn version(&self, layout: &Layout, tuple: u64) -> u32 {
        let mut items = [0_u64; 2];
        let at = tuple.wrapping_add(u64::from(layout.tuple_items));
        if tuple == 0 || self.kernel.user().words(at, &mut items).is_err() {
            return 0;
        }
        let [major, minor] = items.map(|item| self.number(layout, item) as u32 & 0xff);
        major << 8 | minor
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
        const PATH_BYTES: u64 = (HEAD_BYTES - NAME_BYTES) as u64;
        let user = self.kernel.user();
        let (at, len) = text::<METHOD_WORDS>(user, layout, method, NAME_BYTES as u64, space)?;
        let word = |n: u64| {
            let kept = len.saturating_sub(n * 8).min(8);
            let mask = if kept == 8 {
                u64::MAX
            } else {
                (1 << (kept * 8)) - 1
            };
            space[(at / 8 + n as usize) & (WORDS - 1)] & mask
        };
        let [start, rest] = [word(0), word(1)];
        conn.line[..8].copy_from_slice(&start.to_le_bytes());
        conn.line[8..NAME_BYTES].copy_from_slice(&rest.to_le_bytes());
        let (at, len) = text::<PATH_WORDS>(user, layout, path, TEXT_BYTES, space)?;
        let kept = bounded(len.min(PATH_BYTES), HEAD_BYTES);
        let place = conn
            .line
            .get_mut(NAME_BYTES..NAME_BYTES + kept)
            .ok_or(Fault)?;
        self.kernel.copy(space, at, place);
        conn.line_len = (NAME_BYTES + kept) as u32;
        conn.line_source = LineSource::Python as u16;
        Ok(start)
    }

    /// The connection whose request is this one, if it entered.
    #[inline(always)]
    pub fn serving(&self, request: u64, client: u64) -> Option<K::Conn<'_>> {
        if request == 0 {
            return None; // an idle connection has no request
        }
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
        self.alone(request)
    }

    /// The request of this object, if it entered without a connection.
    #[inline(always)]
    fn alone(&self, request: u64) -> Option<K::Conn<'_>> {
        let conn = self.kernel.conn(self.key(request))?;
        (request != 0 && conn.request == request).then_some(conn)
    }

    /// The response is complete, or an exception interrupted it. If no byte was sent, `handle_error` may
    /// follow, and its answer or the close sends the record. `ended` is what the response object shows;
    /// it is not looked at where the bytes that were sent show the status.
    #[inline(always)]
    pub fn exited(&self, call: &Call<'_>, ended: Ended) {
        let Some(mut conn) = self.serving(call.request, call.client) else {
            self.kernel.count(Stat::ExitUnmatched);
            return;
        };
        conn.exited_ns = self.kernel.now();
        conn.flags |= flags::EXITED;
        if conn.version == 0 {
            conn.version = ended.version;
        }
        if conn.status == 0 {
            let has_failed = conn.flags & flags::WRITE_FAILED != 0;
            if ended.has_headers_sent || has_failed && ended.status != 0 {
                // If the client was gone, what the worker meant to send.
                conn.status = ended.status;
            } else if call.is_stream {
                conn.status = STREAM_FAILED;
            } else {
                return;
            }
            if conn.flags & flags::NO_HEADS != 0 {
                conn.response_bytes = ended.sent + 1;
            }
            // Encrypted, or in frames: the body is what Gunicorn handed over, as far as it was sent.
            let head = conn.response_bytes.saturating_sub(ended.sent);
            conn.response_head_bytes = if head == 0 { 1 } else { head as u32 };
        }
        self.leave(&mut conn);
    }

    /// Whether the bytes that were sent show the status of a request.
    #[inline(always)]
    pub fn has_status(&self, call: &Call<'_>) -> bool {
        let conn = self.serving(call.request, call.client);
        conn.is_none_or(|conn| conn.status != 0)
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

    /// What a response object with these attributes shows, as [`Object::Response`] names them.
    #[inline(always)]
    pub fn ended(&self, layout: &Layout, [status, sent, headers_sent, ..]: [u64; FIELDS]) -> Ended {
        Ended {
            status: self.status_of(layout, status),
            sent: self.number(layout, sent),
            has_headers_sent: self.number(layout, headers_sent) != 0,
            version: 0,
        }
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
            let is_blind = conn.flags & flags::NO_CONNECTION != 0 || !self.kernel.sees_io();
            if is_blind && status != 0 {
                conn.status = status;
                self.leave(&mut conn);
            }
            return;
        }
        match self.refused(call) {
            // Gunicorn found the end of the connection where a request could have begun.
            Some(conn)
                if conn.phase == Phase::Idle as u16
                    && conn.ordinal > 0
                    && conn.marks & marks::ENDED != 0 => {}
            Some(mut conn) if conn.request == 0 => {
                if is_none || conn.phase != Phase::Idle as u16 {
                    conn.phase = Phase::Refused as u16;
                    if conn.marks & marks::HEAD_ALONE != 0 {
                        conn.request_head_bytes = conn.request_bytes as u32;
                    }
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
        let conn = self.refused(call);
        conn.is_some_and(|conn| conn.phase == Phase::Refused as u16)
    }

    /// The connection for which `handle_error` runs, if no request of it entered. Threads pass their
    /// socket object: what came with an earlier request may be refused in another thread than that which
    /// read it.
    #[inline(always)]
    fn refused(&self, call: &Call<'_>) -> Option<K::Conn<'_>> {
        if !self.kernel.sees_io() {
            return None; // no write and no close would end it
        }
        let socket = self.kernel.sock_of(self.descriptor(call.client));
        if socket != 0
            && let Some(conn) = self.kernel.conn(self.key(socket))
        {
            return Some(conn);
        }
        let last_read = self.kernel.thread().map_or(0, |thread| thread.last_read);
        self.kernel.conn(self.key(self.find(call, last_read)?))
    }

    /// The descriptor of a socket object; -1 if it cannot be read.
    #[inline(always)]
    pub fn descriptor(&self, socket: u64) -> i32 {
        let word = self.kernel.user().word(socket.wrapping_add(SOCKET_FD));
        word.map_or(-1, |word| word as i32)
    }
}

/// Reads a `str` of characters of one byte each: where in `space` they begin, in bytes, and how many they
/// are. Those behind the first `most` are not read. Most strings are no longer than the first `FIRST`
/// words; only longer ones take a second read.
#[inline(always)]
fn text<const FIRST: usize>(
    user: &impl Memory,
    layout: &Layout,
    object: u64,
    most: u64,
    space: &mut [u64; WORDS],
) -> Result<(usize, u64), Fault> {
    let words: &mut [u64; FIRST] = space.first_chunk_mut().ok_or(Fault)?;
    // At the end of memory less can be read.
    let is_read = user.words(object, words).is_ok();
    let word = |offset: u32| {
        if is_read {
            let word = words.get((offset as usize / 8) & (WORDS - 1));
            word.copied().ok_or(Fault)
        } else {
            user.word(object.wrapping_add(u64::from(offset)))
        }
    };
    let (state, length) = (word(layout.str_state)?, word(layout.str_length)?);
    let data = if state >> 6 & 1 == 1 {
        layout.str_ascii
    } else {
        layout.str_latin1
    };
    if state >> 2 & 7 != 1 {
        return Err(Fault);
    }
    let data = data as usize & (LONGEST_STR_HEAD - 1);
    let end = data as u64 + length.min(most);
    if !is_read || end > FIRST as u64 * 8 {
        let count = bounded(end.div_ceil(8), WORDS);
        user.words(object, space.get_mut(..count).ok_or(Fault)?)?;
    }
    Ok((data, length))
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
