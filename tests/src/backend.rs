//! How the observer follows the sockets of workers: one backend for newer kernels, one for older ones.

use std::path::Path;

use anyhow::Result;

use crate::observer;

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

/// A kernel that has the first backend has this.
const TAP: &str = "/sys/kernel/tracing/events/sock/sock_recv_length";

impl Backend {
    /// Every backend that this kernel and the observer have.
    pub fn all() -> Result<Vec<Self>> {
        if !Self::Syscalls.is_known()? {
            return Ok(vec![Self::Own]);
        }
        let taps = Path::new(TAP).exists().then_some(Self::Taps);
        Ok(taps.into_iter().chain([Self::Syscalls]).collect())
    }

    /// The observer's arguments.
    #[must_use]
    pub fn arguments(self) -> Vec<String> {
        let name = match self {
            Self::Own => return Vec::new(),
            Self::Taps => "taps",
            Self::Syscalls => "syscalls",
        };
        vec![format!("--backend={name}")]
    }

    /// Whether the observer lets one choose.
    fn is_known(self) -> Result<bool> {
        let arguments = [
            vec!["run".to_owned()],
            self.arguments(),
            vec!["--help".to_owned()],
        ];
        Ok(observer::output(arguments.concat())?.status.success())
    }
}
