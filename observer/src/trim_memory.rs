//! Returns memory that only start-up needed.

/// Returns the allocator's free memory to the kernel. Start-up reads the kernel's type information
/// and the eBPF programs, which take more memory than anything after; glibc keeps up to twice the
/// largest block that was ever freed (`mallopt(3)`, `M_MMAP_THRESHOLD`).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it frees nothing that is in use, and may be called at any time.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}
