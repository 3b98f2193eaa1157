//! The exported families, held against docs/METRICS.md.

use super::exported::exported;
use observer_model::event::{CodeLocation, Event, ExitStatus, Frame, Request, Stack, StreamKind};
use observer_model::fact;
use observer_model::fact::Pod;
use observer_model::fact::{
    Connections, DeepCapture, DeepCaptureState, Dirty, DirtyRole, Fact, Gauges, InFlight,
    KernelTotals, Level, Listener, Master, MasterGauges, Pending, ProgramTotals, Started,
    TargetLevel, Usage, Worker, WorkerInFlight,
};
use observer_model::input::Input;
use observer_model::settings::WorkerLabel;
use observer_model::views::metrics_view::MetricsView;
use observer_model::{Settings, State};
use probe_ebpf::abi::Stat;
use std::collections::{BTreeMap, BTreeSet};

const DOCS: &str = include_str!("../../../docs/METRICS.md");
const S: u64 = 1_000_000_000;

type Documented = BTreeMap<String, (String, BTreeSet<String>)>;

fn fact(state: &mut State, fact: Fact) {
    let time_ns = 100 * S;
    state.apply(&Input::Fact { time_ns, fact });
}

fn master(state: &mut State, pid: u32) {
    fact(
        state,
        Fact::Master(Master {
            pid,
            started_ns: S,
            app: "shop".to_owned(),
            timeout_seconds: Some(30),
            container_id: "9bca".to_owned(),
            ..Master::default()
        }),
    );
    fact(
        state,
        Fact::Worker(Worker {
            pid: pid + 1,
            master_pid: pid,
            started_ns: 2 * S,
            age: Some(1),
            class: "SyncWorker".to_owned(),
        }),
    );
}

fn level(state: &mut State, pid: u32, level: Level) {
    let reason = String::new();
    fact(state, Fact::Level(TargetLevel { pid, level, reason }));
}

/// A worker that is aborted by its master, and one that has gauges and a stuck request.
fn add_lifecycle(state: &mut State) {
    let time_ns = 9 * S;
    let event = |state: &mut State, event| state.apply(&Input::Event(event));
    let (parent, child) = (10, 12);
    event(
        state,
        Event::Fork {
            time_ns,
            parent,
            child,
        },
    );
    let place = CodeLocation {
        frame: Frame {
            file: "shop.py".into(),
            function: "view".into(),
            is_own: true,
            ..Frame::default()
        },
        line: Some(7),
    };
    for (pid, signal, sender) in [(10, 1, None), (12, 6, Some(10))] {
        event(
            state,
            Event::Signal {
                time_ns,
                pid,
                signal,
                sender,
                by_thread: false,
            },
        );
    }
    let stack = Stack {
        pid: 12,
        is_current: true,
        frames: vec![place],
        ..Stack::default()
    };
    event(state, Event::Stack(Box::new(stack)));
    event(
        state,
        Event::Exit {
            time_ns,
            pid: 12,
            status: ExitStatus::Code(1),
        },
    );
    let gauges = Gauges {
        pid: 11,
        resident_bytes: 1,
        cpu_seconds: 1.0,
        threads: 1,
        open_fds: Some(1),
        heartbeat_age_seconds: Some(1.0),
        booted: Some(true),
        alive: Some(true),
    };
    fact(
        state,
        Fact::Dirty(Dirty {
            pid: 15,
            master_pid: 10,
            role: DirtyRole::Arbiter,
            parent: 10,
            started_ns: S,
        }),
    );
    for seconds in [20, 21] {
        let workers = vec![gauges.clone()];
        state.apply(&Input::Fact {
            time_ns: seconds * S,
            fact: Fact::Gauges { workers },
        });
        let masters = vec![MasterGauges {
            pid: 10,
            max_fds: Some(1024),
            open_fds: Some(1),
            ..MasterGauges::default()
        }];
        state.apply(&Input::Fact {
            time_ns: seconds * S,
            fact: Fact::MasterGauges { masters },
        });
    }
    let listener = Listener {
        address: "127.0.0.1:8000".to_owned(),
        backlog: 1,
        limit: 2,
        drops: Some(3),
    };
    let listeners = vec![listener];
    fact(state, Fact::Listeners { pid: 10, listeners });
    let oldest = vec![Pending {
        begun_ns: 10 * S,
        ..Pending::default()
    }];
    let (pid, count) = (11, 1);
    let connections = Some(Connections {
        accepted: 1,
        events: 2,
        accepted_since_ns: Some(80 * S),
        ..Connections::default()
    });
    let workers = vec![WorkerInFlight {
        pid,
        count,
        oldest,
        connections,
    }];
    fact(
        state,
        Fact::InFlight(InFlight {
            at_ns: 90 * S,
            only: None,
            sees_connections: true,
            workers,
        }),
    );
}

