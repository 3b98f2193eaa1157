//! How the observer follows the sockets of workers: one backend for newer kernels, one for older ones.

use std::fs;

use anyhow::{Context as _, Result};

/// A backend, or the observer's own choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// As it chooses by itself.
    Own,
    /// Tracepoints of sockets.
    Taps,
    /// Tracepoints of system calls.
    Syscalls,
}

/// The types of the kernel, and the one that a kernel with the first backend has.
const TYPES: &str = "/sys/kernel/btf/vmlinux";
const TAP: &[u8] = b"btf_trace_sock_recv_length";

impl Backend {
    /// The observer's arguments.
    #[must_use]
    pub fn arguments(self) -> Vec<String> {
        let name = match self {
            Self::Own => return Vec::new(),
            Self::Taps => "full",
            Self::Syscalls => "system-calls",
        };
        vec![format!("--probes={name}")]
    }
}

/// Whether this kernel has tracepoints of sockets.
pub fn has_taps() -> Result<bool> {
    let types = fs::read(TYPES).with_context(|| format!("cannot read {TYPES}"))?;
    Ok(types.windows(TAP.len()).any(|name| name == TAP))
}
