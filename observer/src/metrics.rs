//! Metrics: the families, and the text formats they are served in.
//!
//! - [`exposition`]: all families of a snapshot as text; [`openmetrics`]: the other format
//! - [`family`]: families without double series; `names`: their common labels

pub mod exposition;
mod families;
mod families_master;
mod families_now;
mod families_observer;
pub mod family;
mod names;
pub mod openmetrics;

#[cfg(test)]
mod random_tests;
