//! The Python code that begins, ends and fails a request.
//!
//! Every WSGI worker of Gunicorn 19.10 to 27.0 calls `datetime.now()` in `handle_request` once when a
//! request starts and once when it ends, and in `handle_error` when it fails
//! (`gunicorn/workers/{sync,gthread,base_async,base}.py`); from 25 on also in `handle_http2_request`.
//! Their parameters come first among the local variables; others are found by name.

use crate::memory::{Fault, Memory};
use crate::python::fields::Shape;
use crate::python::{DIRECT, Layout};

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

/// A classified code object; value of the `CODES` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
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
    /// 1 if it handles a stream of an HTTP/2 connection. Its response is in a cell.
    pub is_stream: u32,
    pub reserved: u32,
    /// The instruction at which a request ended without an exception; 0 while unknown.
    pub calm: u64,
    /// Where the attributes of its requests and responses are.
    pub request_shape: Shape,
    pub response_shape: Shape,
}

/// A local variable slot that a code object does not have.
pub const NO_SLOT: u32 = u32::MAX;

impl Code {
    /// Code that does not handle requests.
    pub const OTHER: Code = Code {
        kind: Kind::Other as u32,
        family: Family::Any as u32,
        req: 0,
        client: 0,
        start: NO_SLOT,
        response: NO_SLOT,
        is_stream: 0,
        reserved: 0,
        calm: 0,
        request_shape: Shape::NONE,
        response_shape: Shape::NONE,
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

/// Longest of the function names, `handle_http2_request`.
const NAME: usize = 20;
/// The longest file name suffix compared, `gunicorn/workers/base_async.py`.
const TAIL: usize = 30;

/// The first eight letters of the name of a local variable, and its length.
type Local = ([u8; 8], u64);

const REQUEST_START: Local = (*b"request_", 13);
const RESP: Local = (*b"resp\0\0\0\0", 4);
const STATUS_INT: Local = (*b"status_i", 10);
/// Names of local variables that are searched.
const MAX_LOCALS: u64 = 24;

/// Classifies a code object by its name and the end of its file's name; `found` is [`Code::OTHER`] until
/// it is something else.
///
/// # Errors
/// [`Fault`] when the object cannot be read.
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
    let mut buf = [0; NAME];
    let (start, rest) = buf.split_at_mut(12);
    mem.read(data, start)?;
    if length == 14 {
        mem.read(data.wrapping_add(12), &mut rest[..2])?;
    } else if length == 20 {
        mem.read(data.wrapping_add(12), rest)?;
    }
    let is_error = length == 12 && buf[..12] == *b"handle_error";
    let is_request = length == 14 && buf[..14] == *b"handle_request";
    let is_stream = length == 20 && buf == *b"handle_http2_request";
    if !(is_error || is_request || is_stream) {
        return Ok(());
    }

    let file = mem.word(code.wrapping_add(u64::from(layout.code_filename)))?;
    let (data, length, width) = layout.str_parts(mem, file)?;
    if length < TAIL as u64 || length > 4096 {
        return Ok(());
    }
    // A parent folder may have a name in any script: then every character is wide.
    let mut tail = [0; TAIL];
    let mut at = data.wrapping_add((length - TAIL as u64).wrapping_mul(width));
    for character in &mut tail {
        let mut byte = [0];
        mem.read(at, &mut byte)?;
        *character = byte[0];
        at = at.wrapping_add(width);
    }
    let (kind, family, req, client) = match (is_error, &tail) {
        (true, tail) if tail[6..] == *b"gunicorn/workers/base.py" => ERROR,
        (false, tail) if tail[6..] == *b"gunicorn/workers/sync.py" => SYNC,
        (false, tail) if tail[3..] == *b"gunicorn/workers/gthread.py" => GTHREAD,
        (false, b"gunicorn/workers/base_async.py") => ASYNC,
        _ => return Ok(()),
    };
    found.family = family as u32;
    found.req = req;
    found.client = client;
    found.is_stream = is_stream.into();
    found.kind = kind as u32;
    find_locals(mem, layout, code, found);
    Ok(())
}

/// Finds local variables by name: `co_localsplusnames` from 3.11 on, where cells come last; before
/// `co_varnames`, which the cells of `co_cellvars` follow (`Include/cpython/code.h`).
#[inline(never)]
fn find_locals<M: Memory>(mem: &M, layout: &Layout, code: u64, found: &mut Code) {
    let is_old = layout.code_instructions == DIRECT;
    let file = code.wrapping_add(u64::from(layout.code_filename));
    let names = mem.peek(file.wrapping_sub(if is_old { 32 } else { 16 }));
    let cells = if is_old { mem.peek(file.wrapping_sub(16)) } else { 0 };
    let locals = mem.peek(names.wrapping_add(u64::from(layout.var_size)));
    let response = if found.kind == Kind::HandleError as u32 {
        STATUS_INT
    } else {
        RESP
    };
    for slot in 0..MAX_LOCALS {
        let (tuple, index) = if slot < locals {
            (names, slot)
        } else {
            (cells, slot - locals)
        };
        if tuple == 0 || index >= mem.peek(tuple.wrapping_add(u64::from(layout.var_size))) {
            break;
        }
        let item = tuple.wrapping_add(u64::from(layout.tuple_items) + index * 8);
        let name = mem.peek(item);
        let length = mem.peek(name.wrapping_add(u64::from(layout.str_length)));
        let text = mem.peek(name.wrapping_add(u64::from(layout.str_ascii)));
        if is_local(text, length, REQUEST_START) {
            found.start = slot as u32;
        }
        if is_local(text, length, response) {
            found.response = slot as u32;
        }
    }
}

#[inline(always)]
fn is_local(text: u64, length: u64, (name, name_length): Local) -> bool {
    let mask = if name_length >= 8 {
        u64::MAX
    } else {
        (1 << (name_length * 8)) - 1
    };
    length == name_length && text & mask == u64::from_le_bytes(name)
}
