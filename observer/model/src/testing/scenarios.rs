//! Scenarios of masters and workers, made from inputs by hand.

use crate::effect::Effect;
use crate::errors::cause::ErrorAnalysis;
use crate::event::{CapturedFrame, Class, Event, Exception, ExitStatus, Frame, Pid, Request};
use crate::fact;
use crate::fact::{DeepCapture, DeepCaptureState, Fact, Level, Started, TargetLevel};
use crate::findings::finding::Finding;
use crate::input::Input;
use crate::lifecycle::worker_event::WorkerEvent;
use crate::recent::finished_request::FinishedRequest;
use crate::views::live_view::LiveView;
use crate::views::metrics_view::{AppView, MetricsView, WorkerView};
use crate::{Settings, State};
use std::collections::BTreeMap;

pub const S: u64 = 1_000_000_000;

/// A state, and the current time of its scenario.
pub struct Scenario {
    pub state: State,
    pub now_ns: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self::new()
    }
}

impl Scenario {
    pub fn new() -> Self {
        let mut scenario = Self {
            state: State::new(Settings::default()),
            now_ns: 100 * S,
        };
        let wall_offset_ns = 1_700_000_000 * i64::try_from(S).unwrap();
        let version = "1".to_owned();
        scenario.fact(Fact::Started(Started {
            wall_offset_ns,
            version,
            revision: String::new(),
        }));
        scenario
    }

    /// Requests of processes without a master.
    pub fn unclaimed_requests(&self) -> u64 {
        self.state.provisional.values().map(|of| of.requests).sum()
    }

    /// The effects that the state hands out.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.state.poll_effect()).collect()
    }

    /// The finished requests among the effects.
    pub fn finished_requests(&mut self) -> Vec<FinishedRequest> {
        let effects = self.effects().into_iter();
        let of = |effect| match effect {
            Effect::Request(request) => Some(*request),
            _ => None,
        };
        effects.filter_map(of).collect()
    }

    /// The worker events among the effects.
    pub fn worker_events(&mut self) -> Vec<WorkerEvent> {
        let effects = self.effects().into_iter();
        let of = |effect| match effect {
            Effect::Worker(event) => Some(*event),
            _ => None,
        };
        effects.filter_map(of).collect()
    }

    /// The new findings among the effects.
    pub fn new_findings(&mut self) -> Vec<Finding> {
        let effects = self.effects().into_iter();
        let of = |effect| match effect {
            Effect::Finding(finding) => Some(finding),
            _ => None,
        };
        effects.filter_map(of).collect()
    }

    /// The masters that need a deep capture, with the request, among the effects.
    pub fn deep_captures_wanted(&mut self) -> BTreeMap<Pid, String> {
        let effects = self.effects().into_iter();
        let of = |effect| match effect {
            Effect::DeepCaptureWanted {
                master_pid,
                request,
            } => Some((master_pid, request)),
            _ => None,
        };
        effects.filter_map(of).collect()
    }

    pub fn event(&mut self, event: Event) -> &mut Self {
        self.state.apply(&Input::Event(event));
        self
    }

    pub fn fact(&mut self, fact: Fact) -> &mut Self {
        self.state.apply(&Input::Fact {
            time_ns: self.now_ns,
            fact,
        });
        self
    }

    pub fn later(&mut self, seconds: u64) -> &mut Self {
        self.now_ns += seconds * S;
        self.state.apply(&Input::Tick {
            now_ns: self.now_ns,
        });
        self
    }

    pub fn fork(&mut self, parent: Pid, child: Pid) -> &mut Self {
        self.event(Event::Fork {
            time_ns: self.now_ns,
            parent,
            child,
        })
    }

    pub fn exec(&mut self, pid: Pid) -> &mut Self {
        let command = "x".to_owned();
        self.event(Event::Exec {
            time_ns: self.now_ns,
            pid,
            was_target: true,
            command,
        })
    }

    pub fn exit(&mut self, pid: Pid) -> &mut Self {
        self.event(Event::Exit {
            time_ns: self.now_ns,
            pid,
            status: ExitStatus::Code(3),
        })
    }

    pub fn get(&mut self, pid: Pid) -> &mut Self {
        let request = request(pid, self.now_ns);
        self.event(Event::Request(Box::new(request)))
    }

    /// A request failed with this status and an unknown cause.
    pub fn fail(&mut self, pid: Pid, status: u16) -> &mut Self {
        let request = Request {
            status: Some(status),
            ..request(pid, self.now_ns)
        };
        self.event(Event::Request(Box::new(request)))
    }

    /// A request failed with an exception of this class, which left the application.
    pub fn raise(&mut self, pid: Pid, class: &str) -> &mut Self {
        let request = Request {
            status: Some(500),
            ..raising(request(pid, self.now_ns))
        };
        let exception = Exception {
            has_left: true,
            ..exception(&request, 1, class)
        };
        self.event(Event::Exception(Box::new(exception)))
            .event(Event::Request(Box::new(request)))
    }

    pub fn deep_capture(&mut self, pid: Pid, state: DeepCaptureState) -> &mut Self {
        let (since_ns, reason) = (self.now_ns, "made up".to_owned());
        self.fact(Fact::DeepCapture(DeepCapture {
            pid,
            state,
            since_ns,
            reason,
        }))
    }

    pub fn master(&mut self, pid: Pid) -> &mut Self {
        self.named_master(pid, "shop")
    }

    pub fn named_master(&mut self, pid: Pid, app: &str) -> &mut Self {
        self.master_since(pid, app, 50 * S)
    }

    pub fn master_since(&mut self, pid: Pid, app: &str, started_ns: u64) -> &mut Self {
        self.fact(Fact::Master(fact::Master {
            pid,
            started_ns,
            app: app.to_owned(),
            worker_class: "SyncWorker".to_owned(),
            timeout_seconds: Some(30),
            ..fact::Master::default()
        }))
    }

    pub fn worker(&mut self, master_pid: Pid, pid: Pid, age: u64) -> &mut Self {
        let started_ns = self.now_ns;
        let class = "ThreadWorker".to_owned();
        let age = Some(age);
        self.fact(Fact::Worker(fact::Worker {
            pid,
            master_pid,
            started_ns,
            age,
            class,
        }))
    }

    pub fn level(&mut self, pid: Pid, level: Level) -> &mut Self {
        let reason = "made up".to_owned();
        self.fact(Fact::Level(TargetLevel { pid, level, reason }))
    }

    pub fn live_view(&self) -> LiveView {
        self.state.live_view(self.now_ns)
    }

    pub fn metrics_view(&self) -> MetricsView {
        self.state.metrics_view(self.now_ns)
    }

    pub fn app(&self) -> AppView {
        let mut apps = self.metrics_view().apps;
        assert_eq!(apps.len(), 1, "one app");
        apps.remove(0)
    }

    pub fn workers(&self) -> Vec<(Pid, u64)> {
        self.app()
            .workers
            .iter()
            .map(|worker| (worker.pid, worker.counters.requests))
            .collect()
    }

    pub fn one_worker(&self) -> WorkerView {
        let mut workers = self.app().workers;
        assert_eq!(workers.len(), 1, "one worker");
        workers.remove(0)
    }

    /// Requests of all masters, from series without a `master_pid` label.
    pub fn served(&self) -> u64 {
        let apps = self.metrics_view().apps;
        let series = apps.iter().flat_map(|app| &app.http);
        series.map(|series| series.duration.count()).sum()
    }

    pub fn lost(&self, cause: &str) -> u64 {
        self.metrics_view()
            .observer
            .lost
            .get(cause)
            .copied()
            .unwrap_or(0)
    }
}

