//! Builds the view for `/metrics`.

use crate::counters::app_counters::AppCounters;
use crate::counters::unanswered::Unanswered;
use crate::counters::worker_counters::{Counters, ErrorKey, Errors, Phase};
use crate::fact::{DeepCapture, DirtyRole};
use crate::lifecycle::exit_reason::ExitReason;
use crate::lifecycle::signal;
use crate::settings::Settings;
use crate::state::State;
use crate::state::app::{App, BySlot};
use crate::state::master_exits::AppExits;
use crate::state::recursion_misses;
use crate::state::self_metrics::SelfMetrics;
use crate::state::worker::Worker;
use crate::views::metrics_view::{
    AppView, ClassView, DeepCaptureView, DirtyView, ErrorView, HttpErrorView, HttpView,
    MasterExitsView, MetricsView, ObserverView, PhaseView, SlotView, TargetView, TimeoutView,
    WaitingView, WorkerView,
};
use crate::wall_clock::Clock;
use std::collections::BTreeMap;
use std::sync::Arc;

impl State {
    /// The view for `/metrics` at `now_ns`.
    #[must_use]
    pub fn metrics_view(&self, now_ns: u64) -> MetricsView {
        let clock = self.clock(now_ns);
        MetricsView {
            apps: self
                .apps
                .values()
                .map(|app| AppView {
                    dirty: self.dirty_view(app),
                    ..app_view(app, &self.settings, &clock)
                })
                .collect(),
            findings: self.findings().collect(),
            master_exits: self.master_exits(),
            observer: self.observer_view(),
        }
    }

    pub(crate) fn clock(&self, now_ns: u64) -> Clock {
        Clock {
            now_ns,
            wall_offset_ns: self.observer.wall_offset_ns(),
        }
    }

    fn master_exits(&self) -> Vec<MasterExitsView> {
        let observed = self.apps.values().filter(|app| app.observed);
        let exits = self.master_exits.with(observed).into_iter();
        let view = |exits: AppExits| MasterExitsView {
            counts: exits.counts(),
            app: exits.app,
            pod: exits.pod,
        };
        exits.map(view).collect()
    }

    fn dirty_view(&self, app: &App) -> Option<DirtyView> {
        let ends = app.dirty_ends.as_ref()?;
        let live = |role| {
            let of = self.dirty.values().map(|it| it.fact);
            let of = of.filter(|it| it.master_pid == app.master.pid && it.role == role);
            u32::try_from(of.count()).unwrap_or(u32::MAX)
        };
        let count = |role: DirtyRole, reason: ExitReason| {
            let key = (role.as_str(), reason.as_str());
            (key, ends.get(&(role, reason)).copied().unwrap_or(0))
        };
        let ends = DirtyRole::ALL
            .into_iter()
            .flat_map(|role| ExitReason::ALL.map(|reason| count(role, reason)));
        Some(DirtyView {
            live: DirtyRole::ALL
                .map(|role| (role.as_str(), live(role)))
                .into(),
            ends: ends.collect(),
        })
    }

    fn deep_captures(&self) -> Vec<DeepCaptureView> {
        let view = |capture: &DeepCapture| DeepCaptureView {
            pid: capture.pid,
            app: self
                .apps
                .get(&capture.pid)
                .map(|app| app.name().to_owned())
                .unwrap_or_default(),
            state: capture.state.as_str(),
            reason: capture.reason.clone(),
        };
        self.deep_captures.latest.values().map(view).collect()
    }

