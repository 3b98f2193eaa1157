//! Builds the live view and the history from the state.

use crate::counters::app_counters::Method;
use crate::counters::histogram::{HISTORY, Histogram};
use crate::counters::worker_counters::Phase;
use crate::duration::seconds as in_seconds;
use crate::fact::{Listener, TargetLevel};
use crate::lifecycle::exit_reason::ExitReason;
use crate::lifecycle::worker_event::WorkerExit;
use crate::recent::history::{BIN_NS, BINS, Bin};
use crate::recent::top_requests::{PhaseSums, RouteStats, Slow};
use crate::settings::Settings;
use crate::state::State;
use crate::state::app::App;
use crate::state::worker::Worker;
use crate::untrusted::Untrusted;
use crate::views::live_view as api;
use crate::views::live_view::history::{AppHistory, History};
use crate::views::live_view::{Limited, LiveView, Phases, Point, Rates};
use crate::views::metrics_view::{ObserverView, http_errors};
use crate::wall_clock::Clock;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Most routes, and most errors, of an app in the view.
const MAX_ROWS: usize = 50;
/// Points of an app in the view: the current one and the last complete one.
const LAST_POINTS: usize = 2;
/// Time that the rates of an app cover.
const RATE_NS: u64 = 60_000_000_000;

impl State {
    /// The live view at `now_ns`.
    #[must_use]
    pub fn live_view(&self, now_ns: u64) -> LiveView {
        let clock = self.clock(now_ns);
        let observer = self.observer_view();
        let apps = self.apps.values().map(|app| {
            let level = self.observer.levels.get(&app.master.pid);
            app_view(app, level, &self.settings, &clock)
        });
        let mut findings: Vec<_> = self.findings().collect();
        findings.sort_by(|one, other| {
            let since = one.since_seconds.total_cmp(&other.since_seconds);
            one.finding.cmp(&other.finding).then(since)
        });
        LiveView {
            time_seconds: clock.wall_seconds(now_ns),
            findings,
            apps: apps.collect(),
            events: self.worker_events.iter().cloned().collect(),
            observer: observer_row(&observer),
        }
    }

    /// The points of all apps that end after the Unix time `since_seconds`.
    #[must_use]
    pub fn history(&self, now_ns: u64, since_seconds: f64) -> History {
        let clock = self.clock(now_ns);
        let since_ns = clock.monotonic_ns(since_seconds);
        let of = |app: &App| AppHistory {
            master_pid: app.master.pid,
            points: app
                .history
                .since(since_ns)
                .map(|bin| point(bin, &clock))
                .collect(),
        };
        let limits = Histogram::new(&HISTORY);
        History {
            point_seconds: in_whole_seconds(BIN_NS),
            kept_seconds: in_whole_seconds(BIN_NS * BINS as u64),
            limits_seconds: limits.cumulative().map(|(limit, _)| limit).collect(),
            apps: self.apps.values().map(of).collect(),
        }
    }
}

fn in_whole_seconds(ns: u64) -> u32 {
    u32::try_from(ns / 1_000_000_000).unwrap_or(u32::MAX)
}

