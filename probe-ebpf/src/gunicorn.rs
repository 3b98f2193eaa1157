//! The Python code that begins, ends and fails a request.
//!
//! Every WSGI worker of Gunicorn 19.10 to 27.0 calls `datetime.now()` in `handle_request` once when a
//! request starts and once when it ends, and in `handle_error` when it fails
//! (`gunicorn/workers/{sync,gthread,base_async,base}.py`); from 25 on also in `handle_http2_request`.
//! Their parameters come first among the local variables; others are found by name.

use crate::abi::ObjectKey;
use crate::branchless::{all_if_zero, choose};
use crate::memory::{Fault, Memory};
use crate::python::fields::{FIELDS, Name, Shape};
use crate::python::{DIRECT, Layout, frame};

/// Meaning of a `datetime.now` call from a code object.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not part of request handling.
    Other = 0,
    /// The start or the end of a request.
    HandleRequest = 1,
    /// A request failed.
    HandleError = 2,
    /// A coroutine that serves a request: [`crate::coroutine`].
    Coroutine = 3,
}

/// The worker family a `handle_request` belongs to.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Unknown, or not of one family.
    Any = 0,
    /// `SyncWorker`: one request at a time, one a connection.
    Sync = 1,
    /// `ThreadWorker`: a pool of threads.
    Gthread = 2,
    /// `AsyncWorker`: gevent, eventlet; greenlets share a thread.
    Async = 3,
}

/// A classified code object; value of the maps `CODES` and `CODE_PLACES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Its key; the address is 0 where no code is.
    pub key: ObjectKey,
    /// [`crate::abi::Target::generation`] of its process.
    pub generation: u64,
    /// A [`Kind`].
    pub kind: u32,
    /// A [`Family`].
    pub family: u32,
    /// Local variable slot of the request object.
    pub req: u32,
    /// Local variable slot of the connection's object.
    pub client: u32,
    /// Local variable slot of `request_start`: unbound when a request starts, bound when it ends.
    pub start: u32,
    /// Local variable slot of the response object; in `handle_error`, of its status.
    pub response: u32,
    /// 1 if it handles a stream of an HTTP/2 connection.
    pub is_stream: u32,
    /// 1 if its response is in a cell; of a coroutine, a set of [`crate::coroutine::cells`].
    pub is_in_cell: u32,
    /// The instruction at which a request starts; 0 while unknown.
    pub begin: u64,
    /// The instruction at which a request ended without an exception; 0 while unknown.
    pub calm: u64,
    /// Where the descriptor of a transport is, of a coroutine.
    pub transport: Transport,
    /// Where the attributes of its objects are, by [`Object`].
    pub shapes: [Shape; SHAPES],
}

/// Where transports of one class keep the descriptor of their socket; all zero while that is unknown.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// The class.
    pub class: u64,
    /// Its attribute: the index of its key, plus one. 0 for a class of uvloop, which keeps it in a structure.
    pub index: u32,
    pub reserved: u32,
}

/// Places of code objects by their address, in the map `CODE_PLACES`: they cost no search.
pub const CODE_PLACE_COUNT: u32 = 1 << 10;

/// The place of a code object.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "it is masked")]
pub fn code_place(key: ObjectKey) -> u32 {
    // Workers have code at the same addresses.
    let address = (key.address >> 5) ^ (key.address >> 13);
    (address as u32 ^ key.tgid.wrapping_mul(0x9e5)) & (CODE_PLACE_COUNT - 1)
}

/// An object of Gunicorn whose attributes are read.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// `Request` (`gunicorn/http/message.py`).
    Request = 0,
    /// `Response` (`gunicorn/http/wsgi.py`).
    Response,
    /// `Unreader` (`gunicorn/http/unreader.py`).
    Unreader,
    /// `Body` (`gunicorn/http/body.py`).
    Body,
    /// `LengthReader` (`gunicorn/http/body.py`).
    Reader,
    /// `TConn` (`gunicorn/workers/gthread.py`).
    Connection,
    /// What serves a request on an event loop: see [`crate::coroutine`].
    Server,
}

/// Places for shapes: a power of two, so that an index can be masked.
pub const SHAPES: usize = 8;

impl Object {
    /// The attributes that are read of an object; none of an unknown one.
    #[inline(always)]
    #[must_use]
    pub fn names(object: u32) -> &'static [Name; FIELDS] {
        NAMES.get(object as usize & (SHAPES - 1)).unwrap_or(&OTHER)
    }
}

const NONE: Name = Name::NONE;
const OTHER: [Name; FIELDS] = [NONE; FIELDS];
/// By [`Object`].
static NAMES: [[Name; FIELDS]; SHAPES] = [
    [
        Name::new("method"),
        Name::new("path"),
        Name::new("unreader"),
        Name::new("body"),
        Name::new("version"),
    ],
    [
        Name::new("status"),
        Name::new("sent"),
        Name::new("headers_sent"),
        NONE,
        NONE,
    ],
    [Name::new("buf"), NONE, NONE, NONE, NONE],
    [Name::new("reader"), NONE, NONE, NONE, NONE],
    [Name::new("length"), NONE, NONE, NONE, NONE],
    [Name::new("sock"), NONE, NONE, NONE, NONE],
    [Name::new("transport"), NONE, NONE, NONE, NONE],
    OTHER,
];

