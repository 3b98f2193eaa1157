//! Compares the observer's counts with Gunicorn's log: they must be equal, not close.

use std::{collections::BTreeMap, fmt::Debug, mem::replace};

use anyhow::{Context as _, Result, ensure};

use crate::{
    access_log::Line,
    facts::Fact,
    gunicorn::{GunicornServer, Master},
    load::Tally,
    metrics::Metrics,
    observer::Observer,
    process, wait,
};

/// Values of `error_type` of requests that ended with their worker.
pub const ENDED_WITH_WORKER: [&str; 4] = [
    "worker_timeout",
    "worker_oom",
    "worker_crash",
    "worker_exit",
];

/// The number of times that each key occurs.
pub fn counted<K: Ord>(keys: impl IntoIterator<Item = K>) -> BTreeMap<K, f64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1.0;
    }
    counts
}

/// Fails with the differences.
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

/// Fails with every failure, not only the first.
pub fn all(results: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let wrong: Vec<_> = results
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

/// Checks class and id, `worker_<age>_<start>`, of each running worker of a master. The oldest has the
/// age `first`.
pub fn identities(metrics: &Metrics, master: Master<'_>, first: u64) -> Result<()> {
    let mut workers = process::children(master.pid);
    // The arbiter starts one after the other.
    workers.sort_unstable();
    let of_master = master.pid.to_string();
    for (&pid, age) in workers.iter().zip(first..) {
        let started = process::started_unix_seconds(pid)?;
        let pid = pid.to_string();
        let labels = [("master_pid", of_master.as_str()), ("worker_pid", &pid)];
        let info = metrics.all("gunicorn_worker_info", &labels).next();
        let info = info.with_context(|| format!("worker {pid} is not known"))?;
        // The start is in clock ticks since boot, and the time of boot is in whole seconds.
        let id = info.label("worker_id");
        let is_right = (-1..=1).any(|off| id == format!("worker_{age}_{}", started + off));
        ensure!(is_right, "worker {age}, started at {started}, is {id}");
        let class = info.label("worker_class");
        ensure!(class == master.class, "worker {age} is a {class}");
    }
    Ok(())
}

/// Requests of each worker of a master, and the class of each.
pub fn workers(metrics: &Metrics, server: &GunicornServer, logged: &[Line]) -> Result<()> {
    workers_of(metrics, server.as_master(), logged)
}

/// The same for any master.
pub fn workers_of(metrics: &Metrics, master: Master<'_>, logged: &[Line]) -> Result<()> {
    let Master { pid, class } = master;
    let master = pid.to_string();
    let labels = [("master_pid", master.as_str())];
    let by = ["worker_pid", "worker_class"];
    let mut expected = counted(
        logged
            .iter()
            .map(|line| vec![line.pid.to_string(), class.to_owned()]),
    );
    // Those that ended with their worker have no line in its log.
    for error_type in ENDED_WITH_WORKER {
        let labels = [("master_pid", master.as_str()), ("error_type", error_type)];
        let failed = metrics.sum_by("gunicorn_worker_failed_requests_total", &labels, &by);
        for (worker, count) in failed {
            *expected.entry(worker).or_default() += count;
        }
    }
    let requests = metrics.sum_by("gunicorn_worker_requests_total", &labels, &by);
    equal("requests by worker", &requests, &expected)?;
    let histogram = "gunicorn_worker_request_duration_seconds_count";
    let durations = metrics.sum_by(histogram, &labels, &by);
    equal("durations by worker", &durations, &expected)
}

/// Waits until every request in a server's log is counted for its worker and nothing is lost. Requests of
/// workers that no longer run belong to the first master.
pub fn all_logged(
    observer: &Observer,
    server: &GunicornServer,
    masters: &[Master<'_>],
) -> Result<()> {
    let (first, others) = masters.split_first().context("a server has a master")?;
    let mut last = Ok(());
    let compared = wait::until("the counts to be those of the access log", || {
        let (metrics, mut logged) = (observer.scrape()?, server.access_log()?);
        last = others.iter().try_for_each(|master| {
            let workers = process::children(master.pid);
            let (own, rest) = logged
                .drain(..)
                .partition::<Vec<_>, _>(|line| workers.contains(&line.pid));
            logged = rest;
            workers_of(&metrics, *master, &own)
        });
        last = replace(&mut last, Ok(()))
            .and_then(|()| workers_of(&metrics, *first, &logged))
            .and_then(|()| nothing_lost(&metrics));
        Ok(last.is_ok().then_some(()))
    });
    last.and(compared)
}

/// Requests of each class, method, route and status, where only one master is observed.
pub fn routes(metrics: &Metrics, server: &GunicornServer, logged: &[Line]) -> Result<()> {
    let observed = metrics.sum_by(
        "http_server_request_duration_seconds_count",
        &[],
        &[
            "worker_class",
            "http_request_method",
            "http_route",
            "http_response_status_code",
        ],
    );
    let expected = counted(logged.iter().map(|line| {
        vec![
            server.worker_class().to_owned(),
            line.method.clone(),
            route(&line.path),
            line.status.to_string(),
        ]
    }));
    equal("requests by method, route and status", &observed, &expected)
}

/// Compares the bytes of all responses: received by the client, in the records and in the exposition.
pub fn response_bytes(metrics: &Metrics, facts: &[Fact], tally: &Tally) -> Result<()> {
    let sum = |bytes: fn(&Fact) -> Option<u64>| -> Option<u64> { facts.iter().map(bytes).sum() };
    let recorded = (
        sum(|fact| fact.response_bytes),
        sum(|fact| fact.response_body_bytes),
    );
    let received = (Some(tally.bytes), Some(tally.body_bytes));
    ensure!(
        recorded == received,
        "bytes of all responses and of their bodies: recorded {recorded:?}, received {received:?}"
    );
    let served = metrics.sum("gunicorn_worker_response_size_bytes_sum", &[]);
    ensure!(
        served.to_string() == tally.body_bytes.to_string(),
        "bytes of all bodies: served {served}, received {}",
        tally.body_bytes
    );
    Ok(())
}

/// Fails if the observer counted a loss.
pub fn nothing_lost(metrics: &Metrics) -> Result<()> {
    let lost = metrics.sum_by("gunicorn_observer_lost_total", &[], &["cause"]);
    equal("losses", &lost, &BTreeMap::new())
}

/// Accounts for these requests: counted and lost ones must be all of them. Each run of a program that the
/// kernel skipped may be one more unseen request.
pub fn all_counted_or_lost(metrics: &Metrics, sent: usize) -> Result<Accounted> {
    let lost = |cause| metrics.sum("gunicorn_observer_lost_total", &[("cause", cause)]);
    let accounted = Accounted {
        counted: metrics.sum("gunicorn_worker_requests_total", &[]),
        lost: lost("ring_full"),
        skipped: lost("recursion"),
    };
    let Accounted {
        counted,
        lost,
        skipped,
    } = accounted;
    let missing = sent as f64 - counted - lost;
    ensure!(
        (0.0..=skipped).contains(&missing),
        "of {sent} requests {counted} were counted and {lost} lost, {skipped} runs were skipped"
    );
    Ok(accounted)
}

/// What became of the requests that were sent.
#[derive(Clone, Copy, Debug)]
pub struct Accounted {
    pub counted: f64,
    /// Because the ring buffer was full.
    pub lost: f64,
    /// Runs of programs that the kernel skipped.
    pub skipped: f64,
}

/// Compares requests one by one.
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

/// Differences of durations from the log's, in microseconds, smallest first. Both clocks are read at the
/// same calls. Method and path must identify a request. Where the application raised, the log has
/// another time, and the request is left out.
pub fn duration_differences_us(facts: &[Fact], logged: &[Line]) -> Result<Vec<u64>> {
    let mut expected = BTreeMap::new();
    for line in logged {
        let key = (line.method.as_str(), line.path.as_str());
        let other = expected.insert(key, line.duration_us);
        ensure!(other.is_none(), "{key:?} was logged twice");
    }
    let compared = facts.iter().filter(|fact| !fact.error_handled);
    let mut differences = compared
        .map(|fact| {
            let key = (
                fact.method.as_deref().unwrap_or_default(),
                fact.path.as_deref().unwrap_or_default(),
            );
            // Removed, so that a second record of it finds nothing.
            let logged_us = expected
                .remove(&key)
                .with_context(|| format!("{key:?} was not logged as often as observed"))?;
            let observed_ns = fact
                .duration_ns
                .with_context(|| format!("{key:?} has no duration"))?;
            Ok((observed_ns / 1000).abs_diff(logged_us))
        })
        .collect::<Result<Vec<_>>>()?;
    differences.sort_unstable();
    Ok(differences)
}

/// The route a path is reduced to: numbers become `{id}`.
#[must_use]
pub fn route(path: &str) -> String {
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
