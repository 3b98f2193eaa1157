//! Sends records into the ring buffer.

use super::maps::{EVENTS, count, current};
use super::memory::copy_kernel;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use probe_ebpf::abi::{
    Conn, HEAD_BYTES, Header, LostFrom, LostRecord, RecordKind, RequestRecord, SHORT_LINE_BYTES,
    Stat,
};
use probe_ebpf::machine::Origin;

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

/// Sends what was closed without an answer.
#[inline(always)]
pub fn lost(tgid: u32, from: LostFrom, count: u32) {
    send_later(|record: &mut LostRecord| {
        *record = LostRecord {
            header: header::<LostRecord>(RecordKind::Lost, tgid),
            from: from as u32,
            count,
        };
    });
}

/// Sends a finished request.
#[inline(always)]
pub fn request(tgid: u32, tid: u32, conn: &Conn, origin: Origin) {
    // The memory of the ring is in no cache: each line of it is waited for.
    if conn.line_len <= SHORT_LINE_BYTES as u32 {
        send_request::<SHORT_LINE_BYTES>(tgid, tid, conn, origin);
    } else {
        send_request::<HEAD_BYTES>(tgid, tid, conn, origin);
    }
}

#[inline(always)]
fn send_request<const LINE: usize>(tgid: u32, tid: u32, conn: &Conn, origin: Origin) {
    // A counter of its own: it says by how many requests the totals are too low.
    send_or(Stat::RingFull, |record: &mut RequestRecord<LINE>| {
        record.header = header::<RequestRecord<LINE>>(RecordKind::Request, tgid);
        record.fill(tid, conn, origin);
        copy_kernel(&conn.line[..LINE], &mut record.line);
    });
}
