//! Recent requests of an app by route, and the slowest of them.
//!
//! Two generations of five minutes are kept, which cover the last five to ten minutes.

use crate::counters::app_counters::{ById, Method};
use crate::counters::histogram::{HISTORY, Histogram};
use crate::counters::worker_counters::{Phase, duration_ns, phases};
use crate::event::{Pid, Request};
use crate::routes::table::RouteId;
use crate::routes::tree::Moved;
use crate::untrusted::Untrusted;
use std::collections::BTreeMap;

/// Time that a generation covers.
const GENERATION_NS: u64 = 300_000_000_000;
/// Slow requests that a generation keeps.
const SLOWEST: usize = 10;

/// Requests of the last five to ten minutes.
#[derive(Debug, Default)]
pub struct TopRequests {
    began_ns: u64,
    current: Generation,
    previous: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    routes: ById<(Method, RouteId), RouteStats>,
    /// The slowest first.
    slowest: Vec<Slow>,
}

/// Requests of one method and route.
#[derive(Clone, Debug)]
pub struct RouteStats {
    pub requests: u64,
    pub errors: u64,
    pub durations: Histogram,
    pub phases: PhaseSums,
}

/// The sum of the durations of each phase, and how often it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhaseSums([(u64, u64); Phase::ALL.len()]);

/// A slow request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    pub duration_ns: u64,
    pub finished_ns: u64,
    pub worker_pid: Pid,
    pub method: Method,
    pub route: RouteId,
    pub path: Option<Untrusted>,
    pub status: Option<u16>,
    pub phases: PhaseSums,
}

impl PhaseSums {
    fn add(&mut self, phases: &[Option<u64>]) {
        for (sum, ns) in self.0.iter_mut().zip(phases) {
            if let Some(ns) = ns {
                sum.0 = sum.0.saturating_add(*ns);
                sum.1 += 1;
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.0 = mine.0.saturating_add(theirs.0);
            mine.1 += theirs.1;
        }
    }

    /// Mean seconds of a phase; `None` if it was not seen.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean is a float")]
    pub fn mean_seconds(&self, phase: Phase) -> Option<f64> {
        let (ns, count) = self.0[phase as usize];
        (count > 0).then(|| ns as f64 / count as f64 / 1e9)
    }
}

impl RouteStats {
    fn new() -> Self {
        Self {
            requests: 0,
            errors: 0,
            durations: Histogram::new(&HISTORY),
            phases: PhaseSums::default(),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.durations.merge(&other.durations);
        self.phases.merge(&other.phases);
    }
}

impl TopRequests {
    /// A request finished.
    pub fn request(&mut self, request: &Request, method: Method, route: RouteId, is_error: bool) {
        self.grow_old(request.finished_ns);
        let phases = phases(request);
        let stats = self.current.routes.entry((method, route));
        let stats = stats.or_insert_with(RouteStats::new);
        stats.requests += 1;
        stats.errors += u64::from(is_error);
        stats.phases.add(&phases);
        let Some(duration_ns) = duration_ns(request) else {
            return;
        };
        stats.durations.observe(duration_ns);
        let slowest = &mut self.current.slowest;
        let at = slowest.partition_point(|slow| slow.duration_ns >= duration_ns);
        if at < SLOWEST {
            slowest.truncate(SLOWEST - 1);
            let mut sums = PhaseSums::default();
            sums.add(&phases);
            let slow = Slow {
                duration_ns,
                finished_ns: request.finished_ns,
                worker_pid: request.pid,
                method,
                route,
                path: request.path.clone(),
                status: request.status,
                phases: sums,
            };
            slowest.insert(at, slow);
        }
    }

    /// Adds the requests of routes that became others to those of these.
    pub fn follow(&mut self, moved: &Moved) {
        for generation in [&mut self.current, &mut self.previous] {
            for ((method, route), stats) in std::mem::take(&mut generation.routes) {
                let mine = generation.routes.entry((method, moved.to(route)));
                mine.or_insert_with(RouteStats::new).merge(&stats);
            }
            for slow in &mut generation.slowest {
                slow.route = moved.to(slow.route);
            }
        }
    }

    /// Starts the next generation if it is time.
    pub fn grow_old(&mut self, now_ns: u64) {
        match now_ns.saturating_sub(self.began_ns) / GENERATION_NS {
            0 => return,
            1 => self.previous = std::mem::take(&mut self.current),
            _ => (self.previous, self.current) = Default::default(),
        }
        self.began_ns = now_ns - now_ns % GENERATION_NS;
    }

    /// The stats of each method and route.
    #[must_use]
    pub fn routes(&self) -> BTreeMap<(Method, RouteId), RouteStats> {
        let current = self.current.routes.iter();
        let mut routes: BTreeMap<_, _> = current.map(|(&key, of)| (key, of.clone())).collect();
        for (&key, stats) in &self.previous.routes {
            let mine = routes.entry(key).or_insert_with(RouteStats::new);
            mine.merge(stats);
        }
        routes
    }

    /// The slowest requests, the slowest first.
    #[must_use]
    pub fn slowest(&self) -> Vec<&Slow> {
        let both = [&self.current, &self.previous];
        let mut slowest: Vec<&Slow> = both.iter().flat_map(|of| &of.slowest).collect();
        slowest.sort_by_key(|slow| std::cmp::Reverse(slow.duration_ns));
        slowest.truncate(SLOWEST);
        slowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(finished_ns: u64, duration_ns: u64) -> Request {
        Request {
            finished_ns,
            entered_ns: Some(finished_ns - duration_ns),
            exited_ns: Some(finished_ns),
            first_write_ns: Some(finished_ns),
            ..Request::default()
        }
    }

    #[test]
    fn requests_of_the_last_five_to_ten_minutes_are_kept() {
        let mut recent = TopRequests::default();
        let start = 10 * GENERATION_NS;
        let get = Method::default();
        let count = |recent: &TopRequests| {
            let routes = recent.routes();
            routes.values().map(|stats| stats.requests).sum::<u64>()
        };
        recent.request(&finished(start, 5), get, RouteId::OTHER, true);
        recent.request(
            &finished(start + GENERATION_NS, 7),
            get,
            RouteId::OTHER,
            false,
        );
        assert_eq!((count(&recent), recent.slowest().len()), (2, 2));
        let stats = &recent.routes()[&(get, RouteId::OTHER)];
        assert_eq!((stats.errors, stats.durations.count()), (1, 2));
        let app = stats.phases.mean_seconds(Phase::App).unwrap();
        assert!((app - 6e-9).abs() < 1e-12, "{app}");
        assert_eq!(stats.phases.mean_seconds(Phase::Queue), None);
        recent.grow_old(start + 2 * GENERATION_NS);
        assert_eq!(count(&recent), 1);
        recent.grow_old(start + 9 * GENERATION_NS);
        assert_eq!((count(&recent), recent.slowest().len()), (0, 0));
    }

    #[test]
    fn the_slowest_requests_are_kept_in_order() {
        let mut recent = TopRequests::default();
        for duration_ns in [5, 1, 9, 9, 3, 2, 8, 7, 4, 6, 11, 10, 12] {
            let request = finished(1000, duration_ns);
            recent.request(&request, Method::default(), RouteId::UNKNOWN, false);
        }
        let slowest = recent.slowest();
        let slowest: Vec<u64> = slowest.iter().map(|slow| slow.duration_ns).collect();
        assert_eq!(slowest, [12, 11, 10, 9, 9, 8, 7, 6, 5, 4]);
    }
}