pub fn request(pid: Pid, now_ns: u64) -> Request {
    Request {
        pid,
        entered_ns: Some(now_ns - 2_000_000),
        exited_ns: Some(now_ns),
        finished_ns: now_ns,
        method: Some("GET".into()),
        path: Some("/users/7".into()),
        status: Some(200),
        ..Request::default()
    }
}

/// A request with one exception, which refers to it.
pub fn raising(request: Request) -> Request {
    Request {
        exceptions: request.entered_ns,
        exceptions_count: 1,
        ..request
    }
}

/// An exception that code handled while a worker served the request.
pub fn exception(request: &Request, object: u64, class: &str) -> Exception {
    Exception {
        time_ns: request.finished_ns,
        pid: request.pid,
        request: request.entered_ns.unwrap_or(0),
        object,
        came_from: None,
        root: None,
        has_left: false,
        was_gunicorns: false,
        depth: Some(1),
        class: named(class),
        frames: vec![own_frame()],
        frames_cut: 0,
        root_class: None,
        root_frame: None,
    }
}

/// A frame of the application that an exception passed through.
pub fn captured_frame(request: &Request, object: u64, class: &str, depth: u32) -> CapturedFrame {
    CapturedFrame {
        time_ns: request.finished_ns,
        pid: request.pid,
        request: request.entered_ns.unwrap_or(0),
        object,
        is_made: true,
        has_traceback: false,
        class_object: class.len() as u64,
        depth,
        class: named(class),
        frame: own_frame(),
    }
}

pub fn named(class: &str) -> Class {
    Class {
        module: "shop".into(),
        name: class.to_owned().into(),
    }
}

fn own_frame() -> Frame {
    Frame {
        module: "shop.views".into(),
        file: "shop/views.py".into(),
        function: "index".into(),
        is_own: true,
        is_installed: false,
    }
}

/// The analysis of a request without exceptions.
pub fn unseen() -> ErrorAnalysis {
    ErrorAnalysis::without_exceptions(false)
}

pub fn app_requests(app: &AppView) -> u64 {
    app.classes
        .iter()
        .map(|class| class.counters.requests)
        .sum()
}
