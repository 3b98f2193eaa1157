//! Exceptions of requests that are not finished yet.

use super::cause::{Rise, Verdict, weigh};
use crate::event::{Exception, Pid, Request, Unwound};
use std::collections::BTreeMap;

/// Requests whose exceptions are kept; of more, the oldest are forgotten.
const MAX_REQUESTS: usize = 8192;
/// Exceptions kept of one request.
const MAX_EXCEPTIONS: usize = 64;

#[derive(Debug, Default)]
struct Seen {
    handled: Vec<Exception>,
    rises: Vec<Rise>,
}

/// What requests name by [`Request::exceptions`], a time: the oldest come first.
#[derive(Debug, Default)]
pub struct Exceptions {
    seen: BTreeMap<(u64, Pid), Seen>,
    /// Requests whose exceptions were forgotten.
    pub forgotten: u64,
}

impl Exceptions {
    /// An exception was handled.
    pub fn handled(&mut self, exception: &Exception) {
        let handled = &mut self.of(exception.request, exception.pid).handled;
        // The same one again, further out.
        if let Some(at) = handled
            .iter()
            .position(|seen| seen.object == exception.object)
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

    /// One went up out of a frame.
    pub fn unwound(&mut self, unwound: &Unwound) {
        Rise::step(&mut self.of(unwound.request, unwound.pid).rises, unwound);
    }

    fn of(&mut self, request: u64, pid: Pid) -> &mut Seen {
        let key = (request, pid);
        if self.seen.len() >= MAX_REQUESTS && !self.seen.contains_key(&key) {
            self.seen.pop_first();
            self.forgotten += 1;
        }
        self.seen.entry(key).or_default()
    }

    /// What they say about a request that has finished.
    pub fn verdict(&mut self, request: &Request, was_watched: bool) -> Verdict {
        let seen = request
            .exceptions
            .and_then(|name| self.seen.remove(&(name, request.pid)));
        // It had some that were lost.
        let was_watched = was_watched && (seen.is_some() || request.exceptions.is_none());
        let Seen { handled, rises } = seen.unwrap_or_default();
        weigh(&handled, &rises, was_watched)
    }

    /// A process ended: nothing of it will finish.
    pub fn forget(&mut self, pid: Pid) {
        self.seen.retain(|(_, of), _| *of != pid);
    }
}

#[cfg(test)]
#[path = "exceptions_tests.rs"]
mod tests;
