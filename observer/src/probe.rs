//! What the kernel and the host offer; loading and attaching the eBPF programs.

mod absent;
mod attach;
mod bpf_calls;
mod bpf_maps;
mod btf;
mod code;
mod control_group;
pub mod detach;
mod doing;
pub mod features;
pub mod gil;
pub mod in_flight;
mod interpreters;
pub mod kernel;
mod late;
pub mod load;
mod locked_memory;
#[cfg(feature = "probe-log")]
mod log;
mod on_demand;
mod places;
pub mod preflight;
pub mod program_info;
pub mod program_stats;
pub mod programs;
mod status;
pub mod tracefs;
mod uprobe_multi;

pub use programs::Programs;