/// The same with what was added after the recordings.
fn fuller() -> State {
    let mut state = full();
    let stream = Request {
        pid: 11,
        finished_ns: 7 * S,
        stream: Some(StreamKind::Events),
        ..Request::default()
    };
    state.apply(&Input::Event(Event::Request(Box::new(stream))));
    state
}

/// A state with series of every family.
fn full() -> State {
    let mut state = State::new(Settings::default());
    fact(
        &mut state,
        Fact::Started(Started {
            wall_offset_ns: 0,
            version: "1".to_owned(),
            revision: "2".to_owned(),
        }),
    );
    master(&mut state, 10);
    level(&mut state, 10, Level::Full);
    let request = Request {
        pid: 11,
        established_ns: Some(3 * S),
        accepted_ns: Some(4 * S),
        entered_ns: Some(5 * S),
        exited_ns: Some(6 * S),
        finished_ns: 6 * S,
        request_body_bytes: Some(1),
        response_body_bytes: Some(1),
        ..Request::default()
    };
    state.apply(&Input::Event(Event::Request(Box::new(request))));
    let failed = Request {
        pid: 11,
        entered_ns: Some(7 * S),
        exited_ns: Some(8 * S),
        finished_ns: 8 * S,
        status: Some(500),
        error_handled: true,
        was_cut: true,
        ..Request::default()
    };
    state.apply(&Input::Event(Event::Request(Box::new(failed))));
    add_lifecycle(&mut state);
    state.apply(&Input::Event(Event::Gc {
        time_ns: 8 * S,
        pid: 11,
        pause_ns: S,
    }));
    fact(
        &mut state,
        Fact::DeepCapture(DeepCapture {
            pid: 10,
            state: DeepCaptureState::Capturing,
            since_ns: 9 * S,
            reason: "500 on /".to_owned(),
        }),
    );
    let program = ProgramTotals {
        runs: Some(1),
        run_time_ns: Some(1),
        ..ProgramTotals::default()
    };
    let one = || [("a".to_owned(), 1)].into();
    fact(
        &mut state,
        Fact::Kernel(KernelTotals {
            lost: one(),
            counts: one(),
            programs: [("a".to_owned(), program)].into(),
            features: [("a".to_owned(), String::new())].into(),
        }),
    );
    fact(&mut state, Fact::Maps { entries: one() });
    let waits = [(11, S)].into();
    fact(&mut state, Fact::Gil { waits });
    let usage = Usage {
        cpu_seconds: 1.0,
        resident_bytes: 1,
        virtual_bytes: Some(1),
        start_time_seconds: Some(1.0),
        open_fds: Some(1),
        max_fds: Some(1),
        threads: Some(1),
    };
    fact(&mut state, Fact::Usage(usage));
    let kubernetes = fact::Kubernetes { pods: 3, errors: 1 };
    fact(&mut state, Fact::Kubernetes(kubernetes));
    let errors = [("owner".to_owned(), 1)].into();
    fact(&mut state, Fact::AppMetrics { errors });
    state
}

