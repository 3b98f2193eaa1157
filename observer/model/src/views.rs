//! What outputs read of the state.

pub mod live_view;
pub mod metrics_view;
pub mod running_master;
