//! The snapshot of the state.

use super::app::{App, UNKNOWN};
use super::ending::Reason;
use super::finding::Finding;
use super::happened::{PendingView, seconds};
use super::ledger::Ledger;
use super::life::signal;
use super::observer::Observer;
use super::settings::Settings;
use super::skipped;
use super::state::State;
use super::tally::{ErrorKey, Errors, Phase};
use super::worker::Worker;
use crate::fact::Look;
use crate::snapshot::{
    AppView, ClassView, ErrorView, HttpErrorView, HttpView, LookView, ObserverView, PhaseView,
    SlotView, Snapshot, TargetView, TimeoutView, WorkerView,
};
use std::sync::Arc;

impl State {
    /// The view of everything at `now_ns`.
    #[must_use]
    pub fn snapshot(&self, now_ns: u64) -> Snapshot {
        let clock = self.clock(now_ns);
        Snapshot {
            apps: self
                .apps
                .values()
                .map(|app| app_view(app, &self.settings, &clock))
                .collect(),
            findings: self.findings().collect(),
            observer: self.observer_view(),
        }
    }

    pub(super) fn clock(&self, now_ns: u64) -> Clock {
        Clock {
            now_ns,
            wall_offset_ns: self.observer.wall_offset_ns(),
        }
    }

    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> {
        self.findings_with_keys().map(|(_, finding)| finding)
    }

    fn looks(&self) -> Vec<LookView> {
        let view = |look: &Look| LookView {
            pid: look.pid,
            app: self
                .apps
                .get(&look.pid)
                .map(|app| app.name().to_owned())
                .unwrap_or_default(),
            state: look.state.as_str(),
            reason: look.reason.clone(),
        };
        self.looks.told.values().map(view).collect()
    }

    pub(super) fn observer_view(&self) -> ObserverView {
        let Observer {
            started,
            kernel,
            usage,
            kubernetes,
            levels,
            malformed,
            ..
        } = &self.observer;
        let mut lost = kernel.lost.clone();
        for (why, count) in malformed {
            lost.insert(format!("malformed_{why}"), *count);
        }
        lost.insert("unclaimed".to_owned(), self.observer.unclaimed_requests);
        lost.insert("exceptions_forgotten".to_owned(), self.exceptions.forgotten);
        let missed = skipped::lost(&kernel.programs);
        lost.insert("recursion".to_owned(), missed);
        let targets = levels.values().map(|level| TargetView {
            pid: level.pid,
            app: self
                .apps
                .get(&level.pid)
                .map(|app| app.name().to_owned())
                .unwrap_or_default(),
            level: level.level.as_str(),
            reason: level.reason.clone(),
        });
        ObserverView {
            version: started
                .as_ref()
                .map(|s| s.version.clone())
                .unwrap_or_default(),
            revision: started
                .as_ref()
                .map(|s| s.revision.clone())
                .unwrap_or_default(),
            events: [
                ("request", self.observer.requests),
                ("fork", self.observer.forks),
                ("exec", self.observer.execs),
                ("exit", self.observer.exits),
                ("exception", self.observer.exceptions),
                ("unwound", self.observer.unwound),
                ("signal", self.observer.signals),
                ("oom", self.observer.ooms),
                ("stack", self.observer.stacks),
                ("gc", self.observer.collections),
                ("malformed", malformed.values().sum()),
            ]
            .into(),
            lost,
            counts: kernel.counts.clone(),
            programs: kernel.programs.clone(),
            features: kernel.features.clone(),
            map_entries: self.observer.map_entries.clone(),
            targets: targets.collect(),
            looks: self.looks(),
            looks_begun: self.looks.begun,
            looks_agreed: self.looks.agreed,
            looks_disagreed: self.looks.disagreed,
            cpu_seconds: usage.as_ref().map(|usage| usage.cpu_seconds),
            resident_bytes: usage.as_ref().map(|usage| usage.resident_bytes),
            kubernetes: *kubernetes,
        }
    }
}

/// Unix time of a monotonic one.
pub(super) fn wall_seconds(time_ns: u64, wall_offset_ns: i64) -> f64 {
    let clock = Clock {
        now_ns: time_ns,
        wall_offset_ns,
    };
    clock.wall_seconds(time_ns)
}

/// Ties monotonic times to the wall.
pub(super) struct Clock {
    pub now_ns: u64,
    pub wall_offset_ns: i64,
}

impl Clock {
    fn wall_ns(&self, time_ns: u64) -> i128 {
        i128::from(time_ns) + i128::from(self.wall_offset_ns)
    }

    #[expect(clippy::cast_precision_loss, reason = "shown as a float")]
    pub fn wall_seconds(&self, time_ns: u64) -> f64 {
        self.wall_ns(time_ns) as f64 / 1e9
    }

    /// The monotonic time of a Unix time; the nearest there is.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float takes the nearest integer that there is"
    )]
    pub fn monotonic_ns(&self, wall_seconds: f64) -> u64 {
        (wall_seconds * 1e9 - self.wall_offset_ns as f64) as u64
    }

    fn seconds_since(&self, time_ns: u64) -> f64 {
        seconds(self.now_ns.saturating_sub(time_ns))
    }
}

