//! What the kernel and the host offer; loading and attaching the programs.

pub mod attach;
pub mod btf;
pub mod features;
pub mod gil;
pub mod in_flight;
pub mod interpreters;
pub mod kernel;
pub mod links;
pub mod load;
#[cfg(feature = "probe-log")]
pub mod log;
pub mod plain_calls;
pub mod preflight;
pub mod programs;
pub mod tables;
pub mod totals;
pub mod tracefs;
