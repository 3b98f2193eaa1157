//! `datetime.now()`: Gunicorn's `handle_request` calls it when a request starts and when it ends,
//! `handle_error` when it fails. The code object of the calling frame shows which.

use super::emit;
use super::exception::{Exception, ending};
use super::kernel::Live;
use super::maps::{CODES, NEW_CODE, count, layout, serving};
use super::memory::{User, thread_state};
use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use probe_ebpf::abi::{NO_DEPTH, ObjectKey, SeenBy, Stat, Thread, flags};
use probe_ebpf::gunicorn::{Code, HANDLE_ERROR_EXC, Kind, NO_SLOT, classify};
use probe_ebpf::machine::{Call, Kernel as _};
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::{Layout, frame};

#[uprobe]
pub fn datetime_now(_ctx: ProbeContext) -> u32 {
    let Some(live) = serving() else {
        return 0;
    };
    count(Stat::PythonHits);
    if try_now(&live).is_err() {
        count(Stat::FrameUnreadable);
    }
    0
}

#[inline(always)]
fn try_now(live: &Live) -> Result<(), Fault> {
    let Some(layout) = layout(live.target) else {
        return Ok(());
    };
    let Some(thread) = live.make_thread() else {
        return Ok(());
    };
    let tstate = known_thread_state(live, thread)?;
    let at = layout.current_frame(&User, tstate)?;
    let frame = frame::read(&User, layout, at, &mut thread.words)?;
    let Some(code) = known_code(live.target.tgid, layout, frame.code) else {
        return Ok(());
    };
    if code.kind == Kind::Other as u32 {
        return Ok(());
    }
    count(Stat::PythonRequestHits);
    let call = Call {
        layout,
        family: code.family,
        is_stream: code.is_stream != 0,
        request: frame::local(&thread.words, code.req),
        client: frame::local(&thread.words, code.client),
    };
    if code.kind == Kind::HandleError as u32 {
        failed(live, &call, code);
        return Ok(());
    }
    if frame::local(&thread.words, code.start) == 0 {
        entered(live, &call, code);
        return Ok(());
    }
    exited(live, &call, code, frame.instruction);
    Ok(())
}

/// Not inlined, so that its stack is its own.
#[inline(never)]
fn entered(live: &Live, call: &Call<'_>, code: &mut Code) {
    live.machine().entered(call, &mut code.request_shape);
}

/// As above.
#[inline(never)]
fn exited(live: &Live, call: &Call<'_>, code: &mut Code, instruction: u64) {
    let Some(thread) = live.make_thread() else { return };
    let (layout, tstate) = (call.layout, thread.tstate);
    let response = response(code, &thread.words);
    if code.calm != instruction {
        let object = ending(live, layout, tstate, call.request);
        if object != 0 {
            send_exception(live, call, object, SeenBy::Exit);
        } else if layout.has_own_calm_end() && layout.handled_exception(&User, tstate) == 0 {
            // The compiler copies a `finally` for the way without an exception.
            code.calm = instruction;
        }
    }
    live.machine()
        .exited(call, response, &mut code.response_shape);
}

/// The thread state, which stays the same for the life of the thread.
#[inline(always)]
fn known_thread_state(live: &Live, thread: &mut Thread) -> Result<u64, Fault> {
    if thread.tstate == 0 {
        thread.tstate = thread_state(live.target)?;
    }
    Ok(thread.tstate)
}

/// The classification of a code object, from `CODES` after the first time.
#[inline(always)]
fn known_code(tgid: u32, layout: &Layout, address: u64) -> Option<&'static mut Code> {
    let key = ObjectKey::new(tgid, address);
    if CODES.get_ptr_mut(key).is_none() {
        learn_code(&key, layout);
    }
    // SAFETY: the value outlives the program's run. Threads that write to it write the same.
    CODES.get_ptr_mut(key).map(|code| unsafe { &mut *code })
}

/// Not inlined: the verifier walks it once.
#[inline(never)]
fn learn_code(key: &ObjectKey, layout: &Layout) {
    let Some(other) = NEW_CODE.get(0) else { return };
    let _ = CODES.insert(key, other, 0);
    if let Some(code) = CODES.get_ptr_mut(key) {
        // SAFETY: as above.
        let code = unsafe { &mut *code };
        code.start = NO_SLOT;
        code.response = NO_SLOT;
        if classify(&User, layout, key.address, code).is_err() {
            let _ = CODES.remove(key);
            count(Stat::FrameUnreadable);
        }
    }
}

/// The response object; 0 when there is none.
#[inline(always)]
fn response(code: &Code, locals: &[u64; probe_ebpf::abi::WORDS]) -> u64 {
    /// `ob_ref` of a cell (`Include/cpython/cellobject.h`).
    const CELL: u64 = 16;
    if code.response == NO_SLOT {
        return 0;
    }
    let object = frame::local(locals, code.response);
    if code.is_stream == 0 {
        return object;
    }
    User.peek(object.wrapping_add(CELL))
}

/// `handle_error` runs. Not inlined, as above.
#[inline(never)]
fn failed(live: &Live, call: &Call<'_>, code: &Code) {
    let Some(thread) = live.make_thread() else { return };
    let machine = live.machine();
    let exception = frame::local(&thread.words, HANDLE_ERROR_EXC);
    let status = if code.response == NO_SLOT {
        0
    } else {
        frame::local(&thread.words, code.response)
    };
    let status = machine.number(call.layout, status) as u16;
    let key = send_exception(live, call, exception, SeenBy::HandleError);
    let is_none = is_none(call.layout, call.request);
    machine.failed(call, key, status, is_none);
}

/// Sends the exception that ended the request, if there is one. Returns the request's key, else 0.
#[inline(always)]
fn send_exception(live: &Live, call: &Call<'_>, object: u64, seen_by: SeenBy) -> u64 {
    let conn = live.machine().serving(call.request, call.client);
    let key = match &conn {
        // `handle_error` may call `datetime.now` more than once.
        Some(conn) if conn.flags & flags::ERROR_HANDLED == 0 => conn.entered_ns,
        None if seen_by as u16 == SeenBy::HandleError as u16
            && !live.machine().is_refused(call) =>
        {
            emit::now()
        }
        _ => return 0,
    };
    let exception = Exception {
        layout: call.layout,
        id: live.id,
        object,
        seen_by,
        has_left: true,
        depth: NO_DEPTH,
    };
    if object == 0 {
        return 0;
    }
    match conn {
        Some(conn) => exception.send_for(conn),
        None if !exception.send(key) => return 0,
        None => {}
    }
    key
}

/// Whether an object is `None`, by the name of its type.
#[inline(always)]
fn is_none(layout: &Layout, object: u64) -> bool {
    let mut name = [0; 9];
    let class = User.word(object.wrapping_add(u64::from(layout.object_type)));
    let at = class.and_then(|class| User.word(class.wrapping_add(u64::from(layout.type_name))));
    at.and_then(|at| User.read(at, &mut name)).is_ok() && name == *b"NoneType\0"
}
