//! Applies the rules to every app, and keeps when each finding began.

use super::State;
use super::app::App;
use crate::effect::Effect;
use crate::event::Pid;
use crate::findings::finding::{Finding, Kind};
use crate::findings::past::WorkerSample;
use crate::findings::rules::{self, AppInput, Found, WorkerInput};
use crate::lifecycle::worker_state::Stage;
use crate::settings::Settings;
use crate::untrusted::Untrusted;
use crate::wall_clock::wall_seconds;
use std::collections::BTreeMap;

/// The worker class that serves one connection at a time.
const SYNC: &str = "SyncWorker";
/// The one that serves one connection with each thread.
const THREADED: &str = "ThreadWorker";

/// A finding: its master, its kind, and its worker, or `None` for the whole app.
pub(crate) type Key = (Pid, Kind, Option<Pid>);

/// Active findings.
#[derive(Debug, Default)]
pub(crate) struct Active(BTreeMap<Key, Since>);

#[derive(Debug)]
struct Since {
    since_ns: u64,
    evidence: Untrusted,
}

impl State {
    /// Samples every app, if a sample is due, and applies the rules.
    pub(crate) fn update_findings(&mut self, now_ns: u64) {
        let mut active = BTreeMap::new();
        for (&master, app) in &mut self.apps {
            sample(app, now_ns);
            for found in find(app, &self.settings, now_ns) {
                let key = (master, found.kind, found.worker_pid);
                let known = self.findings.0.get(&key);
                let since = Since {
                    since_ns: known.map_or(now_ns, |since| since.since_ns),
                    evidence: found.evidence,
                };
                active.insert(key, since);
            }
        }
        let former = std::mem::replace(&mut self.findings, Active(active));
        let is_new = |key: &&Key| !former.0.contains_key(*key);
        let new: Vec<Finding> = self
            .findings
            .0
            .keys()
            .filter(is_new)
            .filter_map(|key| self.finding(key))
            .collect();
        for finding in new {
            self.effects.push(Effect::Finding(finding));
        }
    }

    /// Every active finding, by master and kind.
    pub(crate) fn findings(&self) -> impl Iterator<Item = Finding> {
        self.findings.0.keys().filter_map(|key| self.finding(key))
    }

    fn finding(&self, key: &Key) -> Option<Finding> {
        let &(master_pid, kind, worker_pid) = key;
        let since = self.findings.0.get(key)?;
        let app = self.apps.get(&master_pid).map(App::name);
        Some(Finding {
            app: app.unwrap_or_default().to_owned().into(),
            master_pid,
            worker_pid,
            since_seconds: wall_seconds(since.since_ns, self.observer.wall_offset_ns()),
            evidence: since.evidence.clone(),
            ..Finding::new(kind)
        })
    }
}

fn sample(app: &mut App, now_ns: u64) {
    if !app.past.is_due(now_ns) {
        return;
    }
    for worker in app.live.values_mut() {
        let sample = WorkerSample {
            requests: worker.total().requests,
            resident_bytes: worker.gauges.as_ref().map(|gauges| gauges.resident_bytes),
        };
        worker.past.sample(sample);
    }
    app.past.sample(now_ns, &app.listeners);
}

fn find(app: &App, settings: &Settings, now_ns: u64) -> Vec<Found> {
    let exits = app.ended.iter().rev();
    let mut reasons = exits.filter_map(|worker| Some(worker.reason?.0));
    let workers = app.live.iter().map(|(&pid, worker)| WorkerInput {
        pid,
        in_flight: &worker.state.in_flight,
        heartbeat_age_seconds: worker
            .gauges
            .as_ref()
            .and_then(|gauges| gauges.heartbeat_age_seconds),
        started_ns: worker.started_ns,
        is_booting: worker.state.booted == Some(false)
            && worker.state.stage() == Some(Stage::Booting),
        is_sync: *app.class_of(worker) == *SYNC,
        is_threaded: *app.class_of(worker) == *THREADED,
        quitting_ns: worker.state.quitting_ns,
        requests: worker.total().requests,
        past: &worker.past,
    });
    let input = AppInput {
        settings,
        routes: &app.counters.routes,
        timeout_seconds: app.master.timeout_seconds,
        threads: app.master.threads,
        listeners: &app.listeners,
        past: &app.past,
        ended_ns: app.ended_ns,
        is_stopping: app.is_stopping(),
        last_trouble: reasons.find(|reason| reason.is_trouble()),
        workers: workers.collect(),
    };
    rules::find(&input, now_ns)
}
