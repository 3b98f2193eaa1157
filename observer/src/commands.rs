//! The commands that are more than starting the daemon.

pub mod doctor;
pub mod list;
pub mod replay;
