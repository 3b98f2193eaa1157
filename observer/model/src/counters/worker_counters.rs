//! Counters of requests, for a worker, a slot or a worker class.

use crate::counters::app_counters::Method;
use crate::counters::histogram::{BODY_SIZE, GC_PAUSE, Histogram, WORKER_DURATION};
use crate::counters::label_limits::ErrorType;
use crate::counters::streams::StreamCounts;
use crate::event::{Request, StreamKind};
use crate::lifecycle::exit_reason::{ExitKind, ExitReason};
use crate::routes::table::RouteId;
use crate::routes::tree::Moved;
use serde::Serialize;
use std::collections::BTreeMap;

/// Series of errors of one [`Counters`].
const MAX_ERRORS: usize = 1000;

/// Identifies a series of errors of a worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorKey {
    pub method: Method,
    pub route: RouteId,
    pub error: ErrorType,
}

/// Counts of errors, by series.
pub type Errors = BTreeMap<ErrorKey, u64>;

/// The outcome of a request, as it is counted.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub method: Method,
    pub route: RouteId,
    /// The response was a 5xx, or there was none while the client was still connected.
    pub is_error: bool,
    /// An exception left the application.
    pub failed: Option<ErrorKey>,
    /// Gunicorn's `handle_error` ran.
    pub handled: Option<ErrorKey>,
}

/// Counters of the families `gunicorn_worker_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Requests that Gunicorn parsed; those it refused are not counted.
    pub requests: u64,
    /// See [`Outcome::is_error`].
    pub errors: u64,
    pub duration: Histogram,
    pub request_size: Histogram,
    pub response_size: Histogram,
    /// Garbage-collection pauses.
    pub gc_pause: Histogram,
    /// Time that threads waited for the GIL; `None` if it is not measured.
    pub gil_wait_ns: Option<u64>,
    /// Requests whose WSGI application raised an exception, by ids of the app's counters.
    pub failed: Errors,
    /// Requests for which Gunicorn's `handle_error` ran, including refused ones.
    pub handled: Errors,
    /// Streams that ended, by kind.
    pub streams: BTreeMap<StreamKind, StreamCounts>,
    /// Time with at least one request in flight.
    pub busy_ns: u64,
    /// User and system time; `None` until a worker's usage was read.
    pub cpu_ns: Option<u64>,
    /// Exits of workers.
    pub ends: BTreeMap<(ExitKind, ExitReason), u64>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            requests: 0,
            errors: 0,
            duration: Histogram::new(&WORKER_DURATION),
            request_size: Histogram::new(&BODY_SIZE),
            response_size: Histogram::new(&BODY_SIZE),
            gc_pause: Histogram::new(&GC_PAUSE),
            gil_wait_ns: None,
            failed: Errors::new(),
            handled: Errors::new(),
            streams: BTreeMap::new(),
            busy_ns: 0,
            cpu_ns: None,
            ends: BTreeMap::new(),
        }
    }
}

/// Adds to a series of errors, or to the series `other` if there are too many.
pub fn add(errors: &mut Errors, mut key: ErrorKey, count: u64) {
    if errors.len() >= MAX_ERRORS && !errors.contains_key(&key) {
        key.error = ErrorType::Other;
        key.route = RouteId::OTHER;
    }
    *errors.entry(key).or_default() += count;
}

impl Counters {
    /// Counts a request. One that Gunicorn refused counts as an error only.
    pub fn request(&mut self, request: &Request, outcome: &Outcome) {
        for (errors, key) in [
            (&mut self.failed, &outcome.failed),
            (&mut self.handled, &outcome.handled),
        ] {
            if let Some(key) = key {
                add(errors, key.clone(), 1);
            }
        }
        if request.bad_request {
            return;
        }
        self.requests += 1;
        if let Some(kind) = request.stream {
            self.streams.entry(kind).or_default().add(request);
        }
        self.errors += u64::from(outcome.is_error);
        let observe = |histogram: &mut Histogram, value: Option<u64>| {
            if let Some(value) = value {
                histogram.observe(value);
            }
        };
        observe(&mut self.duration, duration_ns(request));
        observe(&mut self.request_size, request.request_body_bytes);
        observe(&mut self.response_size, request.response_body_bytes);
    }

    /// Adds the errors of routes that became others to those of these.
    pub fn follow(&mut self, moved: &Moved) {
        for errors in [&mut self.failed, &mut self.handled] {
            if errors.keys().any(|key| moved.to(key.route) != key.route) {
                for (mut key, count) in std::mem::take(errors) {
                    key.route = moved.to(key.route);
                    add(errors, key, count);
                }
            }
        }
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.busy_ns += other.busy_ns;
        for (&kind, &counts) in &other.streams {
            self.streams.entry(kind).or_default().merge(counts);
        }
        for (&end, count) in &other.ends {
            *self.ends.entry(end).or_default() += count;
        }
        self.duration.merge(&other.duration);
        self.request_size.merge(&other.request_size);
        self.response_size.merge(&other.response_size);
        self.gc_pause.merge(&other.gc_pause);
        for (mine, theirs) in [
            (&mut self.cpu_ns, other.cpu_ns),
            (&mut self.gil_wait_ns, other.gil_wait_ns),
        ] {
            if let Some(theirs) = theirs {
                *mine.get_or_insert(0) += theirs;
            }
        }
        for (mine, theirs) in [
            (&mut self.failed, &other.failed),
            (&mut self.handled, &other.handled),
        ] {
            for (key, count) in theirs {
                add(mine, key.clone(), *count);
            }
        }
    }
}

