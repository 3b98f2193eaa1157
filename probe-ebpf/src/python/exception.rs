//! Exceptions: which one a thread handles or raises, what it came from, and
//! where it was raised, for both sides.
//!
//! What cannot be read is 0, as what is not there.

use super::{DIRECT, Layout};
use crate::memory::Memory;

/// `Py_TPFLAGS_BASE_EXC_SUBCLASS` (`Include/object.h`).
const BASE_EXCEPTION: u64 = 1 << 30;
/// Generators that run inside each other while one handles an exception.
const MAX_HANDLED: usize = 4;
/// Exceptions that follow from each other.
const MAX_CHAIN: usize = 16;

/// An exception on its way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    pub class: u64,
    /// The exception; before it is made, which up to 3.11 is done when it is caught, what
    /// it will be made of, if that is anything.
    pub object: u64,
    pub is_made: bool,
    /// It went up other frames before.
    pub has_traceback: bool,
}

impl Layout {
    /// The exception that a thread handles, as `sys.exception()` would say it; 0 for
    /// none (`_PyErr_GetTopmostException` of `Python/errors.c`).
    #[inline(always)]
    pub fn handled_exception<M: Memory>(&self, mem: &M, tstate: u64) -> u64 {
        let mut item = self.peek(mem, tstate, self.tstate_exc_info);
        for _ in 0..MAX_HANDLED {
            if item == 0 {
                break;
            }
            let value = self.peek(mem, item, self.handled_value);
            // Often it is `None`.
            if value != 0 && self.is_exception(mem, value) {
                return value;
            }
            item = self.peek(mem, item, self.handled_previous);
        }
        0
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

    /// What an exception came from: its cause, else what was handled when it was
    /// raised, unless it was raised `from None`; 0 for nothing.
    #[inline(always)]
    pub fn came_from<M: Memory>(&self, mem: &M, exception: u64) -> u64 {
        let cause = self.peek(mem, exception, self.exception_cause);
        if cause != 0 {
            return cause;
        }
        // A byte, and padding.
        let suppressed = self.peek(mem, exception, self.exception_suppress_context) & 0xff;
        if suppressed != 0 {
            return 0;
        }
        self.peek(mem, exception, self.exception_context)
    }

    /// The first of the exceptions that led to this one; itself, if none did.
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

    /// The last of the frames that an exception went up; 0 if it has no traceback.
    #[inline(always)]
    pub fn caught_in<M: Memory>(&self, mem: &M, exception: u64) -> u64 {
        let traceback = self.peek(mem, exception, self.exception_traceback);
        self.frame_of_traceback(mem, traceback)
    }

    /// The frame of an entry of a traceback. It may have returned: then its object
    /// holds what it was.
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
