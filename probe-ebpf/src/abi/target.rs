//! An observed process.

/// What a target is to the programs.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May become a master: observed like a worker, its forks are followed.
    Candidate = 0,
    /// Forks workers, serves nothing itself.
    Master = 1,
    /// Serves requests; its own children are not followed.
    Worker = 2,
    /// A Python program that is no Gunicorn. The programs ignore it, but its children are
    /// candidates.
    Bystander = 3,
}

impl Role {
    /// The role that a [`Target`] holds.
    #[must_use]
    pub fn from_raw(role: u32) -> Option<Self> {
        let all = [Self::Candidate, Self::Master, Self::Worker, Self::Bystander];
        all.into_iter().find(|&known| known as u32 == role)
    }
}

/// Value of the `TARGETS` map, keyed by tgid.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Target {
    /// Index into the `LAYOUTS` map; [`NO_LAYOUT`] when Python is not read.
    pub layout: u32,
    /// A [`Role`].
    pub role: u32,
    /// Offset of the thread's `PyThreadState *` from the thread pointer.
    pub tstate_slot: i64,
    /// Distinguishes this process from an earlier one of the same pid: the programs never use map
    /// entries that a dead process left.
    pub generation: u64,
}
const _: () = assert!(size_of::<Target>() == 24);

/// [`Target::layout`] of a process whose interpreter is not read.
pub const NO_LAYOUT: u32 = u32::MAX;
