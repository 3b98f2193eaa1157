//! The maps as the machine sees them.

use super::emit;
use super::maps::{
    CLIENTS, CONN_PLACES, CONNS, NEW_CONN, NEW_THREAD, SCRATCH, THREAD_PLACES, THREADS, count,
    current, mode, serving_target, target,
};
use super::memory::{self, UNIX, User};
use probe_ebpf::abi::{
    Conn, LostFrom, Mode, ObjectKey, Phase, Stat, THREAD_PLACE_COUNT, Target, Thread, WORDS,
    conn_place, target_flags,
};
use probe_ebpf::machine::kernel::Scratch;
use probe_ebpf::machine::{Kernel, Machine, Origin};

/// The current thread of a target.
pub struct Live {
    pub target: &'static Target,
    /// tgid << 32 | tid.
    pub id: u64,
}

/// The current thread, if it may serve requests.
#[inline(always)]
pub fn serving() -> Option<Live> {
    let id = current();
    let target = serving_target((id >> 32) as u32)?;
    Some(Live { target, id })
}

/// The same, if its connections are seen by its system calls.
#[inline(always)]
pub fn seen_by_calls() -> Option<Live> {
    serving().filter(|_| mode(Mode::Sockets) == 0)
}

/// The same, if it may use `read` and `write` for its connections: uvloop and OpenSSL do.
#[inline(always)]
pub fn plain() -> Option<Live> {
    seen_by_calls()
        .filter(|live| live.target.is_by_socket() || live.target.flags & target_flags::TLS != 0)
}

/// The same, if its requests are seen by the bytes of its sockets alone.
#[inline(always)]
pub fn unread() -> Option<Live> {
    seen_by_calls().filter(|live| live.target.is_by_socket())
}

impl Live {
    #[inline(always)]
    pub fn machine(&self) -> Machine<'_, Self> {
        Machine::new(self)
    }
}

impl Kernel for Live {
    type User = User;
    type Conn<'a> = &'static mut Conn;
    type Thread<'a> = &'static mut Thread;
    type Scratch<'a> = &'static mut Scratch;

    #[inline(always)]
    fn user(&self) -> &User {
        &User
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        emit::now()
    }

    #[inline(always)]
    fn target(&self) -> &Target {
        self.target
    }

    #[inline(always)]
    fn tid(&self) -> u32 {
        self.id as u32
    }