    pub(crate) fn observer_view(&self) -> ObserverView {
        let SelfMetrics {
            started,
            kernel,
            usage,
            kubernetes,
            app_metrics_errors,
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
        let missed = recursion_misses::lost(&kernel.programs);
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
                ("captured_frame", self.observer.captured_frames),
                ("signal", self.observer.signals),
                ("oom", self.observer.ooms),
                ("stack", self.observer.stacks),
                ("gc", self.observer.gcs),
                ("lost", self.observer.losses),
                ("malformed", malformed.values().sum()),
            ]
            .into(),
            lost,
            counts: kernel.counts.clone(),
            programs: kernel.programs.clone(),
            features: kernel.features.clone(),
            map_entries: self.observer.map_entries.clone(),
            targets: targets.collect(),
            deep_captures: self.deep_captures(),
            deep_captures_begun: self.deep_captures.begun,
            deep_captures_agreed: self.deep_captures.agreed,
            deep_captures_disagreed: self.deep_captures.disagreed,
            usage: usage.clone(),
            kubernetes: *kubernetes,
            app_metrics_errors: app_metrics_errors.clone(),
        }
    }
}

fn app_view(app: &App, settings: &Settings, clock: &Clock) -> AppView {
    let App {
        master, counters, ..
    } = app;
    let workers = app.live.values().chain(&app.ended);
    let by_slot = app.slots();
    let sample = app.gauges.as_ref().filter(|_| app.ended_ns.is_none());
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
        gauges: sample.map(|sample| sample.gauges.clone()),
        cpu_percent: sample.and_then(|sample| sample.cpu_percent),
        workers_live: u32::try_from(app.live.len()).unwrap_or(u32::MAX),
        workers: workers
            .map(|worker| worker_view(app, settings, worker, clock))
            .collect(),
        classes: classes(app, &by_slot),
        slots: slots(app, by_slot),
        http: http(app),
        http_errors: http_errors(app),
        phases: counters
            .phases()
            .flat_map(|(id, times)| Phase::ALL.into_iter().zip(times).map(move |of| (id, of)))
            .filter(|(_, (_, duration))| duration.count() > 0)
            .map(|(id, (phase, duration))| PhaseView {
                class: counters.class_name(id),
                phase,
                duration: duration.clone(),
            })
            .collect(),
        signals: app
            .signals
            .iter()
            .map(|(&number, &count)| (signal::name(number), count))
            .collect(),
        ends: ExitReason::ALL
            .iter()
            .map(|reason| (reason.as_str(), app.ends.get(reason).copied().unwrap_or(0)))
            .collect(),
        unanswered: unanswered(app),
        waiting: waiting(app, clock),
        dirty: None,
        timeouts: app
            .timeouts
            .iter()
            .map(|((class, stuck_in), &count)| TimeoutView {
                class: counters.class_name(*class),
                stuck_in: stuck_in.clone(),
                count,
            })
            .collect(),
        listeners: app.listeners.clone(),
        capped_requests: counters.routes.capped(),
        capped_errors: counters.names.capped,
    }
}

/// Connections that wait to be served; `None` where they are not seen.
fn waiting(app: &App, clock: &Clock) -> Vec<WaitingView> {
    let backlog = app.listeners.iter().map(|listener| listener.backlog).sum();
    let backlog = WaitingView {
        stage: "backlog",
        count: backlog,
        oldest_seconds: None,
    };
    let of_workers = app
        .live
        .values()
        .filter_map(|worker| worker.state.in_flight.connections);
    let Some(all) = of_workers.reduce(|all, of| all + of) else {
        return vec![backlog];
    };
    let stage = |stage, count, since_ns: Option<u64>| WaitingView {
        stage,
        count,
        oldest_seconds: Some(since_ns.map_or(0.0, |since_ns| clock.seconds_since(since_ns))),
    };
    vec![
        backlog,
        stage("accepted", all.accepted, all.accepted_since_ns),
        stage("read", all.reading, all.read_since_ns),
    ]
}

fn unanswered(app: &App) -> Vec<(Arc<str>, Unanswered)> {
    let counters = &app.counters;
    let of_class = |(id, of): (_, &Unanswered)| (counters.class_name(id), of.clone());
    let mut all: Vec<(Arc<str>, Unanswered)> = counters.unanswered().map(of_class).collect();
    let default = app.default_class();
    if all.iter().all(|(class, _)| **class != *default) {
        all.push((default.into(), Unanswered::default()));
    }
    all
}

