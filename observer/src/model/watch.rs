//! What is found about an app: the rules, and the past that they look at.

use super::app::App;
use super::finding::{Bytes, Kind, Thresholds};
use super::settings::Settings;
use crate::event::Pid;
use crate::model::happened::{PendingView, seconds};
use std::collections::{BTreeMap, VecDeque};

const SECOND_NS: u64 = 1_000_000_000;
/// The past is looked at this often, and so much of it is kept: two minutes.
const SAMPLE_NS: u64 = 5 * SECOND_NS;
const SAMPLES: usize = 24;
/// Samples in a row that make a backlog one that stays or grows.
const BACKLOG_SAMPLES: usize = 3;
/// Samples that make growing memory more than a warm-up.
const MEMORY_SAMPLES: usize = 12;
const MEMORY_BYTES: u64 = 8 << 20;
/// Requests that say anything of how they are spread.
const SPREAD_REQUESTS: u64 = 100;
/// Ends of workers are counted over this time.
const RESTARTS_NS: u64 = 60 * SECOND_NS;
/// Their times that are kept: as many as any threshold may sensibly be.
const RESTARTS: usize = 1000;

/// The past of an app.
#[derive(Debug, Default)]
pub struct Watch {
    samples: VecDeque<Sample>,
    sampled_ns: u64,
    /// When workers ended in trouble.
    troubles: VecDeque<u64>,
}

/// Connections that wait, by listener.
type Sample = BTreeMap<String, u32>;

/// A worker at each of the samples that there are and it lived at, the oldest first.
pub type WorkerPast = VecDeque<WorkerSample>;

#[derive(Clone, Copy, Debug)]
pub struct WorkerSample {
    requests: u64,
    resident_bytes: Option<u64>,
}

/// Something found, and of which worker.
type Found = (Kind, Option<Pid>, String);

impl Watch {
    /// A worker ended in trouble.
    pub fn trouble(&mut self, time_ns: u64) {
        self.troubles.push_back(time_ns);
        if self.troubles.len() > RESTARTS {
            self.troubles.pop_front();
        }
    }
}

/// Remembers how an app is now, if it is time for that.
pub fn sample(app: &mut App, now_ns: u64) {
    if app.watch.sampled_ns != 0 && now_ns < app.watch.sampled_ns + SAMPLE_NS {
        return;
    }
    let of_worker = |worker: &super::worker::Worker| WorkerSample {
        requests: worker.tally.requests,
        resident_bytes: worker.gauges.as_ref().map(|gauges| gauges.resident_bytes),
    };
    for worker in app.live.values_mut() {
        let sample = of_worker(worker);
        push(&mut worker.past, sample);
    }
    let backlog = app.listeners.iter();
    let backlog = backlog.map(|listener| (listener.address.clone(), listener.backlog));
    let sample = backlog.collect();
    app.watch.sampled_ns = now_ns;
    push(&mut app.watch.samples, sample);
}

fn push<T>(samples: &mut VecDeque<T>, sample: T) {
    samples.push_back(sample);
    if samples.len() > SAMPLES {
        samples.pop_front();
    }
}

/// Everything found about an app.
pub fn find(app: &App, settings: &Settings, now_ns: u64) -> Vec<Found> {
    let mut found = Vec::new();
    if app.ended_ns.is_some() {
        return found;
    }
    let thresholds = &settings.thresholds;
    stuck(app, settings, now_ns, &mut found);
    heartbeats(app, thresholds, &mut found);
    restarts(app, thresholds, now_ns, &mut found);
    backlogs(app, thresholds, &mut found);
    spread(app, thresholds, &mut found);
    memory(app, thresholds, &mut found);
    found
}

fn stuck(app: &App, settings: &Settings, now_ns: u64, found: &mut Vec<Found>) {
    for (&pid, worker) in &app.live {
        let Some(oldest) = worker.life.in_flight.oldest.first() else {
            continue;
        };
        if now_ns.saturating_sub(oldest.begun_ns) < settings.thresholds.stuck_ns {
            continue;
        }
        let PendingView {
            method,
            route,
            age_seconds,
            ..
        } = PendingView::new(&settings.routes, oldest, now_ns);
        let count = worker.life.in_flight.count;
        let evidence = format!(
            "{} {} is in progress for {age_seconds:.1} s; the worker has {count} in all",
            method.as_deref().unwrap_or("a request"),
            if route.is_empty() {
                "of an unknown path"
            } else {
                &route
            },
        );
        found.push((Kind::WorkerStuck, Some(pid), evidence));
    }
}

