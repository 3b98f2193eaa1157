//! The coroutines in which servers on event loops serve a request each.
//!
//! Uvicorn 0.15 and later makes a task of `RequestResponseCycle.run_asgi` for each request
//! (`uvicorn/protocols/http/{httptools,h11}_impl.py`), and Gunicorn 27 one of
//! `ASGIProtocol._handle_http_request` (`gunicorn/asgi/protocol.py`). Their local variables lead to the
//! connection: found by name, once for each code object.

use crate::branchless::{all_if_zero, choose};
use crate::gunicorn::{CELL, Code, FileEnd, Kind, Local, MAX_LOCALS, NO_SLOT, file_end, is_local};
use crate::memory::{Fault, Memory};
use crate::python::{DIRECT, Layout};

/// Which local variables of a coroutine are in cells.
pub mod cells {
    pub const REQUEST: u32 = 1 << 0;
    pub const SERVER: u32 = 1 << 1;
}

const HTTPTOOLS_FILE: FileEnd = FileEnd::new(b"protocols/http/httptools_impl.py");
const H11_FILE: FileEnd = FileEnd::new(b"icorn/protocols/http/h11_impl.py");
const GUNICORN_FILE: FileEnd = FileEnd::new(b"\0\0\0\0\0\0\0gunicorn/asgi/protocol.py");

const SELF: Local = (*b"self\0\0\0\0", 4);
const REQUEST: Local = (*b"request\0", 7);

/// `ob_ref` of a cell (`Include/cpython/cellobject.h`).
pub const CELL_VALUE: u64 = 16;
/// `_handle` of a transport of uvloop, a `uv_handle_t *` (`uvloop/handles/handle.pxd`).
const UVLOOP_HANDLE: u64 = 24;
/// `io_watcher.fd` of libuv's `uv_stream_t` (`include/uv/unix.h`).
const HANDLE_FD: u64 = 184;
/// The name of uvloop's classes begins so.
const UVLOOP: u64 = u64::from_le_bytes(*b"uvloop.l");
/// The attribute of asyncio's transports (`asyncio/selector_events.py`).
const SOCK_FD: u64 = u64::from_le_bytes(*b"_sock_fd");
/// Keys of a transport that are searched for it.
const MAX_KEYS: u64 = 32;

/// The objects of a request that a coroutine serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// What is another object for each request.
    pub request: u64,
    /// What has the transport as its attribute `transport`.
    pub server: u64,
}

/// Classifies the code object of a coroutine; `found` is [`Code::OTHER`] until it is one of those.
///
/// # Errors
/// [`Fault`] when the object cannot be read, or lacks a variable.
#[inline(always)]
pub fn classify<M: Memory>(
    mem: &M,
    layout: &Layout,
    code: u64,
    found: &mut Code,
) -> Result<(), Fault> {
    let name = mem.word(code.wrapping_add(u64::from(layout.code_name)))?;
    let (data, length, width) = layout.str_parts(mem, name)?;
    if width != 1 || !(length == 8 || length == 20) {
        return Ok(());
    }
    let start = mem.word(data)?;
    let end = mem.word(data.wrapping_add(length - 8))?;
    let is_uvicorns = length == 8 && start == u64::from_le_bytes(*b"run_asgi");
    let is_gunicorns = length == 20
        && start == u64::from_le_bytes(*b"_handle_")
        && end == u64::from_le_bytes(*b"_request");
    if !(is_uvicorns || is_gunicorns) {
        return Ok(());
    }
    let Some(file) = file_end(mem, layout, code)? else {
        return Ok(());
    };
    let is_known = if is_uvicorns {
        HTTPTOOLS_FILE.is(file) || H11_FILE.is(file)
    } else {
        GUNICORN_FILE.is(file)
    };
    if !is_known {
        return Ok(());
    }
    found.req = NO_SLOT;
    found.client = NO_SLOT;
    find_locals(mem, layout, code, found);
    if is_uvicorns {
        // One object serves one request.
        found.req = found.client;
        let is_in_cell = found.is_in_cell & cells::SERVER;
        found.is_in_cell = is_in_cell | is_in_cell >> 1;
    }
    if found.req == NO_SLOT || found.client == NO_SLOT {
        return Err(Fault);
    }
    found.kind = Kind::Coroutine as u32;
    Ok(())
}

/// Finds the variables `self` and `request`, as [`crate::gunicorn`] finds those of `handle_request`.
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
    let is_in_cell = |slot: u32| {
        if is_old {
            u32::from(slot >= locals)
        } else {
            let kind = others.wrapping_add(u64::from(layout.bytes_data) + u64::from(slot));
            (mem.peek(kind) / CELL) as u32 & 1
        }
    };
    found.is_in_cell = is_in_cell(found.req) | is_in_cell(found.client) << 1;
}

