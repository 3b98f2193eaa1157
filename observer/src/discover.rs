//! Processes, masters and workers.
//!
//! - [`cmdline`]: whether a command line looks like Python or Gunicorn: a hint, no more
//! - [`procfs`]: what `/proc` says about processes; its root is a parameter
//! - [`container`]: the container of a process
//! - [`tree`]: masters with their workers; [`found`]: what it gives

pub mod cmdline;
pub mod container;
pub mod found;
pub mod procfs;
pub mod tree;
