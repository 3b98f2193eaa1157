//! Garbage collections.

use super::Header;

/// A thread of a target finished a garbage collection.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct GcRecord {
    pub header: Header,
    /// Duration of the collection.
    pub pause_ns: u64,
}
const _: () = assert!(size_of::<GcRecord>() == 24);

/// Value of the `GC_RUNS` map, keyed by tgid << 32 | tid: the collection a thread is in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct GcRun {
    /// [`super::Target::generation`] of its process.
    pub generation: u64,
    pub begun_ns: u64,
    /// Stack pointer at its start; a nested collection has a lower one.
    pub stack: u64,
}
const _: () = assert!(size_of::<GcRun>() == 24);