/// Duration of a request: the time in Gunicorn's `handle_request`. Where that was not seen, as for a
/// refused request or at level `socket`, the time from the first byte of the request to the last
/// byte of the response. That of a stream ends with the first byte of the response.
#[must_use]
pub fn duration_ns(request: &Request) -> Option<u64> {
    let (begin, end) = busy_time(request)?;
    end.checked_sub(begin)
}

/// Begin and end of a request's duration.
#[must_use]
pub fn busy_time(request: &Request) -> Option<(u64, u64)> {
    let begin = request.entered_ns.or(request.first_read_ns)?;
    let end = match request.stream {
        Some(_) => request.first_write_ns,
        None => request.exited_ns.or(request.last_write_ns),
    };
    Some((begin, end?))
}

/// A phase of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Connection established until accepted, or until read or entered where that is not seen.
    Queue,
    /// Accepted until a thread or greenlet read it.
    Dispatch,
    /// First read until the application was entered.
    Read,
    /// Application entered until the first byte of the response, or its end where no byte is seen.
    App,
    /// First until last byte of the response.
    Write,
}

impl Phase {
    /// In the order of time.
    pub const ALL: [Self; 5] = [
        Self::Queue,
        Self::Dispatch,
        Self::Read,
        Self::App,
        Self::Write,
    ];

    /// The value of the label `phase`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Dispatch => "dispatch",
            Self::Read => "read",
            Self::App => "app",
            Self::Write => "write",
        }
    }
}

/// The duration of each phase of a request, in the order of [`Phase::ALL`]; `None` if it was not seen.
#[must_use]
pub fn phases(request: &Request) -> [Option<u64>; Phase::ALL.len()] {
    let (established_ns, entered_ns) = (request.established_ns, request.entered_ns);
    let picked_ns = request.first_read_ns.or(entered_ns);
    let is_placed = request.no_connection || established_ns.is_some() || request.ordinal > 0;
    let is_blind = is_placed && request.accepted_ns.is_none() && request.first_read_ns.is_none();
    let left_ns = request
        .exited_ns
        .filter(|_| is_blind && request.status.is_some());
    // Where the accept is not seen, two phases are one; and so where no write is seen.
    [
        (established_ns, request.accepted_ns.or(picked_ns)),
        (request.accepted_ns, request.first_read_ns),
        (request.first_read_ns, entered_ns),
        (entered_ns, request.first_write_ns.or(left_ns)),
        (request.first_write_ns, request.last_write_ns),
    ]
    .map(|(begin, end)| end?.checked_sub(begin?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_was_not_seen_is_left_out() {
        let request = Request {
            accepted_ns: Some(10),
            first_read_ns: Some(30),
            // Out of order: never a negative time.
            entered_ns: Some(25),
            first_write_ns: Some(60),
            ..Request::default()
        };
        assert_eq!(phases(&request), [None, Some(20), None, Some(35), None]);
    }

    #[test]
    fn phases_are_one_where_accept_and_write_are_not_seen() {
        let request = Request {
            established_ns: Some(5),
            first_read_ns: Some(30),
            entered_ns: Some(40),
            exited_ns: Some(60),
            status: Some(200),
            ..Request::default()
        };
        let seen = [Some(25), None, Some(10), None, None];
        assert_eq!(phases(&request), seen);
        let request = Request {
            first_read_ns: None,
            ..request
        };
        let seen = [Some(35), None, None, Some(20), None];
        assert_eq!(phases(&request), seen);
    }

    #[test]
    fn a_duration_is_the_time_in_handle_request_where_that_was_seen() {
        let mut request = Request {
            first_read_ns: Some(10),
            last_write_ns: Some(100),
            entered_ns: Some(20),
            exited_ns: Some(80),
            ..Request::default()
        };
        assert_eq!(duration_ns(&request), Some(60));
        (request.entered_ns, request.exited_ns) = (None, None);
        assert_eq!(duration_ns(&request), Some(90));
        request.last_write_ns = None;
        assert_eq!(duration_ns(&request), None);
    }

    #[test]
    fn a_refused_request_is_not_counted() {
        let mut counters = Counters::default();
        let request = Request {
            bad_request: true,
            ..Request::default()
        };
        let outcome = Outcome {
            method: Method::default(),
            is_error: false,
            route: RouteId::UNKNOWN,
            failed: None,
            handled: None,
        };
        counters.request(&request, &outcome);
        assert_eq!(counters, Counters::default());
    }
}
