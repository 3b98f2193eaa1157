//! What the observer counted against what Gunicorn logged: they must be equal, not close.

use std::{collections::BTreeMap, fmt::Debug};

use anyhow::{Result, ensure};

use crate::{access_log::Line, facts::Fact, metrics::Metrics};

/// How often each key occurs.
pub fn counted<K: Ord>(keys: impl IntoIterator<Item = K>) -> BTreeMap<K, f64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1.0;
    }
    counts
}

/// Fails with only what differs.
pub fn equal<K: Ord + Debug + Clone>(
    what: &str,
    observed: &BTreeMap<K, f64>,
    expected: &BTreeMap<K, f64>,
) -> Result<()> {
    let keys = observed
        .keys()
        .chain(expected.keys().filter(|key| !observed.contains_key(key)));
    let wrong: Vec<_> = keys
        .map(|key| {
            (
                key,
                observed.get(key).unwrap_or(&0.0),
                expected.get(key).unwrap_or(&0.0),
            )
        })
        .filter(|(_, observed, expected)| observed.to_string() != expected.to_string())
        .map(|(key, observed, expected)| format!("{key:?}: {observed}, not {expected}"))
        .collect();
    ensure!(wrong.is_empty(), "{what} differ:\n{}", wrong.join("\n"));
    Ok(())
}

/// Requests of each worker of a master.
pub fn workers(metrics: &Metrics, master: u32, logged: &[Line]) -> Result<()> {
    let master = master.to_string();
    let labels = [("master_pid", master.as_str())];
    let observed = metrics.sum_by("gunicorn_worker_requests_total", &labels, &["worker_pid"]);
    let expected = counted(logged.iter().map(|line| vec![line.pid.to_string()]));
    equal("requests by worker", &observed, &expected)?;
    let histogram = "gunicorn_worker_request_duration_seconds_count";
    equal(
        "durations by worker",
        &metrics.sum_by(histogram, &labels, &["worker_pid"]),
        &expected,
    )
}

/// Requests of each method, route and status, where only one master is observed.
pub fn routes(metrics: &Metrics, logged: &[Line]) -> Result<()> {
    let observed = metrics.sum_by(
        "http_server_request_duration_seconds_count",
        &[],
        &[
            "http_request_method",
            "http_route",
            "http_response_status_code",
        ],
    );
    let expected = counted(logged.iter().map(|line| {
        vec![
            line.method.clone(),
            route(&line.path),
            line.status.to_string(),
        ]
    }));
    equal("requests by method, route and status", &observed, &expected)
}

/// Nothing the observer knows of was missed.
pub fn nothing_lost(metrics: &Metrics) -> Result<()> {
    let lost = metrics.sum_by("gunicorn_observer_lost_total", &[], &["cause"]);
    equal("losses", &lost, &BTreeMap::new())
}

/// Requests one by one.
pub fn facts(facts: &[Fact], logged: &[Line]) -> Result<()> {
    let observed = counted(facts.iter().map(|fact| {
        (
            fact.pid,
            fact.method.clone().unwrap_or_default(),
            fact.path.clone(),
            fact.status,
        )
    }));
    let expected = counted(logged.iter().map(|line| {
        (
            line.pid,
            line.method.clone(),
            Some(line.path.clone()),
            Some(line.status),
        )
    }));
    equal(
        "requests by worker, method, path and status",
        &observed,
        &expected,
    )
}

/// How far durations are from the log's, in microseconds, smallest first. Both clocks are read at
/// the same calls; within one worker, path and status the shortest is paired with the shortest.
/// Where the application raised, the log has another time and nothing is compared.
pub fn duration_differences_us(facts: &[Fact], logged: &[Line]) -> Result<Vec<u64>> {
    type Key = (u32, String, u16);
    let mut observed: BTreeMap<Key, Vec<u64>> = BTreeMap::new();
    for fact in facts.iter().filter(|fact| !fact.error_handled) {
        let key = (
            fact.pid,
            fact.path.clone().unwrap_or_default(),
            fact.status.unwrap_or(0),
        );
        let Some(duration_ns) = fact.duration_ns else {
            anyhow::bail!("{key:?} has no duration");
        };
        observed.entry(key).or_default().push(duration_ns / 1000);
    }
    let mut expected: BTreeMap<Key, Vec<u64>> = BTreeMap::new();
    for line in logged {
        let key = (line.pid, line.path.clone(), line.status);
        expected.entry(key).or_default().push(line.duration_us);
    }
    let mut differences = Vec::new();
    for (key, mut observed) in observed {
        let mut expected = expected.remove(&key).unwrap_or_default();
        ensure!(
            observed.len() == expected.len(),
            "{key:?} was not logged as often as observed"
        );
        observed.sort_unstable();
        expected.sort_unstable();
        differences.extend(observed.iter().zip(expected).map(|(a, b)| a.abs_diff(b)));
    }
    differences.sort_unstable();
    Ok(differences)
}

/// The route a path is reduced to: numbers become `{id}`.
fn route(path: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<_> = path
        .split('/')
        .map(|part| if is_number(part) { "{id}" } else { part })
        .collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::{counted, equal, route};

    #[test]
    fn numbers_in_a_path_are_one_route() {
        assert_eq!(route("/products/17"), "/products/{id}");
        assert_eq!(route("/"), "/");
    }

    #[test]
    fn what_differs_is_named() {
        let (observed, expected) = (counted([1, 2, 2]), counted([1, 2, 3]));
        let error = equal("counts", &observed, &expected)
            .expect_err("they differ")
            .to_string();
        assert_eq!(error, "counts differ:\n2: 2, not 1\n3: 0, not 1");
        assert!(equal("counts", &observed, &observed).is_ok());
    }
}
