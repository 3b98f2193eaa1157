//! A thread in a system call.

/// Value of the `THREADS` map, keyed by tgid << 32 | tid: the system call a thread is in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// [`super::Target::generation`] of its process.
    pub generation: u64,
    /// User address of the bytes of the current call.
    pub buffer: u64,
    /// Descriptor of the current call; -1 when the call does not matter.
    pub fd: i32,
    /// Descriptor of the last connection it read from; -1 for none.
    pub last_read_fd: i32,
}
const _: () = assert!(size_of::<Thread>() == 24);