fn app_view(app: &App, settings: &Settings, clock: &Clock) -> AppView {
    let App { master, ledger, .. } = app;
    let workers = app.live.values().chain(&app.ended);
    AppView {
        app: app.name().to_owned(),
        master_pid: master.pid,
        ended: app.ended_ns.is_some(),
        observed: app.observed,
        gunicorn_version: master.gunicorn_version.clone(),
        python_version: master.python_version.clone(),
        worker_class: app.default_class().to_owned(),
        workers_wanted: master.workers,
        threads: master.threads,
        timeout_seconds: master.timeout_seconds,
        container_id: master.container_id.clone(),
        container_runtime: master.container_runtime.clone(),
        pod_uid: master.pod_uid.clone(),
        pod: (*master.pod).clone(),
        bind: master.bind.clone(),
        workers_live: u32::try_from(app.live.len()).unwrap_or(u32::MAX),
        workers: workers
            .map(|worker| worker_view(app, settings, worker, clock))
            .collect(),
        slots: slots(app),
        classes: ledger
            .totals
            .iter()
            .map(|(&id, tally)| ClassView {
                class: ledger.class_name(id),
                failed: errors(ledger, &tally.failed),
                handled: errors(ledger, &tally.handled),
                tally: tally.clone(),
            })
            .collect(),
        http: http(app),
        http_errors: http_errors(app),
        phases: ledger
            .phases
            .iter()
            .flat_map(|(&id, times)| Phase::ALL.into_iter().zip(times).map(move |of| (id, of)))
            .filter(|(_, (_, duration))| duration.count() > 0)
            .map(|(id, (phase, duration))| PhaseView {
                class: ledger.class_name(id),
                phase,
                duration: duration.clone(),
            })
            .collect(),
        signals: app
            .signals
            .iter()
            .map(|(&number, &count)| (signal::name(number), count))
            .collect(),
        ends: Reason::ALL
            .iter()
            .map(|reason| (reason.as_str(), app.ends.get(reason).copied().unwrap_or(0)))
            .collect(),
        timeouts: app
            .timeouts
            .iter()
            .map(|((class, stuck_in), &count)| TimeoutView {
                class: ledger.class_name(*class),
                stuck_in: stuck_in.clone(),
                count,
            })
            .collect(),
        listeners: app.listeners.clone(),
        capped_requests: ledger.routes.capped(),
        capped_errors: ledger.names.capped,
    }
}

fn slots(app: &App) -> Vec<SlotView> {
    let view = |(&(slot, class), tally): (&(u32, _), &super::tally::Tally)| SlotView {
        slot,
        class: app.ledger.class_name(class),
        failed: errors(&app.ledger, &tally.failed),
        handled: errors(&app.ledger, &tally.handled),
        tally: tally.clone(),
    };
    app.slots.iter().map(view).collect()
}

fn http(app: &App) -> Vec<HttpView> {
    let ledger = &app.ledger;
    let series = ledger.http.iter().map(|(key, duration)| HttpView {
        class: ledger.class_name(key.class),
        method: key.method.as_str(),
        route: ledger.routes.name(key.route).to_owned(),
        status: key.status,
        error_type: match key.status {
            Some(status @ 500..) => status.to_string(),
            _ => String::new(),
        },
        duration: duration.clone(),
    });
    series.collect()
}

fn errors(ledger: &Ledger, errors: &Errors) -> Vec<ErrorView> {
    let view = |(key, count): (&ErrorKey, &u64)| ErrorView {
        method: key.method.as_str(),
        endpoint: ledger.routes.name(key.route).to_owned(),
        error_type: ledger.names.shown(&key.error),
        count: *count,
    };
    errors.iter().map(view).collect()
}

pub(super) fn http_errors(app: &App) -> Vec<HttpErrorView> {
    let ledger = &app.ledger;
    let series = ledger
        .http_errors
        .iter()
        .map(|(key, &count)| HttpErrorView {
            class: ledger.class_name(key.class),
            method: key.method.as_str(),
            endpoint: ledger.routes.name(key.route).to_owned(),
            status: key.status,
            error_type: ledger.names.shown(&key.error),
            raised_in: key.raised_in.clone(),
            count,
        });
    series.collect()
}

/// `worker_<age>_<start>`.
pub(super) fn worker_id(worker: &Worker, wall_offset_ns: i64) -> String {
    let age = worker
        .age
        .map_or_else(|| UNKNOWN.to_owned(), |age| age.to_string());
    let start = worker
        .started_ns
        .map(|ns| (i128::from(ns) + i128::from(wall_offset_ns)).div_euclid(1_000_000_000));
    let start = start.map_or_else(|| UNKNOWN.to_owned(), |start| start.to_string());
    format!("worker_{age}_{start}")
}

/// Since it started; `None` once it ended.
pub(super) fn uptime_seconds(worker: &Worker, clock: &Clock) -> Option<f64> {
    let started_ns = worker.started_ns.filter(|_| worker.end.is_none())?;
    Some(clock.seconds_since(started_ns))
}

fn worker_view(app: &App, settings: &Settings, worker: &Worker, clock: &Clock) -> WorkerView {
    let is_live = worker.end.is_none();
    let oldest = worker.life.in_flight.oldest.first().filter(|_| is_live);
    let class: Arc<str> = worker
        .class
        .clone()
        .unwrap_or_else(|| app.default_class().into());
    WorkerView {
        pid: worker.pid,
        id: worker_id(worker, clock.wall_offset_ns),
        slot: worker.slot,
        class,
        age: worker.age,
        confirmed: worker.confirmed,
        uptime_seconds: uptime_seconds(worker, clock),
        ended: worker.end.is_some(),
        reason: worker.reason.map(|(reason, _)| reason),
        restart_type: worker.reason.map(|(_, manner)| manner),
        state: worker.life.stage().filter(|_| is_live),
        gauges: worker.gauges.clone().filter(|_| is_live),
        cpu_percent: worker.cpu_percent.filter(|_| is_live),
        in_flight: if is_live {
            worker.life.in_flight.count
        } else {
            0
        },
        oldest_request: oldest.map(|of| PendingView::new(&settings.routes, of, clock.now_ns)),
        failed: errors(&app.ledger, &worker.tally.failed),
        handled: errors(&app.ledger, &worker.tally.handled),
        tally: worker.tally.clone(),
    }
}
