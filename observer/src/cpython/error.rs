//! Why an interpreter is not known.

use nix::errno::Errno;
use std::io;
use thiserror::Error;

use crate::process::memory::ProcessMemory;

/// Why a process's interpreter is not known.
#[derive(Debug, Error)]
pub enum InspectError {
    #[error("it does not run Python")]
    NotPython,
    /// Worth another try a moment later.
    #[error("{0}")]
    NotReady(&'static str),
    #[error("{reason}")]
    Unsupported {
        /// As far as it is known: such as `3.12.1`, `3.9`, or nothing.
        version: String,
        reason: String,
    },
    #[error("the process has gone")]
    Gone,
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
}

impl InspectError {
    pub(crate) fn unsupported(version: &str, reason: String) -> Self {
        Self::Unsupported {
            version: version.to_owned(),
            reason,
        }
    }

    /// An error of the file system; that of a process that went is [`Self::Gone`].
    pub(crate) fn io(doing: String, source: io::Error) -> Self {
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ESRCH) => Self::Gone,
            _ => Self::Io { doing, source },
        }
    }

    /// What a failed read of memory means: the process went, may not be read,
    /// or changed what was being read.
    pub(crate) fn fault(memory: &ProcessMemory, pid: u32, what: &'static str) -> Self {
        match memory.denial() {
            Some(Errno::ESRCH) => Self::Gone,
            Some(errno) => Self::Io {
                doing: format!("reading the memory of process {pid}"),
                source: errno.into(),
            },
            None => Self::NotReady(what),
        }
    }
}
