//! The rows of the table of families.

pub mod app;
pub mod master;
pub mod master_gauges;
pub mod observer;
pub mod process;
pub mod worker_counts;
pub mod worker_gauges;
