//! Processes, masters and workers.
//!
//! - [`cmdline`]: whether a command line looks like Python or Gunicorn: a hint, no more
//! - [`procfs`]: what `/proc` says about processes; its root is a parameter
//! - [`tree`]: masters with their workers

pub mod cmdline;
pub mod procfs;
pub mod tree;
