//! A thread of a target.

/// Value of the `THREADS` map, keyed by tgid << 32 | tid.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Its key; 0 where no thread is.
    pub id: u64,
    /// [`super::Target::generation`] of its process.
    pub generation: u64,
    /// The connection it read last; 0 for none.
    pub last_read: u64,
    /// The connection whose request it serves; 0 for none.
    pub serving: u64,
    /// Its `PyThreadState`; 0 while unknown.
    pub tstate: u64,
    /// The frame in which Gunicorn called `datetime.now` last; 0 for none.
    pub frame: u64,
    /// Its code, and the instructions at which that calls `datetime.now`, as in
    /// [`crate::gunicorn::Code`].
    pub code: u64,
    pub begin: u64,
    pub calm: u64,
    /// What the program that is continued with works on.
    pub next: Next,
    /// The write that it is in, as [`crate::machine::wire::Write::words`].
    pub write: [u64; WRITE_WORDS],
    /// Space for a frame, a thread state or an object: too large for the stack.
    pub words: [u64; WORDS],
}
const _: () = assert!(size_of::<Thread>() == 72 + size_of::<Next>() + WRITE_WORDS * 8 + WORDS * 8);

/// What one program on `datetime.now` leaves for the next.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Next {
    /// The object whose class is to be learned, or the exception to be sent.
    pub object: u64,
    /// Key of the exception's request.
    pub key: u64,
    /// What the object is: a [`crate::gunicorn::Object`], or a [`super::SeenBy`].
    pub kind: u32,
    /// The program to continue with then: a [`super::PythonTail`].
    pub then: u32,
    /// Classes learned for this call.
    pub learned: u32,
    pub reserved: u32,
}
const _: () = assert!(size_of::<Next>() == 32);

/// Words of [`Thread::write`].
pub const WRITE_WORDS: usize = 5;
/// Words of [`Thread::words`].
pub const WORDS: usize = 64;

/// Value of the `CALLS` map, keyed by tgid << 32 | tid: the system call a thread is in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The connection, a `struct sock`.
    pub sock: u64,
    /// User address of the bytes.
    pub buffer: u64,
}
const _: () = assert!(size_of::<Call>() == 16);

/// Places of threads by the low bits of their tid, in the map `THREAD_PLACES`: they cost no search.
pub const THREAD_PLACE_COUNT: u32 = 1 << 13;

impl Thread {
    /// Makes it a new thread.
    #[inline(always)]
    pub fn begin(&mut self, id: u64, generation: u64) {
        self.id = id;
        self.generation = generation;
        self.last_read = 0;
        self.serving = 0;
        self.tstate = 0;
        self.frame = 0;
        self.next.learned = 0;
    }
}
