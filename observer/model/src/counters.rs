//! Counters and histograms of an app and of its workers.

pub mod app_counters;
pub mod histogram;
pub mod http_series;
pub mod label_limits;
pub mod streams;
pub mod unanswered;
pub mod worker_counters;
