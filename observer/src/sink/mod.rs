//! The outputs: each reads the snapshot, none knows the state behind it.
//!
//! - [`family`]: metric families without double series; [`prometheus`]: which there
//!   are; [`openmetrics`]: their other text format
//! - [`http`]: what is served

mod families;
mod families_observer;
pub mod family;
pub mod http;
pub mod openmetrics;
pub mod prometheus;
