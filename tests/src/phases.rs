//! Where the time of requests went: as many clients measured it at once, and as `trace --json` shows
//! it.

use std::{
    collections::BTreeMap,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Deserialize;

use crate::{
    client::{Place, Request},
    tracer::Tracer,
    wait,
};

/// Sends requests all at once, each on a connection of its own. Returns the time of each, from before
/// connecting until the complete response, in milliseconds by path.
pub fn measure(place: &Place, requests: &[Request]) -> Result<BTreeMap<String, f64>> {
    let start = Barrier::new(requests.len());
    thread::scope(|scope| {
        let threads: Vec<_> = requests
            .iter()
            .map(|request| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let began = Instant::now();
                    let answer = place.connect()?.request(request)?;
                    let took = began.elapsed();
                    ensure!(answer.status == 200, "answered {}", answer.status);
                    Ok((request.path().to_owned(), milliseconds(took)))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow!("a thread of this test panicked"))?
            })
            .collect()
    })
}

#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The phases of a finished request.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Traced {
    pub pid: u32,
    #[serde(default)]
    pub path: String,
    pub phases_ns: BTreeMap<String, u64>,
}

impl Traced {
    /// A phase in milliseconds; `None` if it was not seen.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<f64> {
        let ns = self.phases_ns.get(name)?;
        Some(milliseconds(Duration::from_nanos(*ns)))
    }

    /// The time until a worker took it up.
    #[must_use]
    pub fn waited(&self) -> f64 {
        self.phase("queue").unwrap_or(0.0) + self.phase("dispatch").unwrap_or(0.0)
    }

    /// All phases together.
    #[must_use]
    pub fn total(&self) -> f64 {
        milliseconds(Duration::from_nanos(self.phases_ns.values().sum()))
    }
}

/// Requests under `/<number>/` of a trace with `--json`, once there are this many.
pub fn traced(tracer: &Tracer, count: usize) -> Result<Vec<Traced>> {
    let mut seen = Vec::new();
    let waited = wait::until(format!("{count} traced requests"), || {
        seen = tracer.lines()?;
        let requests = seen
            .iter()
            .filter(|line| !line.contains(r#""event":"#))
            .map(|line| serde_json::from_str(line).with_context(|| line.clone()))
            .collect::<Result<Vec<Traced>>>();
        // The last line may be half written.
        Ok(requests.ok().filter(|requests| requests.len() >= count))
    });
    let requests = waited.with_context(|| format!("there are {seen:#?}"))?;
    ensure!(requests.len() == count, "not {count}: {requests:#?}");
    Ok(requests)
}

/// The quantile of this share.
#[must_use]
pub fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() * percent).div_ceil(100).max(1) - 1;
    values.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::{Traced, percentile};

    #[test]
    fn percentiles_are_of_the_values_themselves() {
        let values = || (1..=20).rev().map(f64::from).collect::<Vec<_>>();
        assert_eq!(percentile(values(), 50), 10.0);
        assert_eq!(percentile(values(), 95), 19.0);
        assert_eq!(percentile(values(), 100), 20.0);
        assert!(percentile(Vec::new(), 50).is_nan());
    }

    #[test]
    fn a_line_of_the_trace_is_read() {
        let line = r#"{"pid": 7, "path": "/1/ok", "status": 200,
                       "phases_ns": {"queue": 2000000, "app": 500000}}"#;
        let traced: Traced = serde_json::from_str(line).expect("a good line");
        assert_eq!(traced.phase("queue"), Some(2.0));
        assert_eq!(traced.phase("dispatch"), None);
        assert_eq!((traced.waited(), traced.total()), (2.0, 2.5));
    }
}