fn slots(app: &App, by_slot: BySlot) -> Vec<SlotView> {
    let slots = by_slot
        .into_iter()
        .map(|((slot, class), counters)| SlotView {
            slot,
            class: app.counters.class_name(class),
            failed: errors(&app.counters, &counters.failed),
            handled: errors(&app.counters, &counters.handled),
            counters,
        });
    slots.collect()
}

fn classes(app: &App, by_slot: &BySlot) -> Vec<ClassView> {
    let mut by_class = BTreeMap::<_, Counters>::new();
    for (&(_, class), counters) in by_slot {
        by_class.entry(class).or_default().merge(counters);
    }
    let classes = by_class.into_iter().map(|(class, counters)| ClassView {
        class: app.counters.class_name(class),
        failed: errors(&app.counters, &counters.failed),
        handled: errors(&app.counters, &counters.handled),
        counters,
    });
    classes.collect()
}

fn http(app: &App) -> Vec<HttpView> {
    let counters = &app.counters;
    let series = counters.http.iter().map(|(key, of)| HttpView {
        class: counters.class_name(key.class),
        method: key.method.as_str(),
        route: counters.routes.name(key.route).to_owned(),
        status: key.status,
        error_type: match (key.ended_by, key.status) {
            (Some(cut_short), _) => cut_short.as_str().to_owned(),
            (None, Some(status @ 500..)) => status.to_string(),
            (None, _) => String::new(),
        },
        duration: of.duration.clone(),
        request_size: of.request_size.clone(),
        response_size: of.response_size.clone(),
    });
    series.collect()
}

fn errors(counters: &AppCounters, errors: &Errors) -> Vec<ErrorView> {
    let view = |(key, count): (&ErrorKey, &u64)| ErrorView {
        method: key.method.as_str(),
        endpoint: counters.routes.name(key.route).to_owned(),
        error_type: counters.names.shown(&key.error),
        count: *count,
    };
    errors.iter().map(view).collect()
}

pub(crate) fn http_errors(app: &App) -> Vec<HttpErrorView> {
    let counters = &app.counters;
    let series = counters
        .http_errors
        .iter()
        .map(|(key, &count)| HttpErrorView {
            class: counters.class_name(key.class),
            method: key.method.as_str(),
            endpoint: counters.routes.name(key.route).to_owned(),
            status: key.status,
            error_type: counters.names.shown(&key.error),
            raised_in: key.raised_in.clone(),
            count,
        });
    series.collect()
}

fn worker_view(app: &App, settings: &Settings, worker: &Worker, clock: &Clock) -> WorkerView {
    let is_live = worker.end.is_none();
    let oldest = worker.state.in_flight.oldest.first().filter(|_| is_live);
    let connections = worker.state.in_flight.connections.filter(|_| is_live);
    let counters = worker.total().into_owned();
    WorkerView {
        pid: worker.pid,
        id: worker.id(clock.wall_offset_ns),
        slot: worker.slot,
        class: app.class_of(worker),
        age: worker.age,
        confirmed: worker.confirmed,
        uptime_seconds: worker.uptime_seconds(clock),
        ended: worker.end.is_some(),
        reason: worker.reason.map(|(reason, _)| reason),
        restart_type: worker.reason.map(|(_, exit_kind)| exit_kind),
        state: worker.state.stage().filter(|_| is_live),
        gauges: worker.gauges.clone().filter(|_| is_live),
        cpu_percent: worker.cpu_percent.filter(|_| is_live),
        in_flight: if is_live {
            worker.state.in_flight.count
        } else {
            0
        },
        oldest_request: oldest.map(|of| app.pending(settings, of, clock.now_ns)),
        connections,
        failed: errors(&app.counters, &counters.failed),
        handled: errors(&app.counters, &counters.handled),
        counters,
    }
}
