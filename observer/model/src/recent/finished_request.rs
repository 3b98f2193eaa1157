//! A finished request with all that is known of it, for outputs that show each one.

use crate::counters::worker_counters::{Outcome, duration_ns, phases};
use crate::errors::cause::{Cause, ErrorAnalysis, Failure};
use crate::event::{Pid, Request};
use crate::wall_clock::wall_seconds;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// A request, whose it is, and why it failed if it did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FinishedRequest {
    /// Unix time it ended.
    pub time_seconds: f64,
    /// Empty while its worker's master is not known.
    pub app: String,
    pub master_pid: Option<Pid>,
    /// Empty when unknown.
    pub worker_class: String,
    /// The route its path is of, as metrics have it; empty when the path is unknown.
    pub route: String,
    #[serde(flatten)]
    pub request: Request,
    pub duration_ns: Option<u64>,
    /// Nanoseconds of each phase that was seen.
    pub phases_ns: BTreeMap<&'static str, u64>,
    /// An exception left the application.
    pub failed: bool,
    /// Why it failed: only of what failed.
    #[serde(flatten, serialize_with = "cause")]
    pub cause: Option<Cause>,
}

impl FinishedRequest {
    /// What is known without knowing whose it is. `wall_offset_ns` is the wall clock minus the
    /// monotonic one.
    #[must_use]
    pub fn new(
        request: &Request,
        analysis: ErrorAnalysis,
        outcome: &Outcome,
        wall_offset_ns: i64,
    ) -> Self {
        let is_error = matches!(request.status, Some(500..))
            || request.error_handled
            || outcome.failed.is_some();
        Self {
            time_seconds: wall_seconds(request.finished_ns, wall_offset_ns),
            app: String::new(),
            master_pid: None,
            worker_class: String::new(),
            route: String::new(),
            request: Request {
                client_gone: request.client_gone || analysis.client_gone,
                ..request.clone()
            },
            duration_ns: duration_ns(request),
            phases_ns: phases(request)
                .map(|(phase, ns)| (phase.as_str(), ns))
                .collect(),
            failed: outcome.failed.is_some(),
            cause: is_error.then_some(analysis.cause),
        }
    }

    /// The exception that failed it.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match &self.cause {
            Some(Cause::Raised(failure)) => Some(failure),
            _ => None,
        }
    }
}

/// As JSON: what is known, and the exception if that is one.
fn cause<S: Serializer>(cause: &Option<Cause>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown<'a> {
        cause_is: Option<&'static str>,
        cause: Option<&'a Failure>,
    }
    let (cause_is, cause) = match cause {
        None => (None, None),
        Some(Cause::Unknown) => (Some("unknown"), None),
        Some(Cause::None) => (Some("none"), None),
        Some(Cause::Raised(failure)) => (Some("raised"), Some(&**failure)),
    };
    Shown { cause_is, cause }.serialize(serializer)
}

#[cfg(test)]
#[path = "finished_request_tests.rs"]
mod tests;
