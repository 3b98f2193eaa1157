//! What the process gives up once it does not need it any more.
//!
//! ```text
//! start as root ── files and addresses opened ── programs loaded and attached ── observing
//!                                            │                               │
//!                          capabilities but five go ┘      calls that change things go ┘
//! ```
//!
//! Probes are attached to interpreters as long as new ones come, and processes are looked into as
//! long as there are any: that takes five capabilities to the end. What goes with them is limited to
//! reading by a filter of system calls. docs/SECURITY.md has both lists.

mod calls;
mod capabilities;

pub use calls::refuse_changes;
pub use capabilities::{COVERED, NEEDED, keep_needed};
