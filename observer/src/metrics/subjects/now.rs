//! What live workers use and do at the moment of a scrape.

use observer_model::fact::Connections;
use observer_model::lifecycle::worker_state::Stage;
use observer_model::views::metrics_view::WorkerView;
use std::ops::Add;

/// Gauges of a worker, or of several together. `None` is unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Now {
    /// Of one worker only, as the uptime.
    pub stage: Option<Stage>,
    pub uptime_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
    pub cpu_percent: Option<f64>,
    pub threads: Option<u64>,
    pub open_fds: Option<u64>,
    pub heartbeat_age_seconds: Option<f64>,
    pub in_flight: Option<u64>,
    pub oldest_seconds: Option<f64>,
    pub connections: Option<Connections>,
}

impl Now {
    /// A live worker. The stage and the requests are known only if its requests are observed.
    #[must_use]
    pub fn of(worker: &WorkerView, observed: bool) -> Self {
        let gauges = worker.gauges.as_ref();
        let oldest = worker.oldest_request.as_ref();
        Self {
            stage: worker.state.filter(|_| observed),
            uptime_seconds: worker.uptime_seconds,
            resident_bytes: gauges.map(|gauges| gauges.resident_bytes),
            cpu_percent: worker.cpu_percent,
            threads: gauges.map(|gauges| gauges.threads.into()),
            open_fds: gauges.and_then(|gauges| gauges.open_fds).map(u64::from),
            heartbeat_age_seconds: gauges.and_then(|gauges| gauges.heartbeat_age_seconds),
            in_flight: observed.then_some(worker.in_flight.into()),
            oldest_seconds: observed.then(|| oldest.map_or(0.0, |oldest| oldest.age_seconds)),
            connections: worker.connections.filter(|_| observed),
        }
    }

    /// Several observed workers together: sums, and the greatest ages.
    #[must_use]
    pub fn all(workers: impl Iterator<Item = Self>) -> Self {
        fn sum<T: Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            }
        }
        fn greatest(a: Option<f64>, b: Option<f64>) -> Option<f64> {
            match (a, b) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            }
        }
        let none = Self {
            in_flight: Some(0),
            oldest_seconds: Some(0.0),
            ..Self::default()
        };
        workers.fold(none, |all, one| Self {
            stage: None,
            uptime_seconds: None,
            resident_bytes: sum(all.resident_bytes, one.resident_bytes),
            cpu_percent: sum(all.cpu_percent, one.cpu_percent),
            threads: sum(all.threads, one.threads),
            open_fds: sum(all.open_fds, one.open_fds),
            heartbeat_age_seconds: greatest(all.heartbeat_age_seconds, one.heartbeat_age_seconds),
            in_flight: sum(all.in_flight, one.in_flight),
            oldest_seconds: greatest(all.oldest_seconds, one.oldest_seconds),
            connections: sum(all.connections, one.connections),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_together_have_sums_and_the_greatest_ages() {
        let one = |bytes, age, in_flight| Now {
            stage: Some(Stage::Running),
            uptime_seconds: Some(7.0),
            resident_bytes: bytes,
            heartbeat_age_seconds: age,
            in_flight: Some(in_flight),
            oldest_seconds: Some(1.0),
            ..Now::default()
        };
        let all = Now::all([one(Some(10), Some(3.0), 1), one(None, Some(5.0), 2)].into_iter());
        let expected = Now {
            resident_bytes: Some(10),
            heartbeat_age_seconds: Some(5.0),
            in_flight: Some(3),
            oldest_seconds: Some(1.0),
            ..Now::default()
        };
        assert_eq!(all, expected);
    }

    #[test]
    fn no_worker_has_no_request_in_flight() {
        let none = Now::all(std::iter::empty());
        assert_eq!((none.in_flight, none.oldest_seconds), (Some(0), Some(0.0)));
        assert_eq!(none.resident_bytes, None);
    }
}
