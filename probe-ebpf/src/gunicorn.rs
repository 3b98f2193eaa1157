//! Which Python code begins, ends and fails a request.
//!
//! Every WSGI worker of Gunicorn 19.10 to 27.0 calls `datetime.now()` in
//! `handle_request` once when a request starts and once when it ends, and in
//! `handle_error` when it fails (`gunicorn/workers/{sync,gthread,base_async,base}.py`).
//! Where their local variables are was read from the same files: parameters
//! come first, then locals in order of their first assignment.

use crate::memory::{Fault, Memory};
use crate::python::Layout;

/// What a call of `datetime.now` from a code object means.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing to us.
    Other = 0,
    /// The start or the end of a request.
    HandleRequest = 1,
    /// A request failed.
    HandleError = 2,
}

/// The family of workers a `handle_request` belongs to.
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

/// A code object we have looked at; value of the `CODES` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// A [`Kind`].
    pub kind: u32,
    /// A [`Family`].
    pub family: u32,
    /// Local variable slot of the request object.
    pub req: u32,
    /// … of the object that stands for the connection.
    pub client: u32,
    /// … of `request_start`: unbound when a request starts, bound when it ends.
    pub start: u32,
}

impl Code {
    /// Code of no interest.
    pub const OTHER: Code = Code::new(Kind::Other, Family::Any, 0, 0, 0);
    const ERROR: Code = Code::new(Kind::HandleError, Family::Any, 1, 2, 0);
    const SYNC: Code = Code::new(Kind::HandleRequest, Family::Sync, 2, 3, 7);
    const GTHREAD: Code = Code::new(Kind::HandleRequest, Family::Gthread, 1, 2, 5);
    const ASYNC: Code = Code::new(Kind::HandleRequest, Family::Async, 2, 3, 5);

    const fn new(kind: Kind, family: Family, req: u32, client: u32, start: u32) -> Self {
        Self {
            kind: kind as u32,
            family: family as u32,
            req,
            client,
            start,
        }
    }
}

const NAME: usize = 14;
/// The longest file name suffix compared, `gunicorn/workers/base_async.py`.
const TAIL: usize = 30;

/// Looks at a code object: its name, and the end of its file's name.
///
/// # Errors
/// [`Fault`] when the object cannot be read.
#[inline(always)]
pub fn classify<M: Memory>(mem: &M, layout: &Layout, code: u64) -> Result<Code, Fault> {
    let name = mem.word(code + u64::from(layout.code_name))?;
    let mut buf = [0; NAME];
    let length = mem.word(name + u64::from(layout.str_length))?;
    if length != 14 && length != 12 {
        return Ok(Code::OTHER);
    }
    mem.read(name + data_offset(mem, layout, name)?, &mut buf)?;
    let is_error = buf[..12] == *b"handle_error" && length == 12;
    if !is_error && !(buf == *b"handle_request" && length == 14) {
        return Ok(Code::OTHER);
    }

    let file = mem.word(code + u64::from(layout.code_filename))?;
    let length = mem.word(file + u64::from(layout.str_length))?;
    if length < TAIL as u64 || length > 4096 {
        return Ok(Code::OTHER);
    }
    let mut tail = [0; TAIL];
    mem.read(
        file + data_offset(mem, layout, file)? + length - TAIL as u64,
        &mut tail,
    )?;
    Ok(match (is_error, &tail) {
        (true, tail) if tail[6..] == *b"gunicorn/workers/base.py" => Code::ERROR,
        (false, tail) if tail[6..] == *b"gunicorn/workers/sync.py" => Code::SYNC,
        (false, tail) if tail[3..] == *b"gunicorn/workers/gthread.py" => Code::GTHREAD,
        (false, b"gunicorn/workers/base_async.py") => Code::ASYNC,
        _ => Code::OTHER,
    })
}

/// Where the characters of a one-byte-wide `str` are: `PyASCIIObject.state` has
/// the kind in bits 2–4 and the ASCII flag in bit 6 (`Include/cpython/unicodeobject.h`).
#[inline(always)]
fn data_offset<M: Memory>(mem: &M, layout: &Layout, object: u64) -> Result<u64, Fault> {
    let state = mem.word(object + u64::from(layout.str_state))?;
    let kind = state >> 2 & 7;
    let ascii = state >> 6 & 1 == 1;
    match (kind, ascii) {
        (1, true) => Ok(u64::from(layout.str_ascii)),
        (1, false) => Ok(u64::from(layout.str_latin1)),
        _ => Err(Fault),
    }
}
