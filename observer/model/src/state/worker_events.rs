//! Reports starts and exits of workers, and exits of masters and dirty pools.

use crate::duration::seconds;
use crate::effect::Effect;
use crate::event::{ExitStatus, Pid};
use crate::fact::Dirty;
use crate::lifecycle::exit_reason::{ExitKind, ExitReason};
use crate::lifecycle::worker_event::{
    DIRTY_ENDED, MASTER_ENDED, SignalView, StackView, WORKER_ENDED, WORKER_STARTED, WorkerEvent,
    WorkerExit, stuck_in,
};
use crate::lifecycle::worker_state::WorkerState;
use crate::state::State;
use crate::state::app::App;
use crate::state::dirty::DirtyProcess;
use crate::state::worker::{End, Worker};
use crate::wall_clock::wall_seconds;

impl State {
    /// A process that the observer saw forked turned out to be a worker.
    pub(crate) fn worker_started(&mut self, time_ns: u64, master: Pid, pid: Pid) {
        let offset_ns = self.observer.wall_offset_ns();
        let app = self.apps.get(&master);
        if let Some((app, worker)) = app.and_then(|app| Some((app, app.live.get(&pid)?))) {
            let event = worker_event(WORKER_STARTED, app, worker, time_ns, offset_ns);
            self.report(event);
        }
    }

    /// A worker exited, and its exit reason is known.
    pub(crate) fn worker_exited(&mut self, master: Pid, pid: Pid) {
        let offset_ns = self.observer.wall_offset_ns();
        let Some(app) = self.apps.get(&master) else {
            return;
        };
        let worker = app.ended.back().filter(|worker| worker.pid == pid);
        let Some((worker, end, (reason, exit_kind))) =
            worker.and_then(|worker| Some((worker, worker.end?, worker.reason?)))
        else {
            return;
        };
        let (exit_code, exit_signal) = WorkerExit::status(end.status);
        let state = &worker.state;
        let at_exit = (end.time_ns, state.in_flight.clone());
        let (at_ns, in_flight) = state.aborted.as_ref().unwrap_or(&at_exit);
        let (patterns, routes) = (&self.settings.routes, &app.counters.routes);
        let pending = |of| app.pending(&self.settings, of, *at_ns);
        let exit = WorkerExit {
            reason,
            restart_type: exit_kind,
            exit_code,
            exit_signal,
            signals: state.signals.iter().map(SignalView::from).collect(),
            uptime_seconds: worker
                .started_ns
                .map(|started| seconds(end.time_ns.saturating_sub(started))),
            served: worker.total().requests,
            requests: in_flight.oldest.iter().map(pending).collect(),
            stuck_in: stuck_in(&state.stacks),
            stacks: state
                .stacks
                .iter()
                .map(|stack| StackView::new(patterns, routes, stack))
                .collect(),
            failure: state
                .failure
                .as_deref()
                .filter(|_| reason == ExitReason::BootError)
                .cloned(),
        };
        let event = worker_event(WORKER_ENDED, app, worker, end.time_ns, offset_ns);
        self.report(WorkerEvent {
            exit: Some(exit),
            ..event
        });
    }

    /// A master exited, for this reason.
    pub(crate) fn report_master_exit(
        &mut self,
        time_ns: u64,
        pid: Pid,
        status: Option<ExitStatus>,
        reason: (ExitReason, ExitKind),
    ) {
        let Some(app) = self.apps.get(&pid) else {
            return;
        };
        let exit = WorkerExit {
            served: app.parts().map(|counters| counters.requests).sum(),
            ..exit_of(
                &app.state,
                End { time_ns, status },
                app.master.started_ns,
                reason,
            )
        };
        self.report(WorkerEvent {
            time_seconds: wall_seconds(time_ns, self.observer.wall_offset_ns()),
            event: MASTER_ENDED.into(),
            app: app.name().to_owned().into(),
            master_pid: pid,
            worker_class: app.default_class().to_owned().into(),
            exit: Some(exit),
            ..WorkerEvent::default()
        });
    }

    /// A process of a dirty pool exited, for this reason.
    pub(crate) fn report_dirty_exit(
        &mut self,
        gone: &DirtyProcess,
        end: End,
        reason: (ExitReason, ExitKind),
    ) {
        let Dirty {
            pid,
            master_pid,
            role,
            started_ns,
            ..
        } = gone.fact;
        let app = self.apps.get(&master_pid).map(App::name);
        self.report(WorkerEvent {
            time_seconds: wall_seconds(end.time_ns, self.observer.wall_offset_ns()),
            event: DIRTY_ENDED.into(),
            app: app.unwrap_or_default().to_owned().into(),
            master_pid,
            worker_pid: Some(pid),
            worker_class: role.class().into(),
            exit: Some(exit_of(&gone.state, end, started_ns, reason)),
            ..WorkerEvent::default()
        });
    }

    fn report(&mut self, event: WorkerEvent) {
        self.worker_events.push(event.clone());
        self.effects.push(Effect::Worker(Box::new(event)));
    }
}

/// The exit of a process that serves no requests.
fn exit_of(
    state: &WorkerState,
    end: End,
    started_ns: u64,
    (reason, exit_kind): (ExitReason, ExitKind),
) -> WorkerExit {
    let (exit_code, exit_signal) = WorkerExit::status(end.status);
    WorkerExit {
        reason,
        restart_type: exit_kind,
        exit_code,
        exit_signal,
        signals: state.signals.iter().map(SignalView::from).collect(),
        uptime_seconds: Some(seconds(end.time_ns.saturating_sub(started_ns))),
        served: 0,
        requests: Vec::new(),
        stuck_in: None,
        stacks: Vec::new(),
        failure: None,
    }
}

fn worker_event(
    name: &'static str,
    app: &App,
    worker: &Worker,
    time_ns: u64,
    offset_ns: i64,
) -> WorkerEvent {
    WorkerEvent {
        time_seconds: wall_seconds(time_ns, offset_ns),
        event: name.into(),
        app: app.name().to_owned().into(),
        master_pid: app.master.pid,
        worker_pid: Some(worker.pid),
        worker_id: worker.id(offset_ns),
        worker_class: app.class_of(worker).to_string().into(),
        exit: None,
    }
}
