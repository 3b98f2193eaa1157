//! Which exception failed a request.

pub mod cause;
pub mod deep_capture;
pub mod pending;
