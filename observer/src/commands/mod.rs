//! The commands that are more than starting the daemon.

pub mod replay;
