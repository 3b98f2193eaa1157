//! The Python code that begins, ends and fails a request.
//!
//! Every WSGI worker of Gunicorn 19.10 to 27.0 calls `datetime.now()` in `handle_request` once when a
//! request starts and once when it ends, and in `handle_error` when it fails
//! (`gunicorn/workers/{sync,gthread,base_async,base}.py`). The slots of their local variables follow
//! from the same files: parameters come first, then locals in order of their first assignment.

use crate::memory::{Fault, Memory};
use crate::python::Layout;

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
}

impl Code {
    /// Code that does not handle requests.
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

/// Local variable slot of the exception in `handle_error`.
pub const HANDLE_ERROR_EXC: u32 = 4;

const NAME: usize = 14;
/// The longest file name suffix compared, `gunicorn/workers/base_async.py`.
const TAIL: usize = 30;

/// Classifies a code object by its name and the end of its file's name.
///
/// # Errors
/// [`Fault`] when the object cannot be read.
#[inline(always)]
pub fn classify<M: Memory>(mem: &M, layout: &Layout, code: u64) -> Result<Code, Fault> {
    let name = mem.word(code.wrapping_add(u64::from(layout.code_name)))?;
    let (data, length, width) = layout.str_parts(mem, name)?;
    let mut buf = [0; NAME];
    match (length, width) {
        (12 | 14, 1) => mem.read(data, &mut buf)?,
        _ => return Ok(Code::OTHER),
    }
    let is_error = length == 12 && buf[..12] == *b"handle_error";
    let is_request = length == 14 && buf == *b"handle_request";
    if !(is_error || is_request) {
        return Ok(Code::OTHER);
    }

    let file = mem.word(code.wrapping_add(u64::from(layout.code_filename)))?;
    let (data, length, width) = layout.str_parts(mem, file)?;
    if length < TAIL as u64 || length > 4096 {
        return Ok(Code::OTHER);
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
    Ok(match (is_error, &tail) {
        (true, tail) if tail[6..] == *b"gunicorn/workers/base.py" => Code::ERROR,
        (false, tail) if tail[6..] == *b"gunicorn/workers/sync.py" => Code::SYNC,
        (false, tail) if tail[3..] == *b"gunicorn/workers/gthread.py" => Code::GTHREAD,
        (false, b"gunicorn/workers/base_async.py") => Code::ASYNC,
        _ => Code::OTHER,
    })
}
