//! What is told of workers as it happens: how they begin and end, and what is found.

use super::app::App;
use super::finding::{Finding, Kind};
use super::happened::{Ended, Happened, PendingView, SignalView, StackView, seconds, stuck_in};
use super::state::State;
use super::view::{wall_seconds, worker_id};
use super::watch;
use super::worker::Worker;
use crate::event::Pid;
use std::collections::BTreeMap;

impl State {
    /// Keeps each event from now on, until it is taken.
    pub fn keep_events(&mut self) {
        self.events.keep();
    }

    /// Keeps each new finding from now on, until it is taken.
    pub fn keep_findings(&mut self) {
        self.new_findings.get_or_insert_default();
    }

    /// What happened to workers since this was last asked.
    pub fn take_events(&mut self) -> Vec<Happened> {
        self.events.take()
    }

    /// What was found since this was last asked.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        self.new_findings
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// A worker that was forked under our eyes is known to be one.
    pub(super) fn started(&mut self, time_ns: u64, master: Pid, pid: Pid) {
        let offset_ns = self.observer.wall_offset_ns();
        let app = self.apps.get(&master);
        if let Some((app, worker)) = app.and_then(|app| Some((app, app.live.get(&pid)?))) {
            let event = happened("worker_started", app, worker, time_ns, offset_ns);
            self.events.push(event);
        }
    }

    /// The worker that ended last is this one, and says why.
    pub(super) fn ended(&mut self, master: Pid, pid: Pid) {
        let offset_ns = self.observer.wall_offset_ns();
        let Some(app) = self.apps.get(&master) else {
            return;
        };
        let worker = app.ended.back().filter(|worker| worker.pid == pid);
        let Some((worker, end, (reason, manner))) =
            worker.and_then(|worker| Some((worker, worker.end?, worker.reason?)))
        else {
            return;
        };
        let (exit_code, exit_signal) = Ended::status(end.status);
        let life = &worker.life;
        let at_end = (end.time_ns, life.in_flight.clone());
        let (at_ns, in_flight) = life.aborted.as_ref().unwrap_or(&at_end);
        let pending = |of| PendingView::new(&self.settings.routes, of, *at_ns);
        let ended = Ended {
            reason,
            restart_type: manner,
            exit_code,
            exit_signal,
            signals: life.signals.iter().map(SignalView::from).collect(),
            uptime_seconds: worker
                .started_ns
                .map(|started| seconds(end.time_ns.saturating_sub(started))),
            served: worker.tally.requests,
            requests: in_flight.oldest.iter().map(pending).collect(),
            stuck_in: stuck_in(&life.stacks),
            stacks: life
                .stacks
                .iter()
                .map(|stack| StackView::new(&self.settings.routes, stack))
                .collect(),
        };
        let event = happened("worker_ended", app, worker, end.time_ns, offset_ns);
        self.events.push(Happened {
            ended: Some(ended),
            ..event
        });
    }

    /// Looks at all apps for what an operator should know.
    pub(super) fn look_for_findings(&mut self, now_ns: u64) {
        let mut findings = BTreeMap::new();
        for (&master, app) in &mut self.apps {
            watch::sample(app, now_ns);
            for (kind, worker, evidence) in watch::find(app, &self.settings, now_ns) {
                let key = (master, kind, worker);
                let since_ns = self.findings.get(&key).map_or(now_ns, |&(since, _)| since);
                findings.insert(key, (since_ns, evidence));
            }
        }
        let former = std::mem::replace(&mut self.findings, findings);
        if let Some(mut new) = self.new_findings.take() {
            let is_new = |finding: &(_, Finding)| !former.contains_key(&finding.0);
            let found = self.findings_with_keys().filter(is_new);
            new.extend(found.map(|(_, finding)| finding));
            self.new_findings = Some(new);
        }
    }

    /// What is found now, in order.
    pub(super) fn findings_with_keys(
        &self,
    ) -> impl Iterator<Item = ((Pid, Kind, Option<Pid>), Finding)> + '_ {
        let offset_ns = self.observer.wall_offset_ns();
        self.findings
            .iter()
            .map(move |(key, (since_ns, evidence))| {
                let &(master_pid, finding, worker_pid) = key;
                let app = self.apps.get(&master_pid).map(App::name);
                let finding = Finding {
                    finding,
                    app: app.unwrap_or_default().to_owned(),
                    master_pid,
                    worker_pid,
                    since_seconds: wall_seconds(*since_ns, offset_ns),
                    evidence: evidence.clone(),
                };
                (*key, finding)
            })
    }
}

fn happened(
    event: &'static str,
    app: &App,
    worker: &Worker,
    time_ns: u64,
    offset_ns: i64,
) -> Happened {
    Happened {
        time_seconds: wall_seconds(time_ns, offset_ns),
        event: event.into(),
        app: app.name().to_owned(),
        master_pid: app.master.pid,
        worker_pid: worker.pid,
        worker_id: worker_id(worker, offset_ns),
        worker_class: app.class_of(worker.pid).into(),
        ended: None,
    }
}