fn heartbeats(app: &App, thresholds: &Thresholds, found: &mut Vec<Found>) {
    let Some(timeout) = app.master.timeout_seconds.filter(|&timeout| timeout > 0) else {
        return;
    };
    let late = f64::from(timeout) * f64::from(thresholds.heartbeat_percent) / 100.0;
    for (&pid, worker) in &app.live {
        let age = worker
            .gauges
            .as_ref()
            .and_then(|gauges| gauges.heartbeat_age_seconds);
        if let Some(age) = age.filter(|&age| age >= late) {
            let evidence = format!(
                "its last heartbeat was {age:.1} s ago; its master gives it up after {timeout} s"
            );
            found.push((Kind::HeartbeatLate, Some(pid), evidence));
        }
    }
}

fn restarts(app: &App, thresholds: &Thresholds, now_ns: u64, found: &mut Vec<Found>) {
    let since_ns = now_ns.saturating_sub(RESTARTS_NS);
    let ended = app
        .watch
        .troubles
        .iter()
        .filter(|&&at_ns| at_ns >= since_ns)
        .count();
    if ended < usize::try_from(thresholds.restarts).unwrap_or(usize::MAX) {
        return;
    }
    let last = app
        .ended
        .iter()
        .rev()
        .find(|w| w.reason.is_some_and(|(r, _)| r.is_trouble()));
    let last = last.and_then(|worker| worker.reason);
    let last = last.map_or("unknown", |(reason, _)| reason.as_str());
    let evidence = format!("{ended} workers ended within a minute, the last one by {last}");
    found.push((Kind::RestartLoop, None, evidence));
}

fn backlogs(app: &App, thresholds: &Thresholds, found: &mut Vec<Found>) {
    let samples = &app.watch.samples;
    if samples.len() < BACKLOG_SAMPLES {
        return;
    }
    for listener in &app.listeners {
        let of = |sample: &Sample| sample.get(&listener.address).copied().unwrap_or(0);
        let last: Vec<u32> = samples.iter().rev().take(BACKLOG_SAMPLES).map(of).collect();
        let (Some(&now), Some(&before)) = (last.first(), last.last()) else {
            continue;
        };
        if last.contains(&0) {
            continue;
        }
        let time = SAMPLE_NS / SECOND_NS * (BACKLOG_SAMPLES as u64 - 1);
        let address = &listener.address;
        let limit = listener.limit;
        let is_much =
            u64::from(now) * 100 >= u64::from(limit) * u64::from(thresholds.backlog_percent);
        let grows = now > before && last.is_sorted_by(|later, earlier| later >= earlier);
        let evidence = format!(
            "{now} of at most {limit} connections wait at {address}, {before} waited {time} s before"
        );
        if grows && is_much {
            found.push((Kind::BacklogGrowing, None, evidence));
        } else {
            found.push((Kind::Saturated, None, evidence));
        }
    }
}

/// Only of workers that were there all the time.
fn spread(app: &App, thresholds: &Thresholds, found: &mut Vec<Found>) {
    let samples = app.watch.samples.len();
    if samples < 3 {
        return;
    }
    let served = |(pid, worker): (&Pid, &super::worker::Worker)| {
        let was_there = worker.past.len() == samples;
        let before = worker.past.front().filter(|_| was_there)?;
        Some((*pid, worker.tally.requests.saturating_sub(before.requests)))
    };
    let served: Vec<(Pid, u64)> = app.live.iter().filter_map(served).collect();
    let all: u64 = served.iter().map(|(_, requests)| requests).sum();
    let Some(&(pid, most)) = served.iter().max_by_key(|(_, requests)| *requests) else {
        return;
    };
    let is_most = most * 100 >= all * u64::from(thresholds.one_worker_percent);
    if served.len() > 1 && all >= SPREAD_REQUESTS && is_most {
        let evidence = format!(
            "it served {most} of the last {all} requests of {} workers",
            served.len()
        );
        found.push((Kind::OneWorkerBusy, Some(pid), evidence));
    }
}

fn memory(app: &App, thresholds: &Thresholds, found: &mut Vec<Found>) {
    for (&pid, worker) in &app.live {
        let past = worker.past.iter();
        let of = past.filter_map(|sample| Some((sample.requests, sample.resident_bytes?)));
        let of: Vec<(u64, u64)> = of.collect();
        // One step is no growth; but where there are many workers, each second sample is new only.
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
        let is_much = grown * 100 >= before * u64::from(thresholds.memory_percent);
        if let (true, Some(each)) = (grown >= MEMORY_BYTES && is_much, grown.checked_div(served)) {
            let evidence = format!(
                "it grew by {} to {} within {:.0} s, {} for each request",
                Bytes(grown),
                Bytes(bytes),
                seconds(SAMPLE_NS) * (of.len() - 1) as f64,
                Bytes(each)
            );
            found.push((Kind::MemoryGrows, Some(pid), evidence));
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
