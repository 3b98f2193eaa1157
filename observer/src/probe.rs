//! What the kernel and the host offer; loading and attaching the programs.

pub mod attach;
pub mod bpf_maps;
pub mod btf;
pub mod detach;
pub mod features;
pub mod generic_io;
pub mod gil;
pub mod in_flight;
pub mod interpreters;
pub mod kernel;
pub mod load;
#[cfg(feature = "probe-log")]
pub mod log;
pub mod preflight;
pub mod program_stats;
pub mod programs;
pub mod tracefs;