/// Finds them in a tuple of names, of which the first has the slot `first`.
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "a slot is a small number")]
fn find_names<M: Memory>(mem: &M, layout: &Layout, names: u64, first: u32, found: &mut Code) {
    let count = mem.peek(names.wrapping_add(u64::from(layout.var_size)));
    for index in 0..MAX_LOCALS {
        if index >= count {
            break;
        }
        let item = names.wrapping_add(u64::from(layout.tuple_items) + index * 8);
        let name = mem.peek(item);
        let length = mem.peek(name.wrapping_add(u64::from(layout.str_length)));
        let text = mem.peek(name.wrapping_add(u64::from(layout.str_ascii)));
        let slot = u64::from(first) + index;
        let is_self = is_local(text, length, SELF);
        found.client = choose(is_self, slot, u64::from(found.client)) as u32;
        let is_request = is_local(text, length, REQUEST);
        found.req = choose(is_request, slot, u64::from(found.req)) as u32;
    }
}

/// The objects among the local variables of a coroutine's frame.
#[inline(always)]
#[must_use]
pub fn serving<M: Memory>(mem: &M, layout: &Layout, frame: u64, code: &Code) -> Serving {
    let object = |slot: u32, cell: u32| {
        let object = layout.local(mem, frame, slot).unwrap_or(0);
        if code.is_in_cell & cell == 0 {
            object
        } else {
            mem.peek(object.wrapping_add(CELL_VALUE))
        }
    };
    let server = object(code.client, cells::SERVER);
    let request = if code.req == code.client {
        server
    } else {
        object(code.req, cells::REQUEST)
    };
    Serving { request, server }
}

/// Finds out how transports of the class of `transport` keep their descriptor.
///
/// # Errors
/// [`Fault`] when it cannot be read, or keeps none that is known: so under TLS.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "an index is small")]
pub fn learn_transport<M: Memory>(
    mem: &M,
    layout: &Layout,
    transport: u64,
    code: &mut Code,
) -> Result<(), Fault> {
    let class = mem.word(transport.wrapping_add(u64::from(layout.object_type)))?;
    code.transport.class = 0;
    code.transport.index = 0;
    let name = mem.word(class.wrapping_add(u64::from(layout.type_name)))?;
    if mem.word(name)? == UVLOOP {
        code.transport.class = class;
        return Ok(());
    }
    let storage = layout.instance_storage(mem, transport)?;
    let entries = layout.entries(mem, storage.keys)?;
    let count = mem.peek(storage.keys.wrapping_add(u64::from(layout.keys_nentries)));
    // Always as many rounds: the verifier of 5.10 takes a loop that may end early for an endless one.
    let mut found = 0;
    for index in 0..MAX_KEYS {
        let key = mem.peek(entries.key_at(index));
        let text = mem.peek(key.wrapping_add(u64::from(layout.str_ascii)));
        found = choose(all_if_zero(text ^ SOCK_FD), index + 1, found);
    }
    if found == 0 || found > count {
        return Err(Fault);
    }
    code.transport.class = class;
    code.transport.index = found as u32;
    Ok(())
}

/// The descriptor of a transport.
///
/// # Errors
/// [`Fault`] when it cannot be read, or its class is another one than that which was learned.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a descriptor is an `int`")]
pub fn descriptor<M: Memory>(
    mem: &M,
    layout: &Layout,
    transport: u64,
    code: &Code,
) -> Result<i32, Fault> {
    let class = mem.word(transport.wrapping_add(u64::from(layout.object_type)))?;
    if class != code.transport.class || class == 0 {
        return Err(Fault);
    }
    if code.transport.index == 0 {
        let handle = mem.word(transport.wrapping_add(UVLOOP_HANDLE))?;
        return Ok(mem.word(handle.wrapping_add(HANDLE_FD))? as i32);
    }
    let index = u64::from(code.transport.index - 1);
    let storage = layout.instance_storage(mem, transport)?;
    let value = if storage.values == 0 {
        let entry = layout.entries(mem, storage.keys)?.key_at(index);
        let key = mem.word(entry)?;
        if mem.word(key.wrapping_add(u64::from(layout.str_ascii)))? != SOCK_FD {
            return Err(Fault);
        }
        entry.wrapping_add(8)
    } else {
        storage.values.wrapping_add(index * 8)
    };
    let number = mem.word(value)?;
    let digit = mem.word(number.wrapping_add(u64::from(layout.int_digits)))?;
    Ok((digit & 0x3fff_ffff) as i32)
}

#[cfg(test)]
#[path = "coroutine_tests.rs"]
mod tests;
