//! What the kernel and the host offer; loading and attaching the eBPF programs.

mod absent;
mod attach;
mod attachments;
mod bpf_maps;
mod btf;
pub mod detach;
pub mod features;
mod generic_io;
pub mod gil;
pub mod in_flight;
mod interpreters;
pub mod kernel;
pub mod load;
#[cfg(feature = "probe-log")]
mod log;
pub mod preflight;
pub mod program_stats;
pub mod programs;
pub mod tracefs;

pub use programs::Programs;
