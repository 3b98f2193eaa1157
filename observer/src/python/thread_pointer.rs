//! From `pthread_self()`, which CPython remembers as `PyThreadState.thread_id`, to the thread
//! pointer, which the kernel can tell of a thread.
//!
//! On x86-64 they are the same: `struct pthread` begins where the thread pointer points
//! (`sysdeps/x86_64/nptl/tls.h`, `TLS_TCB_AT_TP`). On aarch64 glibc keeps it right below
//! (`sysdeps/aarch64/nptl/tls.h`, `TLS_DTV_AT_TP`, `THREAD_SELF`), so that its size is the distance.
//! musl keeps its own below too, with another size that it tells nobody.

use super::elf::Machine;

/// Distances from a process's thread pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadPointer {
    /// Bytes from `pthread_self()` up to the thread pointer.
    from_self: u32,
}

impl ThreadPointer {
    /// `pthread_bytes` is the size of glibc's `struct pthread`, which its symbol
    /// `_thread_db_sizeof_pthread` tells; `None` where that is needed and not known.
    #[must_use]
    pub fn of(machine: Machine, pthread_bytes: Option<u32>) -> Option<Self> {
        let from_self = match machine {
            Machine::X86_64 => 0,
            Machine::Aarch64 => pthread_bytes?,
        };
        Some(Self { from_self })
    }

    /// The thread pointer of the thread with this `pthread_self()`.
    #[must_use]
    pub fn of_thread(self, thread_id: u64) -> u64 {
        thread_id.wrapping_add(u64::from(self.from_self))
    }

    /// Where from the thread pointer a member of `struct pthread` is.
    #[must_use]
    pub fn member(self, offset: u32) -> i64 {
        i64::from(offset) - i64::from(self.from_self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_x86_64_a_thread_is_its_thread_pointer() {
        let pointer = ThreadPointer::of(Machine::X86_64, None).unwrap();
        assert_eq!(pointer.of_thread(0x7f00_0000_1740), 0x7f00_0000_1740);
        assert_eq!(pointer.member(784), 784);
    }

    #[test]
    fn on_aarch64_a_thread_is_below_its_thread_pointer() {
        // glibc 2.36 of Debian 12: `struct pthread` has 1856 bytes, `specific_1stblock` is at 272.
        let pointer = ThreadPointer::of(Machine::Aarch64, Some(1856)).unwrap();
        assert_eq!(pointer.of_thread(0xffff_8000_0000), 0xffff_8000_0740);
        assert_eq!(pointer.member(272), -1584);
        assert_eq!(ThreadPointer::of(Machine::Aarch64, None), None);
    }

    #[test]
    fn a_wild_thread_id_is_no_panic() {
        let pointer = ThreadPointer::of(Machine::Aarch64, Some(u32::MAX)).unwrap();
        assert_eq!(pointer.of_thread(u64::MAX), u64::from(u32::MAX) - 1);
    }
}
