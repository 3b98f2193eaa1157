//! A signal to a target.

use super::Header;

/// A process or the kernel sent a signal to a target.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SignalRecord {
    /// `tgid` is the process that gets the signal.
    pub header: Header,
    /// Process that sent it; 0 for the kernel.
    pub sender: u32,
    /// Its number, and [`SENT_BY_THREAD`].
    pub signal: u32,
}
const _: () = assert!(size_of::<SignalRecord>() == 24);

/// Set in [`SignalRecord::signal`] if another thread of the sender than its main thread sent it.
pub const SENT_BY_THREAD: u32 = 1 << 31;

/// Set of the signals that are reported: those that end or steer a Gunicorn. Job control and timers
/// are left out, and `SIGCHLD`, which a master gets from the kernel for each worker that exits.
pub const REPORTED_SIGNALS: u32 = {
    // HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 TERM TTIN TTOU XCPU WINCH SYS
    let reported = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 21, 22, 24, 28, 31,
    ];
    let mut set = 0;
    let mut at = 0;
    while at < reported.len() {
        set |= 1 << reported[at];
        at += 1;
    }
    set
};
