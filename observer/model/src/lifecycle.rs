//! A worker's state: how far it is, why it exited, and the event that reports it.

pub mod exit_reason;
pub mod signal;
pub mod worker_event;
pub mod worker_state;
