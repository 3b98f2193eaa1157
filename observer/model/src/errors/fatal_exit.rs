//! The exit of a worker as the error of the requests that it ended.

/// Why a worker exited, as far as its requests are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FatalExit {
    Timeout,
    Oom,
    Crash,
    /// For any other reason.
    Other,
}

impl FatalExit {
    /// The value of the label `error_type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "worker_timeout",
            Self::Oom => "worker_oom",
            Self::Crash => "worker_crash",
            Self::Other => "worker_exit",
        }
    }
}