    #[inline(always)]
    fn conn(&self, key: ObjectKey) -> Option<&'static mut Conn> {
        // SAFETY: see the first lines of `maps`.
        let place = unsafe { &mut *CONN_PLACES.get_ptr_mut(conn_place(key.address))? };
        let conn = if place.key == key {
            place
        } else if place.is_shared == 0 {
            return None;
        } else {
            // SAFETY: as above.
            unsafe { &mut *CONNS.get_ptr_mut(key)? }
        };
        (conn.generation == self.target.generation).then_some(conn)
    }

    #[inline(always)]
    fn open(&self, key: ObjectKey) -> Option<&'static mut Conn> {
        // SAFETY: see the first lines of `maps`.
        let place = unsafe { &mut *CONN_PLACES.get_ptr_mut(conn_place(key.address))? };
        if place.key.address == 0 || place.key == key || is_dead(place) {
            place.begin(key, self.target.generation);
            return Some(place);
        }
        place.is_shared = 1;
        if CONNS.insert(key, NEW_CONN.get(0)?, 0).is_err() {
            count(Stat::ConnsFull);
            return None;
        }
        // SAFETY: the value was inserted for this thread's own new connection.
        let conn = unsafe { &mut *CONNS.get_ptr_mut(key)? };
        conn.begin(key, self.target.generation);
        Some(conn)
    }

    #[inline(always)]
    fn forget(&self, key: ObjectKey) {
        if let Some(place) = CONN_PLACES.get_ptr_mut(conn_place(key.address)) {
            // SAFETY: see the first lines of `maps`.
            let place = unsafe { &mut *place };
            if place.key == key {
                place.key.address = 0;
                return;
            }
        }
        let _ = CONNS.remove(key);
    }

    #[inline(always)]
    fn thread(&self) -> Option<&'static mut Thread> {
        let place = THREAD_PLACES.get_ptr_mut(self.id as u32 & (THREAD_PLACE_COUNT - 1))?;
        // SAFETY: only this thread has this key.
        let place = unsafe { &mut *place };
        let thread = if place.id == self.id {
            place
        } else {
            // SAFETY: as above.
            unsafe { &mut *THREADS.get_ptr_mut(self.id)? }
        };
        (thread.generation == self.target.generation).then_some(thread)
    }

    #[inline(always)]
    fn make_thread(&self) -> Option<&'static mut Thread> {
        let place = THREAD_PLACES.get_ptr_mut(self.id as u32 & (THREAD_PLACE_COUNT - 1))?;
        // SAFETY: see the first lines of `maps`.
        let place = unsafe { &mut *place };
        let generation = self.target.generation;
        if place.id == self.id && place.generation == generation {
            return Some(place);
        }
        if place.id == 0 || place.id == self.id {
            place.begin(self.id, generation);
            return Some(place);
        }
        if self.thread().is_none() {
            if THREADS.insert(self.id, NEW_THREAD.get(0)?, 0).is_err() {
                count(Stat::ThreadsFull);
                return None;
            }
            // SAFETY: only this thread has this key.
            let thread = unsafe { &mut *THREADS.get_ptr_mut(self.id)? };
            thread.begin(self.id, generation);
        }
        self.thread()
    }

    #[inline(always)]
    fn client(&self, client: ObjectKey) -> Option<u64> {
        // SAFETY: an integer, copied at once.
        unsafe { CLIENTS.get(client) }.copied()
    }

    #[inline(always)]
    fn keep_client(&self, client: ObjectKey, sock: u64) {
        let _ = CLIENTS.insert(client, sock, 0);
    }

    #[inline(always)]
    fn forget_client(&self, client: ObjectKey) {
        let _ = CLIENTS.remove(client);
    }

    #[inline(always)]
    fn sock_of(&self, fd: i32) -> u64 {
        memory::sock_of_fd(fd as u32).unwrap_or(0)
    }

    #[inline(always)]
    fn local_port(&self, sock: u64) -> u16 {
        memory::local_port(sock)
    }

    #[inline(always)]
    fn sees_io(&self) -> bool {
        mode(Mode::EntryExit) == 0
    }

    #[inline(always)]
    fn birth(&self, sock: u64) -> Option<(u32, u64)> {
        let is_seen = mode(Mode::Accepts) != 0 || mode(Mode::Sockets) == 0;
        (!is_seen && memory::family(sock) != UNIX).then(|| memory::birth(sock))
    }

    #[inline(always)]
    fn copy(&self, words: &[u64; WORDS], at: usize, place: &mut [u8]) {
        if let Some(bytes) = memory::bytes(words).get(at..at + place.len()) {
            memory::copy_kernel(bytes, place);
        }
    }

    #[inline(always)]
    fn scratch(&self) -> Option<&'static mut Scratch> {
        // SAFETY: only this thread has this key, and it runs one program at a time.
        Some(unsafe { &mut *SCRATCH.get_ptr_mut(self.id)? })
    }

    #[inline(always)]
    fn send(&self, conn: &Conn, origin: Origin) {
        emit::request(self.target.tgid, self.id as u32, conn, origin);
    }

    #[inline(always)]
    fn has_left(&self, sock: u64) -> bool {
        memory::has_left(sock)
    }

    #[inline(always)]
    fn unread(&self, sock: u64) -> u32 {
        memory::unread(sock)
    }

    #[inline(always)]
    fn lost(&self, from: LostFrom) {
        emit::lost(self.target.tgid, from, 1);
    }

    #[inline(always)]
    fn count(&self, stat: Stat) {
        count(stat);
    }
}

/// Whether the process of a connection is no target any more. A request that it left unfinished stays until
/// userspace has counted it.
#[inline(always)]
fn is_dead(conn: &Conn) -> bool {
    if conn.phase != Phase::Idle as u16 {
        return false;
    }
    target(conn.key.tgid).is_none_or(|target| target.generation != conn.generation)
}
