//! A kernel for tests: collections instead of maps.
//!
//! What the machine holds is borrowed from a cell, so that a test fails where the machine holds the same
//! thing twice.

extern crate std;

use super::kernel::{Kernel, Scratch};
use super::{Machine, Origin};
use crate::abi::{
    Conn, HEAD_BYTES, HEAD_SLACK, LostFrom, Next, ObjectKey, Stat, Target, Thread, WORDS,
    WRITE_WORDS,
};
use crate::http::{HeadScan, ResponseHead, SCAN_BYTES, Window};
use crate::memory::Memory;
use core::cell::{Cell, RefCell, RefMut};
use core::fmt;
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::string::String;
use std::vec::Vec;

/// Room for connections and for threads.
const ROOM: usize = 64;
/// [`Target::generation`] of the process: when it became a target.
pub const GENERATION: u64 = 1_000;
/// When the clock starts: long after the process became a target.
pub const START: u64 = 1_000_000_000;
pub const TGID: u32 = 71;

/// A record of a finished request.
#[derive(Clone, Copy)]
pub struct Sent {
    pub conn: Conn,
    pub origin: Origin,
    /// The thread that sent it.
    pub tid: u32,
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conn {
            key,
            ordinal,
            status,
            flags,
            established_ns,
            accepted_ns,
            first_read_ns,
            entered_ns,
            exited_ns,
            first_write_ns,
            last_write_ns,
            ..
        } = self.conn;
        let line = self.conn.line.get(..self.conn.line_len as usize);
        let line = String::from_utf8_lossy(line.unwrap_or_default()).replace('\0', " ");
        write!(
            f,
            "{:?} {:x} {ordinal} {line:?} {status}",
            self.origin, key.address
        )?;
        write!(
            f,
            " flags {flags:x}, established {established_ns}, accepted {accepted_ns}"
        )?;
        write!(
            f,
            ", read {first_read_ns}, entered {entered_ns}, exited {exited_ns}"
        )?;
        write!(f, ", written {first_write_ns} to {last_write_ns}")?;
        let bytes = [self.conn.request_bytes, self.conn.response_bytes];
        let heads = [self.conn.request_head_bytes, self.conn.response_head_bytes];
        write!(f, ", bytes {bytes:?}, heads {heads:?}")
    }
}

/// One process, seen from one of its threads.
#[derive(Debug)]
pub struct TestKernel<M> {
    pub user: M,
    pub target: Target,
    /// The current thread.
    pub tid: u32,
    /// Every look at the clock takes a nanosecond.
    pub clock: Cell<u64>,
    /// Whether reads and writes of connections are seen.
    pub sees_io: bool,
    /// Local ports, by `struct sock`.
    pub ports: BTreeMap<u64, u16>,
    /// First sequence number and time of establishment of connections, by `struct sock`.
    pub births: BTreeMap<u64, (u32, u64)>,
    /// Clients that have closed their side, by `struct sock`.
    pub left: RefCell<BTreeSet<u64>>,
    /// Bytes that were not read, by `struct sock`.
    pub unread: RefCell<BTreeMap<u64, u32>>,
    /// The `struct sock` of descriptors.
    pub fds: BTreeMap<i32, u64>,
    conns: Places<ObjectKey, Conn>,
    threads: Places<u64, Thread>,
    clients: RefCell<BTreeMap<u64, u64>>,
    scratch: RefCell<Scratch>,
    sent: RefCell<Vec<Sent>>,
    lost: RefCell<Vec<LostFrom>>,
    counts: RefCell<[u64; Stat::COUNT as usize]>,
}

/// Values by key, at places that never move.
#[derive(Debug)]
struct Places<K: Copy, V> {
    places: Box<[Place<K, V>]>,
}

type Place<K, V> = (Cell<Option<K>>, RefCell<V>);

impl<K: Copy + PartialEq, V: Copy> Places<K, V> {
    fn new(empty: V) -> Self {
        let place = |_| (Cell::new(None), RefCell::new(empty));
        let places = (0..ROOM).map(place).collect();
        Self { places }
    }

