//! Failed requests that wait for the exception behind them.
//!
//! A server on an event loop completes its response before it logs the exception that it answered: the
//! record of the request comes first.

use crate::event::{Exception, Pid, Request, TimedBy};

/// How long a request waits after its record.
const WAIT_NS: u64 = 1_000_000_000;
/// Most requests that wait; beyond that, the oldest waits no longer.
const MOST: usize = 4096;

/// The requests that wait, the oldest first.
#[derive(Debug, Default)]
pub struct Held {
    requests: Vec<Request>,
}

impl Held {
    /// Whether the exception of a request may come after it.
    #[must_use]
    pub fn is_meant(request: &Request) -> bool {
        let has_failed = matches!(request.status, Some(500..));
        request.timed_by == TimedBy::Task && has_failed && !request.worker_exited
    }

    /// Lets a request wait; returns one that waits no longer.
    pub fn hold(&mut self, request: &Request) -> Option<Request> {
        self.requests.push(request.clone());
        (self.requests.len() > MOST).then(|| self.requests.remove(0))
    }

    /// The request that this exception was waited for.
    pub fn of(&mut self, exception: &Exception) -> Option<Request> {
        let is_its = |request: &Request| {
            request.pid == exception.pid && request.exceptions == Some(exception.request)
        };
        if !exception.has_left {
            return None;
        }
        let at = self.requests.iter().position(is_its)?;
        Some(self.requests.remove(at))
    }

    /// Those that waited long enough.
    pub fn due(&mut self, now_ns: u64) -> Vec<Request> {
        let is_due = |request: &mut Request| request.finished_ns.saturating_add(WAIT_NS) <= now_ns;
        self.requests.extract_if(.., is_due).collect()
    }

    /// Those of a process, whose exceptions come no more.
    pub fn of_process(&mut self, pid: Pid) -> Vec<Request> {
        let is_its = |request: &mut Request| request.pid == pid;
        self.requests.extract_if(.., is_its).collect()
    }

    /// All of them.
    pub fn take(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(pid: Pid, entered_ns: u64) -> Request {
        Request {
            pid,
            timed_by: TimedBy::Task,
            status: Some(500),
            finished_ns: entered_ns + 10,
            exceptions: Some(entered_ns),
            ..Request::default()
        }
    }

    fn exception(pid: Pid, request: u64, has_left: bool) -> Exception {
        Exception {
            time_ns: request + 20,
            pid,
            request,
            object: 1,
            came_from: None,
            root: None,
            has_left,
            was_gunicorns: false,
            depth: Some(0),
            class: crate::event::Class::default(),
            frames: Vec::new(),
            frames_cut: 0,
            root_class: None,
            root_frame: None,
        }
    }

    #[test]
    fn a_request_waits_for_its_own_exception_or_a_second() {
        let mut held = Held::default();
        for request in [failed(7, 100), failed(7, 200), failed(8, 100)] {
            assert_eq!(held.hold(&request), None);
        }
        assert_eq!(held.of(&exception(7, 200, false)), None);
        assert_eq!(held.of(&exception(9, 200, true)), None);
        assert_eq!(held.of(&exception(7, 200, true)), Some(failed(7, 200)));
        assert_eq!(held.of(&exception(7, 200, true)), None);
        assert!(held.due(109 + WAIT_NS).is_empty());
        assert_eq!(held.of_process(8), [failed(8, 100)]);
        assert_eq!(held.due(110 + WAIT_NS), [failed(7, 100)]);
        assert!(held.take().is_empty());
    }

    #[test]
    fn only_failed_requests_of_tasks_wait() {
        let of = |change: fn(&mut Request)| {
            let mut request = failed(7, 100);
            change(&mut request);
            Held::is_meant(&request)
        };
        assert!(of(|_| {}));
        assert!(!of(|it| it.status = Some(499)));
        assert!(!of(|it| it.status = None));
        assert!(!of(|it| it.timed_by = TimedBy::Python));
        assert!(!of(|it| it.worker_exited = true));
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut held = Held::default();
        let most = u64::try_from(MOST).unwrap();
        for at in 0..most {
            assert_eq!(held.hold(&failed(7, at)), None);
        }
        assert_eq!(held.hold(&failed(7, most)), Some(failed(7, 0)));
    }
}
