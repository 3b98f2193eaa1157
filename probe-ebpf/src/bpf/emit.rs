//! Records into the ring buffer.

use super::maps::{EVENTS, count, current};
use super::memory::copy_kernel;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::maps::{Array, HashMap};
use probe_ebpf::abi::{
    Conn, Flow, HEAD_BYTES, Header, LineSource, RecordKind, RequestRecord, Stat, TimedBy, flags,
};

/// `BPF_RB_NO_WAKEUP`, `BPF_RB_FORCE_WAKEUP`, `BPF_RB_AVAIL_DATA` of `linux/bpf.h`.
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
const AVAIL_DATA: u64 = 0;
/// Userspace looks by itself several times a second; it is woken only when this waits.
const WAKE_BYTES: u64 = 1 << 20;
/// While more waits, the rest of the ring is for requests and the ends of processes.
const SPARE_BYTES: u64 = 2 << 20;

/// `CLOCK_MONOTONIC` nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Finds room for a record, has it filled and sends it; or counts a loss. Userspace looks by itself.
///
/// Filled where the room was found: when a kernel such as 5.10 sees it asked for a second time
/// whether there is room, it takes both for possible (`reg_type_not_null` of
/// `kernel/bpf/verifier.c`), and refuses a program that would then forget the room.
#[inline(always)]
pub fn send_later<T: 'static>(fill: impl FnOnce(&mut T)) {
    send_or(Stat::RingFullOther, fill);
}

#[inline(always)]
fn send_or<T: 'static>(loss: Stat, fill: impl FnOnce(&mut T)) {
    match EVENTS.reserve::<T>(0) {
        Some(mut entry) => {
            // SAFETY: the memory is reserved and ours; a record is made of integers.
            fill(unsafe { &mut *entry.as_mut_ptr() });
            entry.submit(wakeup());
        }
        None => count(loss),
    }
}

/// Likewise, of a kind that may come in great numbers, and must not take the room of requests. False
/// if there was none.
///
/// It is filled in a room of its thread's, and copied: room that is reserved is another to such a
/// kernel on each way that leads to it, so that it would walk what fills it for all of them.
#[inline(always)]
pub fn send_spare<T: 'static>(rooms: &Rooms<T>, fill: impl FnOnce(&mut T)) -> bool {
    let is_sent = EVENTS.query(AVAIL_DATA) <= SPARE_BYTES && rooms.send(fill).is_some();
    if !is_sent {
        count(Stat::ExceptionDropped);
    }
    is_sent
}

/// Where records are made, by thread: tgid << 32 | tid.
pub struct Rooms<T: 'static> {
    pub rooms: &'static HashMap<u64, T>,
    /// One that is empty.
    pub empty: &'static Array<T>,
}

impl<T: 'static> Rooms<T> {
    #[inline(always)]
    fn send(&self, fill: impl FnOnce(&mut T)) -> Option<()> {
        let id = current();
        self.rooms.insert(id, self.empty.get(0)?, 0).ok()?;
        // SAFETY: only this thread has this key.
        let room = unsafe { &mut *self.rooms.get_ptr_mut(id)? };
        fill(room);
        let is_sent = EVENTS.output::<T>(&*room, wakeup()).is_ok();
        let _ = self.rooms.remove(id);
        is_sent.then_some(())
    }
}

/// Likewise, of a rare kind, which userspace is woken for.
#[inline(always)]
pub fn send_now<T: 'static>(record: T) {
    match EVENTS.reserve::<T>(0) {
        Some(mut entry) => {
            entry.write(record);
            entry.submit(FORCE_WAKEUP);
        }
        None => count(Stat::RingFullOther),
    }
}

/// Userspace is woken only while much waits.
#[inline(always)]
fn wakeup() -> u64 {
    if EVENTS.query(AVAIL_DATA) > WAKE_BYTES {
        FORCE_WAKEUP
    } else {
        NO_WAKEUP
    }
}