    fn get(&self, key: K) -> Option<RefMut<'_, V>> {
        let place = self.places.iter().find(|(at, _)| at.get() == Some(key));
        place.map(|(_, value)| value.borrow_mut())
    }

    /// The place of a key, or a free one.
    fn make(&self, key: K) -> Option<RefMut<'_, V>> {
        self.get(key).or_else(|| {
            let (at, value) = self.places.iter().find(|(at, _)| at.get().is_none())?;
            at.set(Some(key));
            Some(value.borrow_mut())
        })
    }

    fn remove(&self, key: K) {
        if let Some((at, _)) = self.places.iter().find(|(at, _)| at.get() == Some(key)) {
            at.set(None);
        }
    }

    fn len(&self) -> usize {
        self.places
            .iter()
            .filter(|(at, _)| at.get().is_some())
            .count()
    }
}

/// What lies where nothing was: as after another connection.
fn no_conn() -> Conn {
    let mut request_scan = HeadScan::default();
    request_scan.give_up();
    Conn {
        key: ObjectKey::new(0, 0),
        generation: 0,
        established_ns: 1,
        accepted_ns: 1,
        first_read_ns: 1,
        entered_ns: 1,
        exited_ns: 1,
        first_write_ns: 1,
        last_write_ns: 1,
        request_bytes: 1,
        response_bytes: 1,
        refused_ns: 1,
        request: 1,
        client: 1,
        failed_request: 1,
        failed_ns: 1,
        request_scan,
        response_end: 1,
        request_head_bytes: 1,
        response_head_bytes: 1,
        ordinal: 1,
        line_len: 1,
        exceptions: 1,
        captured_frames: 1,
        tid: 1,
        identity: 1,
        status: 1,
        phase: 1,
        flags: 1,
        line_source: 1,
        family: 1,
        marks: 1,
        is_shared: 0,
        version: 0,
        reserved: 0,
        line: [1; HEAD_BYTES + HEAD_SLACK],
    }
}

/// The same for threads.
fn no_thread() -> Thread {
    Thread {
        id: 0,
        generation: 0,
        last_read: 1,
        serving: 1,
        tstate: 1,
        frame: 1,
        code: 1,
        begin: 1,
        calm: 1,
        write: [1; WRITE_WORDS],
        next: Next {
            object: 0,
            key: 0,
            kind: 0,
            then: 0,
            learned: 0,
            reserved: 0,
        },
        words: [1; WORDS],
    }
}

impl<M: Memory> TestKernel<M> {
    /// A process with Python, whose thread is the main one.
    #[must_use]
    pub fn new(user: M) -> Self {
        let target = Target {
            tgid: TGID,
            generation: GENERATION,
            ..Target::default()
        };
        let window = Window {
            len: 0,
            bytes: [0; SCAN_BYTES],
        };
        let head = ResponseHead::default();
        Self {
            user,
            target,
            tid: TGID,
            clock: Cell::new(START),
            sees_io: true,
            ports: BTreeMap::new(),
            births: BTreeMap::new(),
            left: RefCell::default(),
            unread: RefCell::default(),
            fds: BTreeMap::new(),
            conns: Places::new(no_conn()),
            threads: Places::new(no_thread()),
            clients: RefCell::default(),
            scratch: RefCell::new(Scratch { window, head }),
            sent: RefCell::default(),
            lost: RefCell::default(),
            counts: RefCell::default(),
        }
    }

    #[must_use]
    pub fn machine(&self) -> Machine<'_, Self> {
        Machine::new(self)
    }

    /// The records that were sent since the last call.
    pub fn take_sent(&self) -> Vec<Sent> {
        self.sent.take()
    }

    /// Connections that were closed without an answer since the last call.
    pub fn take_lost(&self) -> Vec<LostFrom> {
        self.lost.take()
    }

    #[must_use]
    pub fn count_of(&self, stat: Stat) -> u64 {
        self.counts.borrow()[stat as usize]
    }

    /// Connections that are kept, and requests without one.
    #[must_use]
    pub fn conn_count(&self) -> usize {
        self.conns.len()
    }

    /// A connection, as it is now.
    #[must_use]
    pub fn conn_of(&self, sock: u64) -> Option<Conn> {
        self.conn(ObjectKey::new(TGID, sock)).map(|conn| *conn)
    }

    fn thread_id(&self) -> u64 {
        u64::from(self.target.tgid) << 32 | u64::from(self.tid)
    }
}

