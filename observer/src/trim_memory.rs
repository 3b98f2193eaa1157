//! Memory that was needed once.

/// Gives back to the kernel what the allocator keeps of it. The kernel's type information and the
/// programs, which are read at the start, take more than anything after that; glibc keeps up to twice
/// the largest piece that it ever got back (`mallopt(3)`, `M_MMAP_THRESHOLD`).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it frees nothing that is in use, and may be called at any time.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}
