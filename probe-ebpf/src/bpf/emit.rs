//! Sends records into the ring buffer.

use super::maps::{EVENTS, count, current};
use super::memory::copy_kernel;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use probe_ebpf::abi::{
    Conn, Flow, HEAD_BYTES, Header, LineSource, RecordKind, RequestRecord, Stat, TimedBy, flags,
};

/// `BPF_RB_NO_WAKEUP`, `BPF_RB_FORCE_WAKEUP`, `BPF_RB_AVAIL_DATA` of `linux/bpf.h`.
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
const AVAIL_DATA: u64 = 0;
/// While records come, userspace polls several times a second; it is woken only while more than this
/// waits.
const WAKE_BYTES: u64 = 1 << 20;
/// While more than this waits, the rest of the ring is reserved for requests and process exits.
const SPARE_BYTES: u64 = 2 << 20;

/// Not 0 while userspace sleeps until the next record. Userspace sets it, the record that wakes it
/// clears it.
#[map]
static ALARM: Array<u32> = Array::with_max_entries(1, 0);

/// `CLOCK_MONOTONIC` nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Reserves a record in the ring, fills it and submits it, or counts a loss. Userspace finds it within
/// the time between two of its polls.
///
/// `fill` runs in the branch that found room. Were the reservation tested a second time, kernels such
/// as 5.10 would consider both outcomes possible (`reg_type_not_null` of `kernel/bpf/verifier.c`) and
/// refuse the program for a leaked reservation.
#[inline(always)]
pub fn send_later<T: 'static>(fill: impl FnOnce(&mut T)) {
    send_or(Stat::RingFullOther, fill);
}

#[inline(always)]
fn send_or<T: 'static>(loss: Stat, fill: impl FnOnce(&mut T)) {
    match EVENTS.reserve::<T>(0) {
        Some(mut entry) => {
            // SAFETY: the memory is reserved for this program; a record is made of integers.
            fill(unsafe { &mut *entry.as_mut_ptr() });
            entry.submit(wakeup());
        }
        None => count(loss),
    }
}

/// Sends a record of a kind that may come in great numbers and must not take the room of requests.
/// False if there was no room.
///
/// The record is filled in a map value of its thread and then copied. A reservation differs for the
/// verifier on each path that leads to it, so it would walk `fill` once for each.
#[inline(always)]
pub fn send_spare<T: 'static>(rooms: &Rooms<T>, fill: impl FnOnce(&mut T)) -> bool {
    let is_sent = EVENTS.query(AVAIL_DATA) <= SPARE_BYTES && rooms.send(fill).is_some();
    if !is_sent {
        count(Stat::ExceptionDropped);
    }
    is_sent
}

/// Map values in which records are filled, by thread: tgid << 32 | tid.
pub struct Rooms<T: 'static> {
    pub rooms: &'static HashMap<u64, T>,
    /// An empty record.
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

/// Sends a record of a rare kind, and wakes userspace for it.
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

/// Wakes userspace if it sleeps, and while much waits.
#[inline(always)]
fn wakeup() -> u64 {
    if wakes_sleeper() || EVENTS.query(AVAIL_DATA) > WAKE_BYTES {
        FORCE_WAKEUP
    } else {
        NO_WAKEUP
    }
}

/// Whether userspace sleeps. The caller wakes it: the alarm is cleared.
#[inline(always)]
fn wakes_sleeper() -> bool {
    let Some(alarm) = ALARM.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: an integer that lives as long as the map. Where two processors find it set, both wake
    // userspace.
    unsafe {
        let is_set = alarm.read_volatile() != 0;
        if is_set {
            alarm.write_volatile(0);
        }
        is_set
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

/// What saw the request, beside its connection.
pub enum Origin<'a> {
    /// `handle_request`, which the request entered.
    Flow(&'a Flow),
    /// `handle_error`, for a request that Gunicorn refused to parse; the key of its exception.
    Refused(u64),
    /// Nothing: the connection alone, with this descriptor.
    Socket(i32),
}

/// Sends a finished request. `conn` is `None` when its connection is unknown.
#[inline(always)]
pub fn request(tgid: u32, tid: u32, conn: Option<&Conn>, origin: Origin<'_>) {
    // A counter of its own: it says by how many requests the totals are too low.
    send_or(Stat::RingFull, |record: &mut RequestRecord| {
        fill(record, (tgid, tid), conn, origin);
    });
}

/// Writes every field of the record, which has no padding.
#[inline(always)]
fn fill(
    record: &mut RequestRecord,
    (tgid, tid): (u32, u32),
    conn: Option<&Conn>,
    origin: Origin<'_>,
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
    match origin {
        Origin::Flow(flow) => {
            record.entered_ns = flow.entered_ns;
            record.exited_ns = flow.exited_ns;
            record.family = flow.family as u16;
            record.fd = flow.fd;
            record.flags = flow.flags;
            record.exceptions = flow.exceptions_key();
            record.exceptions_count = u64::from(flow.exceptions) + u64::from(flow.captured_frames);
        }
        Origin::Refused(exceptions) => {
            record.flags = flags::BAD_REQUEST | flags::ERROR_HANDLED;
            record.exceptions = exceptions;
            record.exceptions_count = u64::from(exceptions != 0);
        }
        Origin::Socket(fd) => {
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
