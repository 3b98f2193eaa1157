//! Exceptions of a thread, for both sides: the handled one, the raised one, what it came from and where
//! it was raised.
//!
//! An unreadable value is 0, like a missing one.

use super::{DIRECT, Layout};
use crate::branchless::{all_if_zero, choose};
use crate::memory::Memory;

/// `Py_TPFLAGS_BASE_EXC_SUBCLASS` (`Include/object.h`).
const BASE_EXCEPTION: u64 = 1 << 30;
/// Nested generators and coroutines that are searched for a handled exception: each part of an ASGI application
/// that wraps `send` adds one.
const MAX_HANDLED: usize = 16;
/// Exceptions of a chain that are followed.
const MAX_CHAIN: usize = 16;

/// An exception that leaves a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    pub class: u64,
    /// The exception; before Python makes it, which up to 3.11 happens when it is caught, the value
    /// it will be made from, or 0.
    pub object: u64,
    pub is_made: bool,
    /// Whether it left other frames before.
    pub has_traceback: bool,
}

impl Layout {
    /// The exception that a thread handles, as `sys.exception()` returns it; 0 for none
    /// (`_PyErr_GetTopmostException` of `Python/errors.c`).
    #[inline(always)]
    pub fn handled_exception<M: Memory>(&self, mem: &M, tstate: u64) -> u64 {
        let mut item = self.peek(mem, tstate, self.tstate_exc_info);
        let mut handled = 0;
        for _ in 0..MAX_HANDLED {
            let value = self.peek(mem, item, self.handled_value);
            // The value is often `None`.
            let class = self.peek(mem, value, self.object_type);
            let flags = self.peek(mem, class, self.type_flags);
            let is_exception = all_if_zero(flags & BASE_EXCEPTION ^ BASE_EXCEPTION);
            handled = choose(is_exception, value, 0);
            item = self.peek(mem, item, self.handled_previous);
            // One way out: the verifier follows each by itself.
            if handled != 0 || item == 0 {
                break;
            }
        }
        core::hint::black_box(handled)
    }

    /// The exception that a thread raises.
    #[inline(always)]
    pub fn raised_exception<M: Memory>(&self, mem: &M, tstate: u64) -> Raised {
        let raised = self.peek(mem, tstate, self.tstate_raised);
        if self.is_exception(mem, raised) {
            return Raised {
                class: self.peek(mem, raised, self.object_type),
                object: raised,
                is_made: true,
                has_traceback: self.peek(mem, raised, self.exception_traceback) != 0,
            };
        }
        // `curexc_value` is behind `curexc_type`, and behind that `curexc_traceback`.
        let behind = tstate.wrapping_add(u64::from(self.tstate_raised));
        let object = mem.peek(behind.wrapping_add(8));
        Raised {
            class: raised,
            object,
            is_made: object != 0 && self.is_exception(mem, object),
            has_traceback: mem.peek(behind.wrapping_add(16)) != 0,
        }
    }

    /// Whether an object is an exception.
    #[inline(always)]
    pub fn is_exception<M: Memory>(&self, mem: &M, object: u64) -> bool {
        let class = self.peek(mem, object, self.object_type);
        self.peek(mem, class, self.type_flags) & BASE_EXCEPTION != 0
    }

    /// The exception that this one came from: its cause, else the exception handled when it was
    /// raised, unless it was raised `from None`; 0 for none.
    #[inline(always)]
    pub fn came_from<M: Memory>(&self, mem: &M, exception: u64) -> u64 {
        let cause = self.peek(mem, exception, self.exception_cause);
        if cause != 0 {
            return cause;
        }
        // One byte, then padding.
        let suppressed = self.peek(mem, exception, self.exception_suppress_context) & 0xff;
        if suppressed != 0 {
            return 0;
        }
        self.peek(mem, exception, self.exception_context)
    }

    /// The first exception of the chain that led to this one; itself, if there is no chain.
    #[inline(always)]
    pub fn root_cause<M: Memory>(&self, mem: &M, exception: u64) -> u64 {
        let mut root = exception;
        for _ in 0..MAX_CHAIN {
            match self.came_from(mem, root) {
                0 => break,
                earlier => root = earlier,
            }
        }
        root
    }

    /// The last frame that an exception left, where it was caught; 0 if it has no traceback.
    #[inline(always)]
    pub fn caught_in<M: Memory>(&self, mem: &M, exception: u64) -> u64 {
        let traceback = self.peek(mem, exception, self.exception_traceback);
        self.frame_of_traceback(mem, traceback)
    }

    /// The frame of a traceback entry. It may have returned: then its frame object holds a copy.
    #[inline(always)]
    pub fn frame_of_traceback<M: Memory>(&self, mem: &M, traceback: u64) -> u64 {
        let object = self.peek(mem, traceback, self.traceback_frame);
        if self.frame_object_frame == DIRECT {
            return object;
        }
        self.peek(mem, object, self.frame_object_frame)
    }

    #[inline(always)]
    pub(super) fn peek<M: Memory>(&self, mem: &M, base: u64, offset: u32) -> u64 {
        mem.peek(base.wrapping_add(u64::from(offset)))
    }
}

#[cfg(test)]
#[path = "exception_tests.rs"]
mod tests;
