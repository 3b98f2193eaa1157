//! A process's global interpreter lock.

/// Value of the `GILS` map, keyed by tgid: the addresses that threads wait on for the GIL, a
/// condition variable and the mutex behind it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Gil {
    /// First address.
    pub from: u64,
    /// Address behind the last.
    pub to: u64,
}
const _: () = assert!(size_of::<Gil>() == 16);
