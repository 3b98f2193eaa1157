//! What workers use and do at this moment.

use super::family::{Family, Labels};
use observer_model::lifecycle::worker_state::Stage;
use observer_model::views::metrics_view::WorkerView;

/// What a worker, or several together, are now. What is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Now {
    /// Only of one worker.
    state: Option<Stage>,
    resident_bytes: Option<u64>,
    cpu_percent: Option<f64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    heartbeat_age_seconds: Option<f64>,
    in_flight: u64,
    oldest_seconds: f64,
}

impl Now {
    /// A worker that lives.
    #[must_use]
    pub fn of(worker: &WorkerView) -> Self {
        let gauges = worker.gauges.as_ref();
        Self {
            state: worker.state,
            resident_bytes: gauges.map(|gauges| gauges.resident_bytes),
            cpu_percent: worker.cpu_percent,
            threads: gauges.map(|gauges| gauges.threads.into()),
            open_fds: gauges.and_then(|gauges| gauges.open_fds).map(u64::from),
            heartbeat_age_seconds: gauges.and_then(|gauges| gauges.heartbeat_age_seconds),
            in_flight: worker.in_flight.into(),
            oldest_seconds: worker
                .oldest_request
                .as_ref()
                .map_or(0.0, |of| of.age_seconds),
        }
    }

    /// Several together: sums, and of ages the greatest.
    #[must_use]
    pub fn all(workers: impl Iterator<Item = Self>) -> Self {
        fn add<T: std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            }
        }
        let join = |all: Self, one: Self| Self {
            state: None,
            resident_bytes: add(all.resident_bytes, one.resident_bytes),
            cpu_percent: add(all.cpu_percent, one.cpu_percent),
            threads: add(all.threads, one.threads),
            open_fds: add(all.open_fds, one.open_fds),
            heartbeat_age_seconds: match (all.heartbeat_age_seconds, one.heartbeat_age_seconds) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            },
            in_flight: all.in_flight + one.in_flight,
            oldest_seconds: all.oldest_seconds.max(one.oldest_seconds),
        };
        workers.fold(Self::default(), join)
    }
}

/// Their families.
pub struct NowFamilies {
    state: Family,
    memory: Family,
    cpu_percent: Family,
    threads: Family,
    open_fds: Family,
    heartbeat: Family,
    in_flight: Family,
    oldest: Family,
}

impl Default for NowFamilies {
    fn default() -> Self {
        Self {
            state: Family::gauge(
                "gunicorn_worker_state",
                "1 for the state that a worker is in: booting, running, quitting or aborting.",
            ),
            memory: Family::gauge(
                "gunicorn_worker_memory_bytes",
                "Memory that a worker has resident.",
            ),
            cpu_percent: Family::gauge(
                "gunicorn_worker_cpu_percent",
                "Processor time that a worker used lately, in percent of one processor.",
            ),
            threads: Family::gauge("gunicorn_worker_threads", "Threads of a worker process."),
            open_fds: Family::gauge("gunicorn_worker_open_fds", "File descriptors of a worker."),
            heartbeat: Family::gauge(
                "gunicorn_worker_heartbeat_age_seconds",
                "Time since a worker told its master that it is alive.",
            ),
            in_flight: Family::gauge(
                "gunicorn_worker_requests_in_flight",
                "Requests that a worker has in progress.",
            ),
            oldest: Family::gauge(
                "gunicorn_worker_oldest_request_seconds",
                "Age of the request that is in progress for longest; 0 without one.",
            ),
        }
    }
}

impl NowFamilies {
    /// Adds a worker, or several; `observed` if their requests are seen.
    pub fn add(&mut self, labels: Labels, now: &Now, observed: bool) {
        if let Some(state) = now.state.filter(|_| observed) {
            for stage in Stage::ALL {
                let mut labels = labels.to_vec();
                labels.push(("state", stage.as_str()));
                self.state.count(&labels, u64::from(stage == state));
            }
        }
        for (family, value) in [
            (&mut self.memory, now.resident_bytes),
            (&mut self.threads, now.threads),
            (&mut self.open_fds, now.open_fds),
            (&mut self.in_flight, observed.then_some(now.in_flight)),
        ] {
            if let Some(value) = value {
                family.count(labels, value);
            }
        }
        for (family, value) in [
            (&mut self.cpu_percent, now.cpu_percent),
            (&mut self.heartbeat, now.heartbeat_age_seconds),
            (&mut self.oldest, observed.then_some(now.oldest_seconds)),
        ] {
            if let Some(value) = value {
                family.add(labels, value);
            }
        }
    }

    pub fn into_vec(self) -> Vec<Family> {
        let Self {
            state,
            memory,
            cpu_percent,
            threads,
            open_fds,
            heartbeat,
            in_flight,
            oldest,
        } = self;
        vec![
            state,
            memory,
            cpu_percent,
            threads,
            open_fds,
            heartbeat,
            in_flight,
            oldest,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_together_have_sums_and_the_greatest_ages() {
        let one = |bytes, age, in_flight| Now {
            state: Some(Stage::Running),
            resident_bytes: bytes,
            heartbeat_age_seconds: age,
            in_flight,
            oldest_seconds: 1.0,
            ..Now::default()
        };
        let all = Now::all([one(Some(10), Some(3.0), 1), one(None, Some(5.0), 2)].into_iter());
        let expected = Now {
            resident_bytes: Some(10),
            heartbeat_age_seconds: Some(5.0),
            in_flight: 3,
            oldest_seconds: 1.0,
            ..Now::default()
        };
        assert_eq!(all, expected);
    }
}