/// A local variable slot that a code object does not have.
pub const NO_SLOT: u32 = u32::MAX;

impl Code {
    /// Code that does not handle requests.
    pub const OTHER: Code = Code {
        key: ObjectKey {
            address: 0,
            tgid: 0,
            reserved: 0,
        },
        generation: 0,
        kind: Kind::Other as u32,
        family: Family::Any as u32,
        req: 0,
        client: 0,
        start: NO_SLOT,
        response: NO_SLOT,
        is_stream: 0,
        is_in_cell: 0,
        begin: 0,
        calm: 0,
        transport: Transport {
            class: 0,
            index: 0,
            reserved: 0,
        },
        shapes: [Shape::NONE; SHAPES],
    };
}

/// Kind and family of a function, and the slots of request and connection.
type Known = (Kind, Family, u32, u32);

const ERROR: Known = (Kind::HandleError, Family::Any, 1, 2);
const SYNC: Known = (Kind::HandleRequest, Family::Sync, 2, 3);
const GTHREAD: Known = (Kind::HandleRequest, Family::Gthread, 1, 2);
const ASYNC: Known = (Kind::HandleRequest, Family::Async, 2, 3);

/// Local variable slot of the exception in `handle_error`.
pub const HANDLE_ERROR_EXC: u32 = 4;

/// Characters of the shortest name of such a file.
const SHORTEST: u64 = 24;
/// Bytes at the end of a file's name that are compared.
const TAIL: usize = 32;

/// The end of a file's name, with zeros before it where it is shorter.
pub(crate) struct FileEnd {
    words: [u64; TAIL / 8],
    /// Bits of the first word that are compared.
    mask: u64,
}

impl FileEnd {
    pub(crate) const fn new(text: &[u8; TAIL]) -> Self {
        let mut words = [0_u64; TAIL / 8];
        let mut mask = 0;
        let mut at = 0;
        while at < TAIL {
            words[at / 8] |= (text[at] as u64) << (at % 8 * 8);
            if at < 8 && text[at] != 0 {
                mask |= 0xff << (at * 8);
            }
            at += 1;
        }
        Self { words, mask }
    }

    #[inline(always)]
    pub(crate) fn is(&self, [a, b, c, d]: [u64; TAIL / 8]) -> bool {
        let [first, second, third, last] = self.words;
        let others = (b ^ second) | (c ^ third) | (d ^ last);
        others | ((a ^ first) & self.mask) == 0
    }
}

const BASE_FILE: FileEnd = FileEnd::new(b"\0\0\0\0\0\0\0\0gunicorn/workers/base.py");
const SYNC_FILE: FileEnd = FileEnd::new(b"\0\0\0\0\0\0\0\0gunicorn/workers/sync.py");
const GTHREAD_FILE: FileEnd = FileEnd::new(b"\0\0\0\0\0gunicorn/workers/gthread.py");
const ASYNC_FILE: FileEnd = FileEnd::new(b"\0\0gunicorn/workers/base_async.py");

/// The first eight letters of the name of a local variable, and its length.
pub(crate) type Local = ([u8; 8], u64);

const REQUEST_START: Local = (*b"request_", 13);
const RESP: Local = (*b"resp\0\0\0\0", 4);
const STATUS_INT: Local = (*b"status_i", 10);
/// Local variables whose names are searched: those that are read.
pub(crate) const MAX_LOCALS: u64 = frame::LOCALS as u64;
/// `CO_FAST_CELL` (`Include/internal/pycore_code.h`).
pub(crate) const CELL: u64 = 0x40;

/// Classifies a code object by its name and the end of its file's name; `found` is [`Code::OTHER`] until
/// it is something else.
///
/// # Errors
/// [`Fault`] when the object cannot be read, or does not show when a request starts.
#[inline(always)]
pub fn classify<M: Memory>(
    mem: &M,
    layout: &Layout,
    code: u64,
    found: &mut Code,
) -> Result<(), Fault> {
    let name = mem.word(code.wrapping_add(u64::from(layout.code_name)))?;
    let (data, length, width) = layout.str_parts(mem, name)?;
    if width != 1 || !(length == 12 || length == 14 || length == 20) {
        return Ok(());
    }
    // The first and the last eight letters: no other function of these files has both.
    let start = mem.word(data)?;
    let end = mem.word(data.wrapping_add(length - 8))?;
    let is = |first: &[u8; 8], last: &[u8; 8]| {
        (start ^ u64::from_le_bytes(*first)) | (end ^ u64::from_le_bytes(*last)) == 0
    };
    let is_error = length == 12 && is(b"handle_e", b"le_error");
    let is_request = length == 14 && is(b"handle_r", b"_request");
    let is_stream = length == 20 && is(b"handle_h", b"_request");
    if !(is_error || is_request || is_stream) {
        return Ok(());
    }

    let Some(tail) = file_end(mem, layout, code)? else {
        return Ok(());
    };
    let (kind, family, req, client) = if is_error && BASE_FILE.is(tail) {
        ERROR
    } else if !is_error && SYNC_FILE.is(tail) {
        SYNC
    } else if !is_error && GTHREAD_FILE.is(tail) {
        GTHREAD
    } else if !is_error && ASYNC_FILE.is(tail) {
        ASYNC
    } else {
        return Ok(());
    };
    found.family = family as u32;
    found.req = req;
    found.client = client;
    found.is_stream = is_stream.into();
    found.kind = kind as u32;
    find_locals(mem, layout, code, found);
    if found.kind == Kind::HandleRequest as u32 && found.start == NO_SLOT {
        return Err(Fault);
    }
    Ok(())
}

