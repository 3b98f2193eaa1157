//! A worker's state: how far it is, why it or its master exited, and the event that reports it.

pub mod exit_reason;
pub mod master_exit;
pub mod signal;
pub mod worker_event;
pub mod worker_state;
