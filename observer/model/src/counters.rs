//! Counters and histograms: of an app, and of one worker.

pub mod app_counters;
pub mod histogram;
pub mod label_limits;
pub mod worker_counters;
