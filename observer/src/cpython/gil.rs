//! Where threads of a process wait for the global interpreter lock.
//!
//! `struct _gil_runtime_state` (`Include/internal/pycore_gil.h`, the same from 3.8 to 3.15 but for
//! free-threaded builds): interval, last_holder, locked, switch_number, then the condition variable
//! and the mutex that `take_gil` waits on. What `drop_gil` waits on comes behind these.

use super::target::Interpreter;
use super::threads;
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::DIRECT;
use std::ops::Range;

const COND: u64 = 32;
/// `sizeof(pthread_cond_t)` and `sizeof(pthread_mutex_t)` of glibc
/// (`sysdeps/x86/nptl/bits/pthreadtypes-arch.h`, `sysdeps/aarch64/…`).
const COND_BYTES: u64 = 48;
const MUTEX_BYTES: u64 = if cfg!(target_arch = "aarch64") {
    48
} else {
    40
};

/// The addresses that they wait on, in a process and in all that it forks.
///
/// # Errors
/// When its memory cannot be read, or has no lock yet.
pub fn waited_on<M: Memory>(mem: &M, interpreter: &Interpreter) -> Result<Range<u64>, Fault> {
    let layout = &interpreter.layout;
    let gil = if layout.interp_gil == DIRECT {
        interpreter
            .runtime
            .wrapping_add(u64::from(layout.runtime_gil))
    } else {
        let interp = threads::main_interpreter(mem, layout, interpreter.runtime)?;
        let interp = interp.ok_or(Fault)?;
        mem.word(interp.wrapping_add(u64::from(layout.interp_gil)))?
    };
    if gil == 0 {
        return Err(Fault);
    }
    let from = gil.wrapping_add(COND);
    Ok(from..from.wrapping_add(COND_BYTES + MUTEX_BYTES))
}
