//! `datetime.now()`: Gunicorn's `handle_request` calls it when a request starts and when it ends,
//! `handle_error` when it fails. The code object of the calling frame shows which.

use super::emit::Origin;
use super::exception::{Exception, ending};
use super::maps::{
    CLIENTS, CODES, FLOWS, conn, count, current, flow, layout, serving_target, thread,
};
use super::memory::{User, thread_state};
use super::{conn as connection, emit};
use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use probe_ebpf::abi::{
    Conn, ConnKey, Flow, NO_DEPTH, ObjectKey, Phase, SeenBy, Stat, Target, flags,
};
use probe_ebpf::gunicorn::{Code, Family, HANDLE_ERROR_EXC, Kind, classify};
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::Layout;

/// Time after a process became a target in which a request without a read was read before that: only
/// parsing lies between the read that completes a head and the entry. A request that Gunicorn decrypts
/// has no read either, but hardly ever comes so soon.
const READ_BEFORE_NS: u64 = 50_000_000;

#[uprobe]
pub fn datetime_now(_ctx: ProbeContext) -> u32 {
    let id = current();
    let Some(target) = serving_target((id >> 32) as u32) else {
        return 0;
    };
    count(Stat::PythonHits);
    if try_now(id, target).is_err() {
        count(Stat::FrameUnreadable);
    }
    0
}

#[inline(always)]
fn try_now(id: u64, target: &Target) -> Result<(), Fault> {
    let tgid = (id >> 32) as u32;
    let Some(layout) = layout(target) else {
        return Ok(());
    };
    let tstate = thread_state(target)?;
    let frame = layout.current_frame(&User, tstate)?;
    let address = layout.code(&User, frame)?;
    let code = known_code(tgid, layout, address)?;
    if code.kind == Kind::Other as u32 {
        return Ok(());
    }
    count(Stat::PythonRequestHits);
    let call = Call {
        id,
        tgid,
        generation: target.generation,
        family: code.family,
        request: ObjectKey {
            address: layout.local(&User, frame, code.req)?,
            tgid,
            reserved: 0,
        },
        client: ObjectKey {
            address: layout.local(&User, frame, code.client)?,
            tgid,
            reserved: 0,
        },
    };
    let is_error = code.kind == Kind::HandleError as u32;
    if !is_error && layout.local(&User, frame, code.start)? == 0 {
        call.entered(layout);
        return Ok(());
    }
    let (exception, seen_by) = if is_error {
        let exception = layout.local(&User, frame, HANDLE_ERROR_EXC)?;
        (exception, SeenBy::HandleError)
    } else {
        (
            ending(id, layout, tstate, call.request.address),
            SeenBy::Exit,
        )
    };
    let key = call.send_exception(layout, exception, seen_by);
    if is_error {
        call.failed(layout, key);
    } else {
        call.exited();
    }
    Ok(())
}

/// The classification of a code object, from `CODES` after the first time.
#[inline(always)]
fn known_code(tgid: u32, layout: &Layout, address: u64) -> Result<Code, Fault> {
    let key = ObjectKey {
        address,
        tgid,
        reserved: 0,
    };
    // SAFETY: integers, copied at once.
    if let Some(code) = unsafe { CODES.get(key) } {
        return Ok(*code);
    }
    let code = classify(&User, layout, address)?;
    let _ = CODES.insert(key, code, 0);
    Ok(code)
}

/// One call of `datetime.now` by Gunicorn's request handling.
struct Call {
    id: u64,
    tgid: u32,
    generation: u64,
    family: u32,
    /// The request object.
    request: ObjectKey,
    /// The object of the connection.
    client: ObjectKey,
}

impl Call {
    /// The request enters the application.
    #[inline(always)]
    fn entered(&self, layout: &Layout) {
        let mut new = Flow {
            generation: self.generation,
            entered_ns: emit::now(),
            exited_ns: 0,
            fd: -1,
            family: self.family,
            flags: 0,
            sent: 0,
            tid: self.id as u32,
            exceptions: 0,
            captured_frames: 0,
        };
        match self.find_conn() {
            Some((fd, conn)) => {
                self.finish_earlier(conn);
                if !connection::holds_request(conn) {
                    new.flags |= flags::PIPELINED;
                    let line = connection::keep_line_of_object(conn, layout, self.request.address);
                    if line.is_err() {
                        count(Stat::LineUnreadable);
                    }
                }
                new.fd = fd;
                conn.phase = Phase::Entered as u16;
                conn.request = self.request.address;
                if self.family != Family::Sync as u32 && conn.client == 0 {
                    conn.client = self.client.address;
                    let _ = CLIENTS.insert(self.client, fd, 0);
                }
            }
            // It was read before the observer came. Its exit finds no entry and is counted as
            // unmatched, like that of other requests in flight then.
            None if new.entered_ns.wrapping_sub(self.generation) < READ_BEFORE_NS => return,
            None => count(Stat::FlowWithoutConn),
        }
        if FLOWS.insert(self.request, new, 0).is_err() {
            count(Stat::FlowsFull);
        }
    }

