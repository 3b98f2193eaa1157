//! The limit of locked memory.

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

/// Removes this process's limit of locked memory.
///
/// # Errors
/// When this process may not.
pub(super) fn raise() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
}
