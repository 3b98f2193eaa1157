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
    /// That of x86-64.
    pub const X86_64: Self = Self { from_self: 0 };

    /// `pthread_bytes` is the size of glibc's `struct pthread`, which its symbol
    /// `_thread_db_sizeof_pthread` tells; `None` where that is needed and not known.
    #[must_use]
    pub fn of(machine: Machine, pthread_bytes: Option<u32>) -> Option<Self> {
        match machine {
            Machine::X86_64 => Some(Self::X86_64),
            Machine::Aarch64 => Some(Self {
                from_self: pthread_bytes?,
            }),
        }
    }

    /// The thread pointer of the thread with this `pthread_self()`.
    #[must_use]
    pub fn of_thread(self, thread_id: u64) -> u64 {
        thread_id.wrapping_add(u64::from(self.from_self))
    }

    /// Where from it a thread's own data lies: thread-local variables on one side, `struct pthread`,
    /// of about 2,300 bytes, on the other.
    #[must_use]
    pub fn surroundings(self) -> std::ops::Range<i64> {
        if self.from_self == 0 {
            -512..2304
        } else {
            -2304..512
        }
    }

    /// Whether what is there from the thread pointer is of `struct pthread`, not a thread-local
    /// variable.
    #[must_use]
    pub fn is_in_pthread(self, offset: i64) -> bool {
        (self.from_self == 0) == (offset >= 0)
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
        assert!(pointer.surroundings().contains(&784));
        assert!(pointer.is_in_pthread(784) && !pointer.is_in_pthread(-40));
    }

    #[test]
    fn on_aarch64_a_thread_is_below_its_thread_pointer() {
        // glibc 2.36 of Debian 12: `struct pthread` has 1856 bytes, `specific_1stblock` is at 272.
        let pointer = ThreadPointer::of(Machine::Aarch64, Some(1856)).unwrap();
        assert_eq!(pointer.of_thread(0xffff_8000_0000), 0xffff_8000_0740);
        assert_eq!(pointer.member(272), -1584);
        assert!(pointer.surroundings().contains(&-1584));
        assert!(pointer.is_in_pthread(-1584) && !pointer.is_in_pthread(16));
        assert_eq!(ThreadPointer::of(Machine::Aarch64, None), None);
    }

    #[test]
    fn a_wild_thread_id_is_no_panic() {
        let pointer = ThreadPointer::of(Machine::Aarch64, Some(u32::MAX)).unwrap();
        assert_eq!(pointer.of_thread(u64::MAX), u64::from(u32::MAX) - 1);
    }
}