impl<M: Memory> Kernel for TestKernel<M> {
    type User = M;
    type Conn<'a>
        = RefMut<'a, Conn>
    where
        M: 'a;
    type Thread<'a>
        = RefMut<'a, Thread>
    where
        M: 'a;
    type Scratch<'a>
        = RefMut<'a, Scratch>
    where
        M: 'a;

    fn user(&self) -> &M {
        &self.user
    }

    fn now(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    fn target(&self) -> &Target {
        &self.target
    }

    fn tid(&self) -> u32 {
        self.tid
    }

    fn conn(&self, key: ObjectKey) -> Option<RefMut<'_, Conn>> {
        let conn = self.conns.get(key)?;
        (conn.generation == self.target.generation).then_some(conn)
    }

    fn open(&self, key: ObjectKey) -> Option<RefMut<'_, Conn>> {
        let Some(mut conn) = self.conns.make(key) else {
            self.count(Stat::ConnsFull);
            return None;
        };
        conn.begin(key, self.target.generation);
        Some(conn)
    }

    fn forget(&self, key: ObjectKey) {
        self.conns.remove(key);
    }

    fn thread(&self) -> Option<RefMut<'_, Thread>> {
        let thread = self.threads.get(self.thread_id())?;
        (thread.generation == self.target.generation).then_some(thread)
    }

    fn make_thread(&self) -> Option<RefMut<'_, Thread>> {
        if let Some(known) = self.thread() {
            return Some(known);
        }
        let Some(mut thread) = self.threads.make(self.thread_id()) else {
            self.count(Stat::ThreadsFull);
            return None;
        };
        thread.begin(self.thread_id(), self.target.generation);
        Some(thread)
    }

    fn client(&self, client: ObjectKey) -> Option<u64> {
        self.clients.borrow().get(&client.address).copied()
    }

    fn keep_client(&self, client: ObjectKey, sock: u64) {
        self.clients.borrow_mut().insert(client.address, sock);
    }

    fn forget_client(&self, client: ObjectKey) {
        self.clients.borrow_mut().remove(&client.address);
    }

    fn sock_of(&self, fd: i32) -> u64 {
        self.fds.get(&fd).copied().unwrap_or(0)
    }

    fn local_port(&self, sock: u64) -> u16 {
        self.ports.get(&sock).copied().unwrap_or(0)
    }

    fn sees_io(&self) -> bool {
        self.sees_io
    }

    fn birth(&self, sock: u64) -> Option<(u32, u64)> {
        self.births.get(&sock).copied()
    }

    fn copy(&self, words: &[u64; WORDS], at: usize, place: &mut [u8]) {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        for (to, from) in place.iter_mut().zip(bytes.skip(at)) {
            *to = from;
        }
    }

    fn scratch(&self) -> Option<RefMut<'_, Scratch>> {
        Some(self.scratch.borrow_mut())
    }

    fn send(&self, conn: &Conn, origin: Origin) {
        let (conn, tid) = (*conn, self.tid);
        self.sent.borrow_mut().push(Sent { conn, origin, tid });
    }

    fn has_left(&self, sock: u64) -> bool {
        self.left.borrow().contains(&sock)
    }

    fn unread(&self, sock: u64) -> u32 {
        self.unread.borrow().get(&sock).copied().unwrap_or(0)
    }

    fn lost(&self, from: LostFrom) {
        self.lost.borrow_mut().push(from);
    }

    fn count(&self, stat: Stat) {
        self.counts.borrow_mut()[stat as usize] += 1;
    }
}
