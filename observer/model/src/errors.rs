//! What failed a request: an exception, or the exit of its worker.

pub mod cause;
pub mod cut_short;
pub mod deep_capture;
pub mod fatal_exit;
pub mod held;
pub mod pending;
