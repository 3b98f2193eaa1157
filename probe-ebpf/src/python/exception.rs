//! Exceptions: which one a thread handles or raises, what it came from, and
//! where it was raised, for both sides.

use super::{DIRECT, Layout};
use crate::memory::{Fault, Memory};

/// `Py_TPFLAGS_BASE_EXC_SUBCLASS` (`Include/object.h`).
const BASE_EXCEPTION: u64 = 1 << 30;
/// Generators that run inside each other while one handles an exception.
const MAX_HANDLED: usize = 8;
/// Exceptions that follow from each other.
const MAX_CHAIN: usize = 16;

impl Layout {
    /// The exception that a thread handles, as `sys.exception()` would say it; 0 for
    /// none (`_PyErr_GetTopmostException` of `Python/errors.c`).
    ///
    /// # Errors
    /// [`Fault`] when the thread state cannot be read.
    #[inline(always)]
    pub fn handled_exception<M: Memory>(&self, mem: &M, tstate: u64) -> Result<u64, Fault> {
        let mut item = self.field(mem, tstate, self.tstate_exc_info)?;
        for _ in 0..MAX_HANDLED {
            if item == 0 {
                break;
            }
            let value = self.field(mem, item, self.handled_value)?;
            // Often it is `None`.
            if value != 0 && self.is_exception(mem, value)? {
                return Ok(value);
            }
            item = self.field(mem, item, self.handled_previous)?;
        }
        Ok(0)
    }

    /// The exception that a thread raises: its class, and the object; 0 before 3.12,
    /// where that may not have been made yet, or be an argument of it.
    ///
    /// # Errors
    /// [`Fault`] when the thread state cannot be read.
    #[inline(always)]
    pub fn raised_exception<M: Memory>(
        &self,
        mem: &M,
        tstate: u64,
    ) -> Result<(u64, u64), Fault> {
        let raised = self.field(mem, tstate, self.tstate_raised)?;
        if raised == 0 {
            return Err(Fault);
        }
        if self.is_exception(mem, raised)? {
            return Ok((self.field(mem, raised, self.object_type)?, raised));
        }
        // `curexc_value` is behind `curexc_type`.
        Ok((raised, mem.word(tstate.wrapping_add(u64::from(self.tstate_raised) + 8))?))
    }

    /// Whether an object is an exception.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    #[inline(always)]
    pub fn is_exception<M: Memory>(&self, mem: &M, object: u64) -> Result<bool, Fault> {
        let class = self.field(mem, object, self.object_type)?;
        Ok(self.field(mem, class, self.type_flags)? & BASE_EXCEPTION != 0)
    }

    /// What an exception came from: its cause, else what was handled when it was
    /// raised, unless it was raised `from None`; 0 for nothing.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    #[inline(always)]
    pub fn came_from<M: Memory>(&self, mem: &M, exception: u64) -> Result<u64, Fault> {
        let cause = self.field(mem, exception, self.exception_cause)?;
        if cause != 0 {
            return Ok(cause);
        }
        let mut suppressed = [0];
        let at = exception.wrapping_add(u64::from(self.exception_suppress_context));
        mem.read(at, &mut suppressed)?;
        if suppressed[0] != 0 {
            return Ok(0);
        }
        self.field(mem, exception, self.exception_context)
    }

    /// The first of the exceptions that led to this one; itself, if none did.
    ///
    /// # Errors
    /// [`Fault`] when one of them cannot be read.
    #[inline(always)]
    pub fn root_cause<M: Memory>(&self, mem: &M, exception: u64) -> Result<u64, Fault> {
        let mut root = exception;
        for _ in 0..MAX_CHAIN {
            match self.came_from(mem, root)? {
                0 => break,
                earlier => root = earlier,
            }
        }
        Ok(root)
    }

    /// The frame of an entry of a traceback. It may have returned: then its object
    /// holds what it was.
    ///
    /// # Errors
    /// [`Fault`] when the entry cannot be read.
    #[inline(always)]
    pub fn traceback_frame<M: Memory>(&self, mem: &M, traceback: u64) -> Result<u64, Fault> {
        let object = self.field(mem, traceback, self.traceback_frame)?;
        if self.frame_object_frame == DIRECT {
            return Ok(object);
        }
        self.field(mem, object, self.frame_object_frame)
    }
}
