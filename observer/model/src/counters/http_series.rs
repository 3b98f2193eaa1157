//! What requests of one route, method, status and class share.

use crate::counters::histogram::{BODY_SIZE, HTTP_DURATION, Histogram};
use crate::event::Request;

/// Durations and sizes of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSeries {
    pub duration: Histogram,
    /// Sizes of request bodies; `None` while no request had one.
    pub request_size: Option<Box<Histogram>>,
    /// Sizes of response bodies; `None` while none was seen.
    pub response_size: Option<Box<Histogram>>,
}

impl Default for HttpSeries {
    fn default() -> Self {
        Self {
            duration: Histogram::new(&HTTP_DURATION),
            request_size: None,
            response_size: None,
        }
    }
}

impl HttpSeries {
    /// Counts a request that took so many nanoseconds.
    pub fn observe(&mut self, ns: u64, request: &Request) {
        self.duration.observe(ns);
        if let Some(bytes) = request.request_body_bytes.filter(|&bytes| bytes > 0) {
            sizes(&mut self.request_size).observe(bytes);
        }
        if let Some(bytes) = request.response_body_bytes {
            sizes(&mut self.response_size).observe(bytes);
        }
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.duration.merge(&other.duration);
        for (mine, theirs) in [
            (&mut self.request_size, &other.request_size),
            (&mut self.response_size, &other.response_size),
        ] {
            if let Some(theirs) = theirs {
                sizes(mine).merge(theirs);
            }
        }
    }
}

fn sizes(of: &mut Option<Box<Histogram>>) -> &mut Histogram {
    of.get_or_insert_with(|| Box::new(Histogram::new(&BODY_SIZE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_body_has_no_size_and_an_empty_response_has() {
        let mut series = HttpSeries::default();
        let request = Request {
            request_body_bytes: Some(0),
            response_body_bytes: Some(0),
            ..Request::default()
        };
        series.observe(7, &request);
        let count = |of: &Option<Box<Histogram>>| of.as_ref().map(|sizes| sizes.count());
        assert_eq!(count(&series.request_size), None);
        assert_eq!(count(&series.response_size), Some(1));
        let mut all = HttpSeries::default();
        all.merge(&series);
        all.merge(&series);
        assert_eq!(count(&all.response_size), Some(2));
        assert_eq!(all.duration.count(), 2);
    }
}
