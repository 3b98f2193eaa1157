//! Records into the ring buffer.

use super::maps::{EVENTS, count};
use super::memory::copy_kernel;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::maps::ring_buf::RingBufEntry;
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

/// Room for a record, or a counted loss.
#[inline(always)]
pub fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    reserve_or(Stat::RingFullOther)
}

#[inline(always)]
fn reserve_or<T: 'static>(loss: Stat) -> Option<RingBufEntry<T>> {
    let entry = EVENTS.reserve::<T>(0);
    if entry.is_none() {
        count(loss);
    }
    entry
}

/// Likewise, of a kind that may come in great numbers, and must not take the room of requests.
#[inline(always)]
pub fn reserve_spare<T: 'static>() -> Option<RingBufEntry<T>> {
    let entry = if EVENTS.query(AVAIL_DATA) > SPARE_BYTES {
        None
    } else {
        EVENTS.reserve::<T>(0)
    };
    if entry.is_none() {
        count(Stat::ExceptionDropped);
    }
    entry
}

/// Sends a record that can wait for userspace to look.
#[inline(always)]
pub fn submit_later<T: 'static>(entry: RingBufEntry<T>) {
    let waiting = EVENTS.query(AVAIL_DATA);
    entry.submit(if waiting > WAKE_BYTES {
        FORCE_WAKEUP
    } else {
        NO_WAKEUP
    });
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

/// Sends a record of a rare kind at once.
#[inline(always)]
pub fn submit_now<T: 'static>(mut entry: RingBufEntry<T>, record: T) {
    entry.write(record);
    entry.submit(FORCE_WAKEUP);
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
    let Some(mut entry) = reserve_or::<RequestRecord>(Stat::RingFull) else {
        return;
    };
    // SAFETY: the memory is reserved and ours; every field of the record, which
    // has no padding, is written below.
    let record = unsafe { &mut *entry.as_mut_ptr() };
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
    submit_later(entry);
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
