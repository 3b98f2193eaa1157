//! Finding rules: from the state and the past of an app to its findings.

use super::finding::{Bytes, Kind};
use super::past::{AppPast, SAMPLE_NS, WorkerPast};
use crate::duration::seconds;
use crate::event::Pid;
use crate::fact::{Listener, Pending, WorkerInFlight};
use crate::lifecycle::exit_reason::ExitReason;
use crate::lifecycle::worker_event::PendingView;
use crate::routes::registry::RouteRegistry;
use crate::settings::Settings;
use crate::untrusted::Untrusted;

/// Samples in a row with a backlog that make it a finding.
const BACKLOG_SAMPLES: usize = 3;
/// Samples that distinguish growing memory from a warm-up.
const MEMORY_SAMPLES: usize = 12;
/// Growth of memory below this is no finding.
const MEMORY_BYTES: u64 = 8 << 20;
/// Samples and requests that it takes to see how requests are spread.
const SPREAD_SAMPLES: usize = 3;
const SPREAD_REQUESTS: u64 = 100;
/// Connections that wait for a thread for so long are a finding.
const SATURATED_NS: u64 = 2_000_000_000;
/// Workers that live for this long after their master do not follow it.
const ORPHANED_NS: u64 = 5_000_000_000;
/// A worker without a timeout that boots for longer is a finding.
const BOOT_SECONDS: f64 = 60.0;
/// Workers that quit for this long have more to do than to stop.
const QUITTING_NS: u64 = 5_000_000_000;
/// Exits in trouble are counted over this time.
const RESTARTS_NS: u64 = 60_000_000_000;

/// An app as the rules see it.
pub struct AppInput<'a> {
    pub settings: &'a Settings,
    pub routes: &'a RouteRegistry,
    /// The master's `timeout` setting.
    pub timeout_seconds: Option<u32>,
    /// Its `threads` setting.
    pub threads: Option<u32>,
    pub listeners: &'a [Listener],
    pub past: &'a AppPast,
    /// Reason of the latest exit in trouble.
    pub last_trouble: Option<ExitReason>,
    /// When the master exited.
    pub ended_ns: Option<u64>,
    /// Somebody asked the master to stop its workers.
    pub is_stopping: bool,
    /// Live workers.
    pub workers: Vec<WorkerInput<'a>>,
}

/// A live worker as the rules see it.
pub struct WorkerInput<'a> {
    pub pid: Pid,
    pub in_flight: &'a WorkerInFlight,
    pub heartbeat_age_seconds: Option<f64>,
    /// `None` when unknown.
    pub started_ns: Option<u64>,
    /// It loads its application.
    pub is_booting: bool,
    /// It serves one connection at a time.
    pub is_sync: bool,
    /// It serves as many as it has threads, and accepts more.
    pub is_threaded: bool,
    /// Since when it quits or is aborted, and accepts no more connections.
    pub quitting_ns: Option<u64>,
    /// Requests served since it started.
    pub requests: u64,
    pub past: &'a WorkerPast,
}

/// A finding of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub kind: Kind,
    /// `None` for a finding about the whole app.
    pub worker_pid: Option<Pid>,
    /// The figures that led to it, as a sentence.
    pub evidence: Untrusted,
}

/// Applies every rule.
#[must_use]
pub fn find(app: &AppInput, now_ns: u64) -> Vec<Found> {
    let mut found = Vec::new();
    stuck(app, now_ns, &mut found);
    waits(app, now_ns, &mut found);
    if let Some(ended_ns) = app.ended_ns {
        orphans(app, now_ns.saturating_sub(ended_ns), &mut found);
        return found;
    }
    heartbeats(app, &mut found);
    boots(app, now_ns, &mut found);
    quits(app, now_ns, &mut found);
    restarts(app, now_ns, &mut found);
    backlogs(app, &mut found);
    spread(app, &mut found);
    memory(app, &mut found);
    found
}

fn add(found: &mut Vec<Found>, kind: Kind, worker_pid: Option<Pid>, evidence: String) {
    found.push(Found {
        kind,
        worker_pid,
        evidence: evidence.into(),
    });
}