    /// The response is complete, or an exception interrupted it. Its status is unknown if no byte was
    /// sent: then `handle_error` may follow, and the close sends the record.
    #[inline(always)]
    fn exited(&self) {
        let Some(flow) = flow(&self.request, self.generation) else {
            count(Stat::ExitUnmatched);
            return;
        };
        flow.exited_ns = emit::now();
        flow.flags |= flags::EXITED;
        let tid = self.id as u32;
        match conn(&self.conn_key(flow.fd), self.generation) {
            Some(conn) if conn.request == self.request.address => {
                if conn.status == 0 {
                    return;
                }
                connection::finish(self.tgid, tid, conn, Origin::Flow(flow));
            }
            _ => emit::request(self.tgid, tid, None, Origin::Flow(flow)),
        }
        let _ = FLOWS.remove(self.request);
    }

    /// Sends the exception that ended the request, if there is one. Returns the request's key, else 0.
    #[inline(always)]
    fn send_exception(&self, layout: &Layout, object: u64, seen_by: SeenBy) -> u64 {
        let flow = flow(&self.request, self.generation);
        let key = match &flow {
            // `handle_error` may call `datetime.now` more than once.
            Some(flow) if flow.flags & flags::ERROR_HANDLED == 0 => flow.entered_ns,
            None if seen_by as u16 == SeenBy::HandleError as u16 && !self.is_refused() => {
                emit::now()
            }
            _ => return 0,
        };
        let exception = Exception {
            layout,
            id: self.id,
            object,
            seen_by,
            has_left: true,
            depth: NO_DEPTH,
        };
        if object == 0 {
            return 0;
        }
        match flow {
            Some(flow) => exception.send_for(flow),
            None if !exception.send(key) => return 0,
            None => {}
        }
        key
    }

    /// Whether `handle_error` ran for the request before.
    #[inline(always)]
    fn is_refused(&self) -> bool {
        let conn = self.find_conn();
        conn.is_some_and(|(_, conn)| conn.phase == Phase::Refused as u16)
    }

    /// `handle_error` runs: for a request that entered, or for bytes that are no request. `key` is that
    /// of its exception.
    #[inline(always)]
    fn failed(&self, layout: &Layout, key: u64) {
        if let Some(flow) = flow(&self.request, self.generation) {
            flow.flags |= flags::ERROR_HANDLED;
            if flow.exited_ns == 0 {
                flow.exited_ns = emit::now();
            }
            if flow.fd < 0 && flow.sent == 0 {
                // No close will send it; the flow stays for the second call.
                flow.sent = 1;
                emit::request(self.tgid, self.id as u32, None, Origin::Flow(flow));
            }
            return;
        }
        let refused = is_none(layout, self.request.address);
        match self.find_conn() {
            Some((_, conn)) if conn.request == 0 => {
                if refused || conn.phase == Phase::Reading as u16 {
                    conn.phase = Phase::Refused as u16;
                    if conn.refused_ns == 0 {
                        conn.refused_ns = key;
                    }
                }
            }
            _ if refused => {
                emit::request(self.tgid, self.id as u32, None, Origin::Refused(key));
            }
            // It entered before the observer came, or its connection is unknown.
            _ => count(Stat::ExitUnmatched),
        }
    }

    /// Ends a request that is still open when the next one of its connection enters: an exception
    /// bypassed everything that would have ended it.
    #[inline(always)]
    fn finish_earlier(&self, conn: &mut Conn) {
        if conn.request == 0 {
            return;
        }
        count(Stat::FlowReplaced);
        let key = ObjectKey {
            address: conn.request,
            tgid: self.tgid,
            reserved: 0,
        };
        if let Some(earlier) = flow(&key, self.generation) {
            if earlier.exited_ns == 0 {
                earlier.exited_ns = emit::now();
            }
            connection::finish(self.tgid, self.id as u32, conn, Origin::Flow(earlier));
        }
        let _ = FLOWS.remove(key);
    }

    /// The connection of a request: the one its thread read last, because nothing yields between the
    /// read that completes a head and the entry. A pipelined request is taken out of a buffer, perhaps
    /// by another thread or greenlet, and is found by its connection's object.
    #[inline(always)]
    fn find_conn(&self) -> Option<(i32, &'static mut Conn)> {
        // SAFETY: an integer, copied at once.
        if let Some(&fd) = unsafe { CLIENTS.get(self.client) }
            && let Some(conn) = conn(&self.conn_key(fd), self.generation)
            && conn.client == self.client.address
        {
            return Some((fd, conn));
        }
        self.last_read()
    }

    #[inline(always)]
    fn last_read(&self) -> Option<(i32, &'static mut Conn)> {
        let fd = thread(self.id, self.generation)?.last_read_fd;
        Some((fd, conn(&self.conn_key(fd), self.generation)?))
    }

    #[inline(always)]
    fn conn_key(&self, fd: i32) -> ConnKey {
        ConnKey {
            tgid: self.tgid,
            fd,
        }
    }
}

/// Whether an object is `None`, by the name of its type.
#[inline(always)]
fn is_none(layout: &Layout, object: u64) -> bool {
    let mut name = [0; 9];
    let class = User.word(object.wrapping_add(u64::from(layout.object_type)));
    let at = class.and_then(|class| User.word(class.wrapping_add(u64::from(layout.type_name))));
    at.and_then(|at| User.read(at, &mut name)).is_ok() && name == *b"NoneType\0"
}
