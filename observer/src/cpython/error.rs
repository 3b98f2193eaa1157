//! Why an interpreter cannot be read.

use nix::errno::Errno;
use observer_model::Untrusted;
use std::io;
use thiserror::Error;

use crate::process::memory::ProcessMemory;

/// Characters that are shown of a reason.
pub const REASON_CHARS: usize = 1000;

/// Why an interpreter cannot be read.
#[derive(Debug, Error)]
pub enum InspectError {
    #[error("it does not run Python")]
    NotPython,
    /// Try again a moment later.
    #[error("{0}")]
    NotReady(&'static str),
    #[error("{}", reason.for_terminal(REASON_CHARS))]
    Unsupported {
        /// As far as known: such as `3.12.1`, `3.9`, or empty.
        version: String,
        reason: Untrusted,
    },
    #[error("the process has exited")]
    Gone,
    #[error("{}: {source}", doing.for_terminal(REASON_CHARS))]
    Io { doing: Untrusted, source: io::Error },
}

impl InspectError {
    pub(crate) fn unsupported(version: &str, reason: impl Into<Untrusted>) -> Self {
        Self::Unsupported {
            version: version.to_owned(),
            reason: reason.into(),
        }
    }

    /// An error of the file system; that of a process that exited is [`Self::Gone`].
    pub(crate) fn io(doing: impl Into<Untrusted>, source: io::Error) -> Self {
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ESRCH) => Self::Gone,
            _ => Self::Io {
                doing: doing.into(),
                source,
            },
        }
    }

    /// A failed read of memory: the process exited, must not be read, or changed what was read.
    pub(crate) fn fault(memory: &ProcessMemory, pid: u32, what: &'static str) -> Self {
        match memory.denial() {
            Some(Errno::ESRCH) => Self::Gone,
            Some(errno) => Self::Io {
                doing: format!("reading the memory of process {pid}").into(),
                source: errno.into(),
            },
            None => Self::NotReady(what),
        }
    }

    /// Its text as it is.
    #[must_use]
    pub fn reason(&self) -> Untrusted {
        match self {
            Self::Unsupported { reason, .. } => reason.clone(),
            Self::Io { doing, source } => format!("{}: {source}", doing.raw()).into(),
            other => other.to_string().into(),
        }
    }
}