fn app_view(
    app: &App,
    level: Option<&TargetLevel>,
    settings: &Settings,
    clock: &Clock,
) -> api::App {
    let master = &app.master;
    let live = app.live.values();
    let oldest = live
        .clone()
        .filter_map(|worker| worker.state.in_flight.oldest.first())
        .min_by_key(|pending| pending.begun_ns);
    let workers = live.clone().chain(&app.ended);
    let (routes, routes_left_off) = routes(app);
    let (errors, errors_left_off) = errors(app);
    let points = app.history.since(0).rev().take(LAST_POINTS);
    let mut points: Vec<Point> = points.map(|bin| point(bin, clock)).collect();
    points.reverse();
    api::App {
        app: text(app.name()),
        master_pid: master.pid,
        ended: app.ended_ns.is_some(),
        level: level.map_or("", |of| of.level.as_str()).into(),
        level_reason: text(level.map_or("", |of| &of.reason)),
        started_seconds: clock.wall_seconds(master.started_ns),
        gunicorn_version: text(&master.gunicorn_version),
        python_version: text(&master.python_version),
        worker_class: text(app.default_class()),
        workers_wanted: master.workers,
        workers_live: u32::try_from(app.live.len()).unwrap_or(u32::MAX),
        threads: master.threads,
        timeout_seconds: master.timeout_seconds,
        bind: master.bind.iter().map(|address| text(address)).collect(),
        container_id: text(&master.container_id),
        pod_uid: text(&master.pod_uid),
        namespace: text(&master.pod.namespace),
        pod: text(&master.pod.name),
        container: text(&master.pod.container),
        node: text(&master.pod.node),
        workload_kind: text(&master.pod.workload_kind),
        workload: text(&master.pod.workload),
        requests_total: app.parts().map(|counters| counters.requests).sum(),
        errors_total: app.parts().map(|counters| counters.errors).sum(),
        now: rates(app, clock.now_ns),
        in_flight: live.map(|worker| worker.state.in_flight.count).sum(),
        oldest_request: oldest.map(|of| app.pending(settings, of, clock.now_ns)),
        workers: workers
            .map(|worker| worker_row(app, settings, worker, clock))
            .collect(),
        listeners: app.listeners.iter().map(listener).collect(),
        routes,
        routes_left_off,
        errors,
        errors_left_off,
        slowest: app
            .recent
            .slowest()
            .into_iter()
            .map(|slow| slow_row(app, slow, clock))
            .collect(),
        ends: ExitReason::ALL
            .iter()
            .map(|reason| {
                let count = app.ends.get(reason).copied().unwrap_or(0);
                (reason.as_str().to_owned(), count)
            })
            .collect(),
        timeouts: timeouts(app),
        points,
    }
}

fn text(text: &str) -> Untrusted {
    text.to_owned().into()
}

fn listener(listener: &Listener) -> api::Listener {
    api::Listener {
        address: text(&listener.address),
        backlog: listener.backlog,
        limit: listener.limit,
        drops: listener.drops,
    }
}

/// Whatever the class of the workers.
fn timeouts(app: &App) -> BTreeMap<Untrusted, u64> {
    let mut timeouts = BTreeMap::new();
    for ((_, stuck_in), count) in &app.timeouts {
        *timeouts.entry(text(stuck_in)).or_default() += count;
    }
    timeouts
}

/// Rates of the last minute.
#[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
fn rates(app: &App, now_ns: u64) -> Rates {
    let Some(bin) = app.history.sum(now_ns.saturating_sub(RATE_NS)) else {
        return Rates::default();
    };
    // The first bin counts as a whole one, even if the observer attached within it.
    let passed = in_seconds(now_ns.saturating_sub(bin.begin_ns).max(1_000_000_000));
    Rates {
        requests_per_second: bin.requests as f64 / passed,
        errors_per_second: bin.errors as f64 / passed,
        p50_seconds: bin.durations.quantile(0.5),
        p95_seconds: bin.durations.quantile(0.95),
        p99_seconds: bin.durations.quantile(0.99),
        queue_p95_seconds: bin.queue.quantile(0.95),
        utilisation: bin.utilisation(),
    }
}

fn point(bin: &Bin, clock: &Clock) -> Point {
    Point {
        time_seconds: clock.wall_seconds(bin.begin_ns),
        requests: bin.requests,
        errors: bin.errors,
        p50_seconds: bin.durations.quantile(0.5),
        p95_seconds: bin.durations.quantile(0.95),
        p99_seconds: bin.durations.quantile(0.99),
        queue_p95_seconds: bin.queue.quantile(0.95),
        utilisation: bin.utilisation(),
        in_flight: bin.in_flight,
        backlog: bin.backlog,
        durations: bin.durations.counts(),
    }
}

/// The routes that took most of the time, and how many others there are.
fn routes(app: &App) -> (Vec<api::Route>, usize) {
    let mut all: Vec<_> = app.recent.routes().into_iter().collect();
    let left_off = all.len().saturating_sub(MAX_ROWS);
    all.sort_by(|(_, a), (_, b)| b.durations.sum().total_cmp(&a.durations.sum()));
    all.truncate(MAX_ROWS);
    let row = |((method, route), stats): ((Method, _), RouteStats)| api::Route {
        method: method.as_str().into(),
        route: text(app.counters.routes.name(route)),
        requests: stats.requests,
        errors: stats.errors,
        p50_seconds: stats.durations.quantile(0.5),
        p95_seconds: stats.durations.quantile(0.95),
        p99_seconds: stats.durations.quantile(0.99),
        total_seconds: stats.durations.sum(),
        phases: means(&stats.phases),
    };
    (all.into_iter().map(row).collect(), left_off)
}