/// The end of the name of a code object's file, of which a shorter name has other bytes before it. None for
/// a name that no known file has.
#[inline(always)]
pub(crate) fn file_end<M: Memory>(
    mem: &M,
    layout: &Layout,
    code: u64,
) -> Result<Option<[u64; TAIL / 8]>, Fault> {
    let file = mem.word(code.wrapping_add(u64::from(layout.code_filename)))?;
    let (data, length, width) = layout.str_parts(mem, file)?;
    if !(SHORTEST..=4096).contains(&length) {
        return Ok(None);
    }
    let mut tail = [0_u64; TAIL / 8];
    let at = data.wrapping_add(length.wrapping_sub(TAIL as u64).wrapping_mul(width));
    if width == 1 {
        mem.words(at, &mut tail)?;
    } else {
        // A parent folder may have a name in any script: then every character is wide.
        narrow(mem, at, width, &mut tail)?;
    }
    Ok(Some(tail))
}

/// The first byte of each of `TAIL` characters that are `width` bytes wide.
#[inline(never)]
fn narrow<M: Memory>(
    mem: &M,
    at: u64,
    width: u64,
    tail: &mut [u64; TAIL / 8],
) -> Result<(), Fault> {
    let mut at = at;
    for word in tail {
        for n in 0..8 {
            *word |= (mem.word(at)? & 0xff) << (n * 8);
            at = at.wrapping_add(width);
        }
    }
    Ok(())
}

/// Finds local variables by name: `co_localsplusnames` from 3.11 on, with their kinds in
/// `co_localspluskinds`; before `co_varnames`, which the cells of `co_cellvars` follow
/// (`Include/cpython/code.h`).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a slot is a small number")]
fn find_locals<M: Memory>(mem: &M, layout: &Layout, code: u64, found: &mut Code) {
    let is_old = layout.code_instructions == DIRECT;
    let file = code.wrapping_add(u64::from(layout.code_filename));
    let names = mem.peek(file.wrapping_sub(if is_old { 32 } else { 16 }));
    // Cells, or kinds.
    let others = mem.peek(file.wrapping_sub(if is_old { 16 } else { 8 }));
    find_names(mem, layout, names, 0, found);
    let locals = mem.peek(names.wrapping_add(u64::from(layout.var_size))) as u32;
    if is_old {
        find_names(mem, layout, others, locals, found);
    }
    if found.response == NO_SLOT {
        return;
    }
    found.is_in_cell = if is_old {
        (found.response >= locals).into()
    } else {
        let kind = others.wrapping_add(u64::from(layout.bytes_data) + u64::from(found.response));
        (mem.peek(kind) / CELL) as u32 & 1
    };
}

/// Finds them in a tuple of names, of which the first has the slot `first`.
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "a slot is a small number")]
fn find_names<M: Memory>(mem: &M, layout: &Layout, names: u64, first: u32, found: &mut Code) {
    let count = mem.peek(names.wrapping_add(u64::from(layout.var_size)));
    let response = if found.kind == Kind::HandleError as u32 {
        STATUS_INT
    } else {
        RESP
    };
    for index in 0..MAX_LOCALS {
        if index >= count {
            break;
        }
        let item = names.wrapping_add(u64::from(layout.tuple_items) + index * 8);
        let name = mem.peek(item);
        let length = mem.peek(name.wrapping_add(u64::from(layout.str_length)));
        let text = mem.peek(name.wrapping_add(u64::from(layout.str_ascii)));
        let slot = u64::from(first) + index;
        let is_start = is_local(text, length, REQUEST_START);
        found.start = choose(is_start, slot, u64::from(found.start)) as u32;
        let is_response = is_local(text, length, response);
        found.response = choose(is_response, slot, u64::from(found.response)) as u32;
    }
}

/// All bits set if a string with this length and these first letters is the name of the variable, else
/// none.
#[inline(always)]
pub(crate) fn is_local(text: u64, length: u64, (name, name_length): Local) -> u64 {
    let mask = if name_length >= 8 {
        u64::MAX
    } else {
        (1 << (name_length * 8)) - 1
    };
    all_if_zero((length ^ name_length) | (text & mask) ^ u64::from_le_bytes(name))
}

#[cfg(test)]
#[path = "gunicorn_tests.rs"]
mod tests;
