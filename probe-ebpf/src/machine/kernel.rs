//! What the machine needs from where it runs.

use super::Origin;
use crate::abi::{Conn, LostFrom, ObjectKey, Stat, Target, Thread, WORDS};
use crate::http::{ResponseHead, Window};
use crate::memory::Memory;
use core::ops::DerefMut;

/// Space to parse a piece of a message in, too large for the stack.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    /// A piece of a message.
    pub window: Window,
    /// The parsed head of a response.
    pub head: ResponseHead,
}

/// The current thread of an observed process, and what is known of the process.
///
/// In the kernel these are eBPF maps, in tests collections.
pub trait Kernel {
    type User: Memory;
    type Conn<'a>: DerefMut<Target = Conn>
    where
        Self: 'a;
    type Thread<'a>: DerefMut<Target = Thread>
    where
        Self: 'a;
    type Scratch<'a>: DerefMut<Target = Scratch>
    where
        Self: 'a;

    /// The memory of the process.
    fn user(&self) -> &Self::User;
    /// `CLOCK_MONOTONIC` nanoseconds.
    fn now(&self) -> u64;
    /// The process.
    fn target(&self) -> &Target;
    /// The thread's id.
    fn tid(&self) -> u32;

    /// A known connection of this process, not one of an earlier process with the same pid.
    fn conn(&self, key: ObjectKey) -> Option<Self::Conn<'_>>;
    /// Starts to observe a connection; counts a loss if there is no room.
    fn open(&self, key: ObjectKey) -> Option<Self::Conn<'_>>;
    /// A connection is closed.
    fn forget(&self, key: ObjectKey);

    /// What is known of the thread.
    fn thread(&self) -> Option<Self::Thread<'_>>;
    /// The same; creates it if it is new.
    fn make_thread(&self) -> Option<Self::Thread<'_>>;

    /// The socket of a Python object of a connection.
    fn client(&self, client: ObjectKey) -> Option<u64>;
    fn keep_client(&self, client: ObjectKey, sock: u64);
    fn forget_client(&self, client: ObjectKey);

    /// The `struct sock` behind a descriptor of the process; 0 when there is none.
    fn sock_of(&self, fd: i32) -> u64;
    /// The local port of a TCP socket; 0 for others.
    fn local_port(&self, sock: u64) -> u16;

    /// Whether reads and writes of connections are seen.
    fn sees_io(&self) -> bool;
    /// Where no close is seen: the first sequence number of a connection, and when it was established, 0
    /// if that is unknown.
    fn birth(&self, sock: u64) -> Option<(u32, u64)>;

    /// Whether the client of a connection sends no more: it has closed its side, or all of it.
    fn has_left(&self, sock: u64) -> bool;
    /// Bytes that came from the client of a TCP connection and were not read; 0 if that is unknown.
    fn unread(&self, sock: u64) -> u32;

    /// Copies bytes that begin in the first half of `words`.
    fn copy(&self, words: &[u64; WORDS], at: usize, place: &mut [u8]);
    /// Space to parse in, of this thread.
    fn scratch(&self) -> Option<Self::Scratch<'_>>;

    /// Sends the record of a finished request, or counts its loss.
    fn send(&self, conn: &Conn, origin: Origin);
    /// Sends the record of a connection that was closed without an answer.
    fn lost(&self, from: LostFrom);
    fn count(&self, stat: Stat);
}