fn stuck(app: &AppInput, now_ns: u64, found: &mut Vec<Found>) {
    for worker in &app.workers {
        // One that writes is not stuck, however old it is.
        let is_silent = |pending: &&Pending| {
            let since_ns = pending.written_ns.unwrap_or(0).max(pending.begun_ns);
            now_ns.saturating_sub(since_ns) >= app.settings.thresholds.stuck_ns
        };
        let Some(oldest) = worker.in_flight.oldest.iter().find(is_silent) else {
            continue;
        };
        let PendingView {
            method,
            route,
            age_seconds,
            ..
        } = PendingView::new(&app.settings.routes, app.routes, oldest, now_ns);
        let count = worker.in_flight.count;
        let evidence = format!(
            "{} {} is in progress for {age_seconds:.1} s; the worker has {count} in all",
            method.as_ref().map_or("a request", Untrusted::raw),
            match route.raw() {
                "" => "with an unknown path",
                route => route,
            },
        );
        add(found, Kind::WorkerStuck, Some(worker.pid), evidence);
    }
}

/// Connections that wait within a worker: for one of its threads, or for their client.
fn waits(app: &AppInput, now_ns: u64, found: &mut Vec<Found>) {
    for worker in &app.workers {
        let Some(connections) = worker.in_flight.connections else {
            continue;
        };
        let since_ns = connections.waits_since_ns().unwrap_or(now_ns);
        let waits_ns = now_ns.saturating_sub(since_ns);
        let waits = seconds(waits_ns);
        let waiting = connections.waiting();
        // A stream holds its thread.
        let serving = worker.in_flight.count + connections.websockets + connections.events;
        if worker.is_sync {
            if waiting > 0
                && worker.in_flight.count == 0
                && waits_ns >= app.settings.thresholds.stuck_ns
            {
                let evidence = format!("a client has sent no whole request for {waits:.1} s");
                add(found, Kind::ClientSilent, Some(worker.pid), evidence);
            }
        } else if let Some(threads) = app.threads.filter(|_| worker.is_threaded)
            && serving >= threads
            && waiting > 0
            && waits_ns >= SATURATED_NS
        {
            let evidence = format!(
                "{waiting} accepted connections wait for one of {threads} threads, the first for {waits:.1} s"
            );
            add(found, Kind::Saturated, Some(worker.pid), evidence);
        }
    }
}

fn heartbeats(app: &AppInput, found: &mut Vec<Found>) {
    let Some(timeout) = app.timeout_seconds.filter(|&timeout| timeout > 0) else {
        return;
    };
    let percent = app.settings.thresholds.heartbeat_percent;
    let late = f64::from(timeout) * f64::from(percent) / 100.0;
    for worker in &app.workers {
        if let Some(age) = worker.heartbeat_age_seconds.filter(|&age| age >= late) {
            let evidence = format!(
                "the last heartbeat was {age:.1} s ago; the master kills the worker after {timeout} s"
            );
            add(found, Kind::HeartbeatLate, Some(worker.pid), evidence);
        }
    }
}

/// Workers that outlive their master: each checks about once a second whether it is still there.
fn orphans(app: &AppInput, gone_ns: u64, found: &mut Vec<Found>) {
    let count = app.workers.len();
    if count > 0 && gone_ns >= ORPHANED_NS {
        let gone = seconds(gone_ns);
        let evidence =
            format!("the master exited {gone:.0} s ago; {count} of its workers still run");
        add(found, Kind::OrphanedWorkers, None, evidence);
    }
}

/// A worker that boots for longer than the timeout. Without a heartbeat: with one its master counts, too.
fn boots(app: &AppInput, now_ns: u64, found: &mut Vec<Found>) {
    let timeout = app.timeout_seconds.filter(|&timeout| timeout > 0);
    let longest = timeout.map_or(BOOT_SECONDS, f64::from);
    for worker in &app.workers {
        let Some(started_ns) = worker.started_ns else {
            continue;
        };
        let age = seconds(now_ns.saturating_sub(started_ns));
        if worker.is_booting && worker.heartbeat_age_seconds.is_none() && age >= longest {
            let evidence = format!("the worker has been booting for {age:.0} s");
            add(found, Kind::DoesNotBoot, Some(worker.pid), evidence);
        }
    }
}

/// All workers quit, while their master goes on. It starts another one when one exited only.
fn quits(app: &AppInput, now_ns: u64, found: &mut Vec<Found>) {
    let since: Option<Vec<u64>> = app.workers.iter().map(|it| it.quitting_ns).collect();
    // Nobody accepts since the last one quits.
    let Some(last_ns) = since.and_then(|since| since.into_iter().max()) else {
        return;
    };
    let quitting_ns = now_ns.saturating_sub(last_ns);
    if app.is_stopping || quitting_ns < QUITTING_NS {
        return;
    }
    let in_flight: u32 = app.workers.iter().map(|it| it.in_flight.count).sum();
    let (who, only) = match app.workers.as_slice() {
        [only] => ("the only worker has".to_owned(), Some(only.pid)),
        all => (format!("all {} workers have", all.len()), None),
    };
    let evidence = format!(
        "{who} been quitting for {:.0} s; requests in progress: {in_flight}",
        seconds(quitting_ns)
    );
    add(found, Kind::OnlyWorkerQuitting, only, evidence);
}