fn means(sums: &PhaseSums) -> Phases {
    Phases {
        queue_seconds: sums.mean_seconds(Phase::Queue),
        dispatch_seconds: sums.mean_seconds(Phase::Dispatch),
        read_seconds: sums.mean_seconds(Phase::Read),
        app_seconds: sums.mean_seconds(Phase::App),
        write_seconds: sums.mean_seconds(Phase::Write),
    }
}

/// The most frequent errors, whatever the class of the worker, and how many others there are.
fn errors(app: &App) -> (Vec<api::Error>, usize) {
    let mut all = http_errors(app);
    let left_off = all.len().saturating_sub(MAX_ROWS);
    all.sort_by_key(|error| Reverse(error.count));
    all.truncate(MAX_ROWS);
    let rows = all.into_iter().map(|error| api::Error {
        method: error.method.into(),
        endpoint: error.endpoint.into(),
        status: error.status,
        error_type: error.error_type.into(),
        raised_in: error.raised_in.into(),
        count: error.count,
    });
    (rows.collect(), left_off)
}

fn slow_row(app: &App, slow: &Slow, clock: &Clock) -> api::Slow {
    api::Slow {
        time_seconds: clock.wall_seconds(slow.finished_ns),
        worker_pid: slow.worker_pid,
        method: slow.method.as_str().into(),
        route: text(app.counters.routes.name(slow.route)),
        path: slow.path.clone(),
        status: slow.status,
        duration_seconds: in_seconds(slow.duration_ns),
        phases: means(&slow.phases),
    }
}

fn worker_row(app: &App, settings: &Settings, worker: &Worker, clock: &Clock) -> api::Worker {
    let is_live = worker.end.is_none();
    let state = &worker.state;
    let oldest = state.in_flight.oldest.first().filter(|_| is_live);
    let gauges = worker.gauges.as_ref().filter(|_| is_live);
    let rate = worker.rate.lately().filter(|_| is_live);
    let (exit_code, exit_signal) = WorkerExit::status(worker.end.and_then(|end| end.status));
    api::Worker {
        pid: worker.pid,
        id: worker.id(clock.wall_offset_ns),
        slot: worker.slot,
        class: text(&app.class_of(worker)),
        state: state.stage().filter(|_| is_live),
        uptime_seconds: worker.uptime_seconds(clock),
        ended: !is_live,
        exit_code,
        exit_signal,
        reason: worker.reason.map(|(reason, _)| reason),
        restart_type: worker.reason.map(|(_, exit_kind)| exit_kind),
        requests_total: worker.total().requests,
        requests_per_second: rate.map(|(requests, _)| requests),
        busy: rate.map(|(_, busy)| busy),
        in_flight: if is_live { state.in_flight.count } else { 0 },
        oldest_request: oldest.map(|of| app.pending(settings, of, clock.now_ns)),
        memory_bytes: gauges.map(|of| of.resident_bytes),
        cpu_percent: worker.cpu_percent.filter(|_| is_live),
        threads: gauges.map(|of| of.threads),
        open_fds: gauges.and_then(|of| of.open_fds),
        heartbeat_age_seconds: gauges.and_then(|of| of.heartbeat_age_seconds),
    }
}

/// The observer itself, as far as it matters to somebody who looks at apps.
fn observer_row(observer: &ObserverView) -> api::Observer {
    let lost = observer.losses();
    let usage = observer.usage.as_ref();
    let limited = observer.targets.iter().filter(|of| of.level != "full");
    api::Observer {
        version: text(&observer.version),
        lost: lost.map(|(cause, &count)| (text(cause), count)).collect(),
        limited: limited
            .map(|target| Limited {
                pid: target.pid,
                app: text(&target.app),
                level: target.level.into(),
                reason: text(&target.reason),
            })
            .collect(),
        cpu_seconds: usage.map(|usage| usage.cpu_seconds),
        resident_bytes: usage.map(|usage| usage.resident_bytes),
    }
}