/// The first fields of a record of type `T`.
#[inline(always)]
pub fn header<T>(kind: RecordKind, tgid: u32) -> Header {
    Header {
        kind: kind as u16,
        len: size_of::<T>() as u16,
        tgid,
        time_ns: now(),
    }
}

/// Who told of a request, beside its connection.
pub enum Teller<'a> {
    /// `handle_request`, which it entered.
    Flow(&'a Flow),
    /// `handle_error`, for one that Gunicorn refused to parse; what its exception names it by.
    Refused(u64),
    /// Its connection alone, with this descriptor.
    Socket(i32),
}

/// Sends a finished request. `conn` is what the system calls saw of it, if anything.
#[inline(always)]
pub fn request(tgid: u32, tid: u32, conn: Option<&Conn>, teller: Teller<'_>) {
    // Its own, so that it is known by how many requests totals are too low.
    send_or(Stat::RingFull, |record: &mut RequestRecord| {
        fill(record, (tgid, tid), conn, teller);
    });
}

/// Every field of the record, which has no padding, is written.
#[inline(always)]
fn fill(
    record: &mut RequestRecord,
    (tgid, tid): (u32, u32),
    conn: Option<&Conn>,
    teller: Teller<'_>,
) {
    record.header = header::<RequestRecord>(RecordKind::Request, tgid);
    record.tid = tid;
    record.entered_ns = 0;
    record.exited_ns = 0;
    record.family = 0;
    record.fd = -1;
    record.timed_by = TimedBy::Python as u16;
    record.exceptions = 0;
    record.exceptions_count = 0;
    match teller {
        Teller::Flow(flow) => {
            record.entered_ns = flow.entered_ns;
            record.exited_ns = flow.exited_ns;
            record.family = flow.family as u16;
            record.fd = flow.fd;
            record.flags = flow.flags;
            record.exceptions = flow.exceptions_name();
            record.exceptions_count = u64::from(flow.exceptions) + u64::from(flow.unwound);
        }
        Teller::Refused(exceptions) => {
            record.flags = flags::BAD_REQUEST | flags::ERROR_HANDLED;
            record.exceptions = exceptions;
            record.exceptions_count = u64::from(exceptions != 0);
        }
        Teller::Socket(fd) => {
            record.timed_by = TimedBy::Socket as u16;
            record.fd = fd;
            record.flags = 0;
        }
    }
    match conn {
        Some(conn) => wire(record, conn),
        None => unseen(record),
    }
}

#[inline(always)]
fn wire(record: &mut RequestRecord, conn: &Conn) {
    record.established_ns = conn.established_ns;
    record.accepted_ns = conn.accepted_ns;
    record.first_read_ns = conn.first_read_ns;
    record.first_write_ns = conn.first_write_ns;
    record.last_write_ns = conn.last_write_ns;
    record.request_bytes = conn.request_bytes;
    record.response_bytes = conn.response_bytes;
    record.request_head_bytes = conn.request_head_bytes;
    record.response_head_bytes = conn.response_head_bytes;
    record.ordinal = conn.ordinal;
    record.status = conn.status;
    record.flags |= conn.flags;
    record.line_len = conn.line_len as u16;
    record.line_source = conn.line_source;
    copy_kernel(&conn.line[..HEAD_BYTES], &mut record.line);
}

#[inline(always)]
fn unseen(record: &mut RequestRecord) {
    record.established_ns = 0;
    record.accepted_ns = 0;
    record.first_read_ns = 0;
    record.first_write_ns = 0;
    record.last_write_ns = 0;
    record.request_bytes = 0;
    record.response_bytes = 0;
    record.request_head_bytes = 0;
    record.response_head_bytes = 0;
    record.ordinal = 0;
    record.status = 0;
    record.flags |= flags::NO_CONNECTION;
    record.line_len = 0;
    record.line_source = LineSource::None as u16;
    record.line = [0; HEAD_BYTES];
}