fn restarts(app: &AppInput, now_ns: u64, found: &mut Vec<Found>) {
    let exits = app.past.troubles_since(now_ns.saturating_sub(RESTARTS_NS));
    let limit = app.settings.thresholds.restarts;
    if exits < usize::try_from(limit).unwrap_or(usize::MAX) {
        return;
    }
    let last = app.last_trouble.map_or("unknown", ExitReason::as_str);
    let evidence = format!("{exits} workers exited within a minute, the last one by {last}");
    add(found, Kind::RestartLoop, None, evidence);
}

fn backlogs(app: &AppInput, found: &mut Vec<Found>) {
    for listener in app.listeners {
        let address = &listener.address;
        let Some(last) = app.past.last_backlogs(address, BACKLOG_SAMPLES) else {
            continue;
        };
        let (Some(&now), Some(&before)) = (last.first(), last.last()) else {
            continue;
        };
        if last.contains(&0) {
            continue;
        }
        let time = SAMPLE_NS / 1_000_000_000 * (BACKLOG_SAMPLES as u64 - 1);
        let limit = listener.limit;
        let percent = app.settings.thresholds.backlog_percent;
        let is_much = u64::from(now) * 100 >= u64::from(limit) * u64::from(percent);
        let grows = now > before && last.is_sorted_by(|later, earlier| later >= earlier);
        let evidence = format!(
            "{now} of at most {limit} connections wait at {address}; {time} s ago it was {before}"
        );
        let kind = if grows && is_much {
            Kind::BacklogGrowing
        } else {
            Kind::Saturated
        };
        add(found, kind, None, evidence);
    }
}

/// Counts only workers that lived at every sample.
fn spread(app: &AppInput, found: &mut Vec<Found>) {
    let samples = app.past.samples();
    if samples < SPREAD_SAMPLES {
        return;
    }
    let served = |worker: &WorkerInput| {
        let past = worker.past.samples();
        let first = past.front().filter(|_| past.len() == samples)?;
        Some((worker.pid, worker.requests.saturating_sub(first.requests)))
    };
    let served: Vec<(Pid, u64)> = app.workers.iter().filter_map(served).collect();
    let all: u64 = served.iter().map(|(_, requests)| requests).sum();
    let Some(&(pid, most)) = served.iter().max_by_key(|(_, requests)| *requests) else {
        return;
    };
    let percent = app.settings.thresholds.one_worker_percent;
    let is_most = most * 100 >= all * u64::from(percent);
    if served.len() > 1 && all >= SPREAD_REQUESTS && is_most {
        let evidence = format!(
            "the worker served {most} of the last {all} requests of {} workers",
            served.len()
        );
        add(found, Kind::OneWorkerBusy, Some(pid), evidence);
    }
}

fn memory(app: &AppInput, found: &mut Vec<Found>) {
    for worker in &app.workers {
        let past = worker.past.samples().iter();
        let of = past.filter_map(|sample| Some((sample.requests, sample.resident_bytes?)));
        let of: Vec<(u64, u64)> = of.collect();
        // One step is no growth. With many workers, only every second sample is new.
        let rises = of
            .windows(2)
            .filter(|pair| matches!(pair, [(_, a), (_, b)] if b > a));
        let is_growth = rises.count() * 3 >= of.len();
        if of.len() < MEMORY_SAMPLES || !is_growth || !of.is_sorted_by_key(|&(_, bytes)| bytes) {
            continue;
        }
        let (Some(&(requests_before, before)), Some(&(requests, bytes))) = (of.first(), of.last())
        else {
            continue;
        };
        let (grown, served) = (bytes - before, requests.saturating_sub(requests_before));
        let percent = app.settings.thresholds.memory_percent;
        let is_much = grown * 100 >= before * u64::from(percent);
        if let (true, Some(each)) = (grown >= MEMORY_BYTES && is_much, grown.checked_div(served)) {
            let evidence = format!(
                "memory grew by {} to {} within {:.0} s: {} per request",
                Bytes(grown),
                Bytes(bytes),
                seconds(SAMPLE_NS) * (of.len() - 1) as f64,
                Bytes(each)
            );
            add(found, Kind::MemoryGrows, Some(worker.pid), evidence);
        }
    }
}
