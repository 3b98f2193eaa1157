//! Exceptions of requests in flight.

use crate::errors::cause::{CapturedException, ErrorAnalysis, analyse};
use crate::event::{CapturedFrame, Exception, Pid, Request};
use std::collections::BTreeMap;

/// Exceptions kept of all requests together; a request without one counts as one. Beyond that, the
/// oldest requests lose theirs. An exception takes some kilobytes at most.
const MAX_KEPT: usize = 8192;
/// Exceptions kept of one request.
const MAX_EXCEPTIONS: usize = 16;

#[derive(Debug, Default)]
struct Seen {
    handled: Vec<Exception>,
    captures: Vec<CapturedException>,
    /// Records of the request so far.
    records: u64,
}

impl Seen {
    fn kept(&self) -> usize {
        (self.handled.len() + self.captures.len()).max(1)
    }
}

/// Exceptions by [`Request::exceptions`]. That id is a time, so the oldest request comes first.
#[derive(Debug, Default)]
pub struct Exceptions {
    seen: BTreeMap<(u64, Pid), Seen>,
    /// The sum of [`Seen::kept`].
    kept: usize,
    /// Requests whose exceptions were forgotten.
    pub forgotten: u64,
}

impl Exceptions {
    /// Code handled an exception.
    pub fn handled(&mut self, exception: &Exception) {
        // Otherwise it was caught before the request arrived.
        let is_of_request = exception.has_left || exception.depth.is_some();
        self.change(exception.request, exception.pid, |seen| {
            if is_of_request {
                Self::add(&mut seen.handled, exception);
            }
        });
    }

    fn add(handled: &mut Vec<Exception>, exception: &Exception) {
        // The same exception again, further out.
        if let Some(at) = handled
            .iter()
            .position(|seen| seen.object == exception.object && seen.class == exception.class)
        {
            let mut earlier = handled.remove(at);
            let mut exception = exception.clone();
            exception.has_left |= earlier.has_left;
            exception.was_gunicorns |= earlier.was_gunicorns;
            if exception.frames.is_empty() {
                exception.frames = std::mem::take(&mut earlier.frames);
            }
            handled.push(exception);
            return;
        }
        if handled.len() >= MAX_EXCEPTIONS {
            handled.remove(0);
        }
        handled.push(exception.clone());
    }

    /// An exception passed through a frame.
    pub fn captured_frame(&mut self, captured_frame: &CapturedFrame) {
        self.change(captured_frame.request, captured_frame.pid, |seen| {
            CapturedException::captured_frame(&mut seen.captures, captured_frame);
        });
    }

    fn change(&mut self, request: u64, pid: Pid, change: impl FnOnce(&mut Seen)) {
        let mut before = 0;
        let seen = self.seen.entry((request, pid));
        let seen = seen.and_modify(|seen| before = seen.kept()).or_default();
        seen.records += 1;
        change(seen);
        self.kept += seen.kept();
        self.kept -= before;
        while self.kept > MAX_KEPT
            && let Some((_, oldest)) = self.seen.pop_first()
        {
            self.kept -= oldest.kept();
            self.forgotten += 1;
        }
    }

    /// Whether an exception of a request was seen that left the application.
    #[must_use]
    pub fn has_left(&self, request: &Request) -> bool {
        let name = request.exceptions.map(|name| (name, request.pid));
        let seen = name.and_then(|name| self.seen.get(&name));
        seen.is_some_and(|seen| seen.handled.iter().any(|exception| exception.has_left))
    }

    /// Analyses the exceptions of a finished request. `is_covered`: a deep capture covered it.
    pub fn analysis(&mut self, request: &Request, is_covered: bool) -> ErrorAnalysis {
        let seen = request
            .exceptions
            .and_then(|name| self.seen.remove(&(name, request.pid)));
        let Some(seen) = seen else {
            let is_complete = is_covered && request.exceptions_count == 0;
            return ErrorAnalysis::without_exceptions(is_complete);
        };
        self.kept -= seen.kept();
        // Records may be lost.
        let is_complete = is_covered && seen.records == request.exceptions_count;
        analyse(&seen.handled, &seen.captures, is_complete)
    }

    /// A process exited: its requests will not finish.
    pub fn forget(&mut self, pid: Pid) {
        self.seen.retain(|(_, of), _| *of != pid);
        self.kept = self.seen.values().map(Seen::kept).sum();
    }
}

#[cfg(test)]
#[path = "pending_tests.rs"]
mod tests;