#[path = "queries_tests.rs"]
mod queries;
#[path = "recorded_tests.rs"]
mod recorded;
#[path = "shipped_tests.rs"]
mod shipped;

/// Types and label names of the families of a view.
fn types_and_labels(view: &MetricsView, label: WorkerLabel) -> Documented {
    let families = exported(view, label).into_iter().map(|of| {
        let labels = of.series.into_iter().flat_map(|series| series.labels);
        let labels = labels.map(|(name, _)| name).collect();
        let row = (of.family.kind.as_str().to_owned(), labels);
        (of.family.name.to_owned(), row)
    });
    families.collect()
}

/// A family that is not about the observer.
fn is_of_gunicorn(family: &str) -> bool {
    !family.starts_with("gunicorn_observer_") && !family.starts_with("process_")
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The families in the tables with a column `family`. The header of the third column names the labels
/// of all families, a cell those of its own; prose follows a `;`.
fn documented() -> Documented {
    let mut all = Documented::new();
    let mut common: Option<Vec<String>> = None;
    for line in DOCS.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", "family", "type", header, ..] => common = Some(quoted(header).collect()),
            ["", family, kind, labels, ..] => {
                let Some(common) = &common else { continue };
                let labels = labels.split(';').next().unwrap_or_default();
                let labels: BTreeSet<_> = quoted(labels).chain(common.iter().cloned()).collect();
                let kind = kind.split(',').next().unwrap_or_default();
                for name in quoted(family) {
                    let row = (kind.to_owned(), labels.clone());
                    assert_eq!(all.insert(name, row), None, "{family} stands twice");
                }
            }
            _ => common = None,
        }
    }
    all
}

#[test]
fn families_types_and_labels_are_documented() {
    let view = fuller().metrics_view(100 * S);
    assert_eq!(types_and_labels(&view, WorkerLabel::Pid), documented());

    let mut by_slot = documented();
    let mut by_class = documented();
    for (family, (_, labels)) in &mut by_slot {
        let is_of_worker = labels.contains("worker_pid") && labels.contains("worker_id");
        if family != "gunicorn_worker_info" && is_of_worker {
            labels.remove("worker_pid");
            labels.remove("worker_id");
            labels.insert("worker_slot".to_owned());
        }
    }
    assert_eq!(types_and_labels(&view, WorkerLabel::Slot), by_slot);
    by_class.retain(|family, _| {
        ![
            "gunicorn_worker_info",
            "gunicorn_worker_uptime_seconds",
            "gunicorn_worker_state",
        ]
        .contains(&family.as_str())
    });
    for (_, labels) in by_class.values_mut() {
        if labels.contains("worker_pid") && labels.contains("worker_id") {
            labels.retain(|label| label != "worker_pid" && label != "worker_id");
        }
    }
    assert_eq!(types_and_labels(&view, WorkerLabel::None), by_class);
}

#[test]
fn families_of_requests_are_left_out_where_requests_are_not_observed() {
    let mut state = State::new(Settings::default());
    master(&mut state, 20);
    level(&mut state, 20, Level::None);
    let view = state.metrics_view(100 * S);
    for (label, workers) in [
        (WorkerLabel::Pid, true),
        (WorkerLabel::Slot, true),
        (WorkerLabel::None, false),
    ] {
        let families = types_and_labels(&view, label);
        let of_gunicorn: Vec<&str> = families
            .keys()
            .map(String::as_str)
            .filter(|name| is_of_gunicorn(name))
            .collect();
        let mut expected = vec![
            "gunicorn_app_info",
            "gunicorn_master_container_info",
            "gunicorn_master_timeout_seconds",
        ];
        if workers {
            expected.extend(["gunicorn_worker_info", "gunicorn_worker_uptime_seconds"]);
        }
        assert_eq!(of_gunicorn, expected, "{label:?}");
        assert!(families.contains_key("gunicorn_observer_target_level"));
    }
}

