//! What ended a request before it was done.

use super::fatal_exit::FatalExit;

/// What ended a request before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CutShort {
    /// The exit of its worker.
    Exit(FatalExit),
    /// Its response broke off after its head.
    Response,
}

impl CutShort {
    /// The value of the label `error_type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exit(exit) => exit.as_str(),
            Self::Response => "response_incomplete",
        }
    }
}
