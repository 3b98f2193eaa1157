//! Capabilities and system calls that the process gives up once it does not need them.
//!
//! ```text
//! start as root ── open files and addresses ── load and attach programs ── observe
//!                                           │                          │
//!                  drop all but some capabilities      refuse system calls that change things
//! ```
//!
//! The observer attaches probes to interpreters that start later, and reads the memory of processes
//! as long as it runs: that needs some capabilities. A seccomp filter limits them to reading.
//! docs/SECURITY.md has both lists.

mod calls;
mod capabilities;

pub use calls::refuse_changes;
pub use capabilities::{ADMIN, COVERED, INSTEAD, NEEDED, keep_needed};