#[test]
fn a_master_that_has_exited_has_no_info_families() {
    let mut state = full();
    fact(&mut state, Fact::NotGunicorn { pid: 10 });
    let families = types_and_labels(&state.metrics_view(100 * S), WorkerLabel::Pid);
    assert!(!families.contains_key("gunicorn_app_info"));
    assert!(!families.contains_key("gunicorn_master_container_info"));
    assert!(families.contains_key("gunicorn_worker_requests_total"));
}

#[test]
fn a_master_outside_of_a_container_has_no_container_info() {
    let mut state = State::new(Settings::default());
    let outside = Master {
        pid: 10,
        ..Master::default()
    };
    fact(&mut state, Fact::Master(outside));
    let families = types_and_labels(&state.metrics_view(100 * S), WorkerLabel::Pid);
    assert!(families.contains_key("gunicorn_app_info"));
    assert!(!families.contains_key("gunicorn_master_container_info"));
}

#[test]
fn every_family_of_a_master_in_a_pod_names_the_pod() {
    let mut view = full().metrics_view(100 * S);
    let names = ["namespace", "pod", "container", "node"];
    let named = |view: &MetricsView, label| -> Vec<(&'static str, usize)> {
        let of_masters = exported(view, label)
            .into_iter()
            .filter(|of| is_of_gunicorn(of.family.name));
        let of_series = of_masters.flat_map(|of| {
            of.series.into_iter().map(move |series| {
                let labels = series.labels.iter();
                let count = labels.filter(|(name, _)| names.contains(&&**name)).count();
                (of.family.name, count)
            })
        });
        of_series.collect()
    };
    for label in [WorkerLabel::Pid, WorkerLabel::Slot, WorkerLabel::None] {
        assert!(named(&view, label).iter().all(|(_, count)| *count == 0));
    }
    let pods = view.apps.iter_mut().map(|app| &mut app.pod);
    let of_exits = view.master_exits.iter_mut().map(|exits| &mut exits.pod);
    for pod in pods.chain(of_exits) {
        *pod = Pod {
            namespace: "prod".to_owned(),
            name: "shop-0".to_owned(),
            container: "web".to_owned(),
            node: "node-1".to_owned(),
            ..Pod::default()
        };
    }
    for label in [WorkerLabel::Pid, WorkerLabel::Slot, WorkerLabel::None] {
        for (family, count) in named(&view, label) {
            assert_eq!(count, 4, "{family}");
        }
    }
}

#[test]
fn failures_are_counted_by_type_with_each_worker_label() {
    let view = full().metrics_view(100 * S);
    for label in [WorkerLabel::Pid, WorkerLabel::Slot, WorkerLabel::None] {
        let families = exported(&view, label);
        for name in [
            "gunicorn_worker_failed_requests_total",
            "gunicorn_worker_error_handling_total",
            "gunicorn_http_errors_total",
        ] {
            let family = families.iter().find(|of| of.family.name == name);
            let [series] = &*family.unwrap().series else {
                panic!("{name} has one series");
            };
            assert_eq!(
                series.label("error_type"),
                Some("unknown"),
                "{name} {label:?}"
            );
            assert_eq!(series.numbers, [1.0], "{name} {label:?}");
        }
    }
}

#[test]
fn every_cause_of_loss_is_documented() {
    let observer = full().metrics_view(100 * S).observer;
    let losses = Stat::ALL.iter().filter(|(_, _, is_loss)| *is_loss);
    let of_kernel = losses.map(|(_, name, _)| (*name).to_owned());
    let mut causes: Vec<String> = observer.lost.into_keys().chain(of_kernel).collect();
    // A cause of `full` only.
    causes.retain(|cause| cause != "a");
    for cause in causes {
        let row = format!("| `{cause}` |");
        assert!(DOCS.contains(&row), "no line begins with {row}");
    }
}
