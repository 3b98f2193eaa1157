//! A finished request with its worker and its cause, for outputs that show each request.

use crate::counters::worker_counters::{Outcome, Phase, duration_ns, phases};
use crate::errors::cause::{Cause, ErrorAnalysis, Failure};
use crate::event::{Pid, Request};
use crate::untrusted::Untrusted;
use crate::wall_clock::wall_seconds;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// A finished request, its app and worker, and the cause if it failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FinishedRequest {
    /// Unix time at which it finished.
    pub time_seconds: f64,
    /// Empty while its worker's master is unknown.
    pub app: Untrusted,
    pub master_pid: Option<Pid>,
    /// Empty when unknown.
    pub worker_class: Untrusted,
    /// As in metrics; empty when the path is unknown.
    pub route: Untrusted,
    #[serde(flatten)]
    pub request: Request,
    pub duration_ns: Option<u64>,
    /// Duration of each phase that was seen.
    pub phases_ns: BTreeMap<&'static str, u64>,
    /// An exception left the application.
    pub failed: bool,
    /// Only for a request that failed.
    #[serde(flatten, serialize_with = "cause")]
    pub cause: Option<Cause>,
}

impl FinishedRequest {
    /// A request whose app is not known. `wall_offset_ns` is the wall clock minus the monotonic one.
    #[must_use]
    pub fn new(
        request: &Request,
        analysis: ErrorAnalysis,
        outcome: &Outcome,
        wall_offset_ns: i64,
    ) -> Self {
        let is_error = matches!(request.status, Some(500..))
            || request.error_handled
            || request.worker_exited
            || outcome.failed.is_some();
        Self {
            time_seconds: wall_seconds(request.finished_ns, wall_offset_ns),
            app: Untrusted::default(),
            master_pid: None,
            worker_class: Untrusted::default(),
            route: Untrusted::default(),
            request: Request {
                client_gone: request.client_gone || analysis.client_gone,
                ..request.clone()
            },
            duration_ns: duration_ns(request),
            phases_ns: Phase::ALL
                .into_iter()
                .zip(phases(request))
                .filter_map(|(phase, ns)| Some((phase.as_str(), ns?)))
                .collect(),
            failed: outcome.failed.is_some(),
            cause: is_error.then_some(analysis.cause),
        }
    }

    /// The exception that made it fail.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match &self.cause {
            Some(Cause::Raised(failure)) => Some(failure),
            _ => None,
        }
    }
}

/// The fields `cause_is` and `cause` of the JSON.
fn cause<S: Serializer>(cause: &Option<Cause>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Fields<'a> {
        cause_is: Option<&'static str>,
        cause: Option<&'a Failure>,
    }
    let (cause_is, cause) = match cause {
        None => (None, None),
        Some(Cause::Unknown) => (Some("unknown"), None),
        Some(Cause::None) => (Some("none"), None),
        Some(Cause::WorkerExited(exit)) => (Some(exit.as_str()), None),
        Some(Cause::Raised(failure)) => (Some("raised"), Some(&**failure)),
    };
    Fields { cause_is, cause }.serialize(serializer)
}

#[cfg(test)]
#[path = "finished_request_tests.rs"]
mod tests;
