//! Processes, masters and workers.
//!
//! - [`cmdline`]: whether a command line looks like Python or Gunicorn: a hint, no more
//! - [`procfs`]: what `/proc` says about processes; its root is a parameter
//! - [`fds`]: what a process has open
//! - [`container`]: the container of a process
//! - [`tree`]: masters with their workers; [`found`]: what it gives
//! - [`gauges`]: what workers use and how far they are
//! - [`listeners`]: sockets that masters listen on, as the kernel tells by [`sock_diag`]

pub mod cmdline;
pub mod container;
pub mod fds;
pub mod found;
pub mod gauges;
pub mod listeners;
pub mod pod;
pub mod procfs;
pub mod sock_diag;
pub mod tree;
