//! Exits of workers, as events and in the views.

use crate::event::{CodeLocation, Event, ExitStatus, Frame, Pid, Request, Stack};
use crate::fact::{Fact, Gauges, InFlight, Pending, WorkerInFlight};
use crate::lifecycle::exit_reason::{ExitKind, ExitReason};
use crate::lifecycle::worker_event::WorkerEvent;
use crate::lifecycle::worker_state::Stage;
use crate::testing::scenarios::{S, Scenario};
use std::borrow::Cow;

fn signal(scenario: &mut Scenario, pid: Pid, signal: u8, sender: Option<Pid>) {
    let time_ns = scenario.now_ns;
    scenario.event(Event::Signal {
        time_ns,
        pid,
        signal,
        sender,
        by_thread: false,
    });
}

fn exit(scenario: &mut Scenario, pid: Pid, status: ExitStatus) {
    let time_ns = scenario.now_ns;
    scenario.event(Event::Exit {
        time_ns,
        pid,
        status,
    });
}

fn events(scenario: &mut Scenario) -> Vec<(&'static str, Pid, Option<ExitReason>)> {
    let taken = scenario.worker_events();
    let of = |event: &WorkerEvent| {
        let reason = event.exit.as_ref().map(|exit| exit.reason);
        let Cow::Borrowed(name) = event.event else {
            panic!("`{}` was made at run time", event.event)
        };
        (name, event.worker_pid.unwrap_or(event.master_pid), reason)
    };
    taken.iter().map(of).collect()
}

#[test]
fn a_timeout_is_reported_with_its_stack_and_its_request() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).worker(10, 11, 1);
    scenario.later(40);
    let begun_ns = scenario.now_ns - 30 * S;
    let oldest = vec![Pending {
        begun_ns,
        tid: 11,
        method: Some("GET".into()),
        path: Some("/users/7".into()),
        path_cut: false,
        written_ns: None,
    }];
    let (pid, count, at_ns) = (11, 1, scenario.now_ns);
    scenario.fact(Fact::InFlight(InFlight {
        at_ns,
        only: None,
        sees_connections: true,
        workers: vec![WorkerInFlight {
            pid,
            count,
            oldest,
            connections: None,
        }],
    }));
    signal(&mut scenario, 11, 6, Some(10));
    let frame = Frame {
        file: "shop.py".into(),
        function: "view".into(),
        is_own: true,
        ..Frame::default()
    };
    let line = Some(7);
    scenario.event(Event::Stack(Box::new(Stack {
        time_ns: at_ns,
        pid: 11,
        is_current: true,
        entered_ns: Some(begun_ns),
        method: Some("GET".into()),
        path: Some("/users/7".into()),
        frames: vec![CodeLocation { frame, line }],
        ..Stack::default()
    })));
    assert_eq!(scenario.one_worker().state, Some(Stage::Aborting));
    // While the worker goes down, the request finishes.
    scenario.later(1);
    let at_ns = scenario.now_ns;
    let workers = Vec::new();
    scenario.fact(Fact::InFlight(InFlight {
        at_ns,
        only: None,
        sees_connections: true,
        workers,
    }));
    exit(&mut scenario, 11, ExitStatus::Signal(9));
    let worker = scenario.one_worker();
    assert_eq!(worker.reason, Some(ExitReason::Timeout));
    assert_eq!(worker.restart_type, Some(ExitKind::Forced));
    assert_eq!((worker.state, worker.in_flight), (None, 0));
    let app = scenario.app();
    assert_eq!(app.ends["timeout"], 1);
    assert_eq!(app.ends.values().sum::<u64>(), 1);
    assert_eq!(app.timeouts[0].stuck_in, "shop.py:view");
    assert_eq!(&*app.timeouts[0].class, "ThreadWorker");
    let event = scenario.live_view().events.pop().unwrap();
    let json = serde_json::to_value(&event).unwrap();
    assert_eq!(json["reason"], "timeout");
    assert_eq!(json["worker_id"], "worker_1_1700000100");
    assert_eq!(json["stuck_in"], "shop.py:view");
    assert_eq!(json["requests"][0]["route"], "/users/{id}");
    assert_eq!(json["requests"][0]["age_seconds"], 30.0);
    assert_eq!(json["stacks"][0]["request"]["age_seconds"], 30.0);
    assert_eq!(json["stacks"][0]["frames"][0]["line"], 7);
    assert_eq!(json["stacks"][0]["frames"][0]["file"], "shop.py");
    assert_eq!(json["signals"][0]["sender_pid"], 10);
    let expected = [
        ("worker_started", 11, None),
        ("worker_ended", 11, Some(ExitReason::Timeout)),
    ];
    assert_eq!(events(&mut scenario), expected);
}

#[test]
fn requests_that_an_exit_ends_are_errors_of_its_reason() {
    type Signals = &'static [(u8, Option<Pid>)];
    let cases: [(Signals, ExitStatus, &str); 4] = [
        (&[(6, Some(10))], ExitStatus::Signal(9), "worker_timeout"),
        (&[], ExitStatus::Signal(11), "worker_crash"),
        (&[], ExitStatus::Code(7), "worker_crash"),
        (&[(15, Some(1))], ExitStatus::Signal(15), "worker_exit"),
    ];
    for (signals, status, error_type) in cases {
        let mut scenario = Scenario::new();
        scenario.master(10).fork(10, 11).worker(10, 11, 1);
        for &(number, sender) in signals {
            signal(&mut scenario, 11, number, sender);
        }
        let finished_ns = scenario.now_ns;
        for begun in [None, Some(200)] {
            scenario.event(Event::Request(Box::new(Request {
                pid: 11,
                entered_ns: Some(finished_ns - S),
                exited_ns: Some(finished_ns),
                finished_ns,
                path: Some("/users/7".into()),
                method: Some("GET".into()),
                status: begun,
                worker_exited: true,
                ..Request::default()
            })));
        }
        assert_eq!(scenario.one_worker().counters.requests, 0, "its exit comes");
        exit(&mut scenario, 11, status);
        let worker = scenario.one_worker();
        let counts = (worker.counters.requests, worker.counters.errors);
        assert_eq!(counts, (2, 2), "{error_type}");
        let app = scenario.app();
        let errors = app
            .http_errors
            .iter()
            .map(|of| (of.status, &*of.error_type));
        let errors: Vec<_> = errors.collect();
        assert_eq!(errors, [(None, error_type), (Some(200), error_type)]);
        assert!(app.http.iter().all(|of| of.error_type == error_type));
        assert_eq!(
            app.http.iter().map(|of| of.duration.count()).sum::<u64>(),
            2
        );
    }
}

#[test]
fn a_request_that_an_aborted_worker_closes_is_one_of_its_timeout() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).worker(10, 11, 1);
    let cut = |scenario: &mut Scenario| {
        let finished_ns = scenario.now_ns;
        scenario.event(Event::Request(Box::new(Request {
            pid: 11,
            entered_ns: Some(finished_ns - S),
            exited_ns: Some(finished_ns),
            finished_ns,
            was_cut: true,
            ..Request::default()
        })));
    };
    cut(&mut scenario);
    assert!(scenario.app().http_errors.is_empty());
    signal(&mut scenario, 11, 6, Some(10));
    cut(&mut scenario);
    let app = scenario.app();
    let errors = app
        .http_errors
        .iter()
        .map(|of| (of.status, &*of.error_type));
    assert_eq!(errors.collect::<Vec<_>>(), [(None, "worker_timeout")]);
}

#[test]
fn a_worker_whose_master_is_known_later_still_has_an_exit_reason() {
    let mut scenario = Scenario::new();
    scenario.fork(10, 11);
    scenario.event(Event::Oom {
        time_ns: 1,
        pid: 11,
    });
    exit(&mut scenario, 11, ExitStatus::Signal(9));
    assert_eq!(events(&mut scenario), []);
    scenario.master(10);
    assert_eq!(
        events(&mut scenario),
        [("worker_ended", 11, Some(ExitReason::Oom))]
    );
    assert_eq!(scenario.app().ends["oom"], 1);
}

#[test]
fn signals_of_a_master_are_counted_and_explain_exits() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).fork(10, 12);
    signal(&mut scenario, 10, 1, Some(1));
    signal(&mut scenario, 11, 15, Some(10));
    exit(&mut scenario, 11, ExitStatus::Code(0));
    assert_eq!(scenario.app().signals, [("HUP", 1)].into());
    assert_eq!(scenario.app().ends["reload"], 1);
    // A worker that cannot boot makes its master stop all others.
    exit(&mut scenario, 12, ExitStatus::Code(3));
    scenario.fork(10, 13).get(13);
    let mut scenario = {
        scenario.later(100);
        scenario
    };
    signal(&mut scenario, 13, 15, Some(10));
    exit(&mut scenario, 13, ExitStatus::Code(0));
    assert_eq!(scenario.app().ends["boot_error"], 1);
    assert_eq!(
        scenario.app().ends["reload"],
        2,
        "the last signal to the master counts"
    );
}

#[test]
fn exits_of_workers_stay_counted_by_slot_and_class() {
    let mut scenario = Scenario::new();
    scenario.master(10);
    for pid in 11..14 {
        scenario.fork(10, pid).get(pid);
        exit(&mut scenario, pid, ExitStatus::Signal(11));
    }
    let key = (ExitKind::Forced, ExitReason::Crash);
    let app = scenario.app();
    assert_eq!(app.slots[0].counters.ends[&key], 3);
    assert_eq!(app.classes[0].counters.ends[&key], 3);
    assert_eq!(app.workers[0].counters.ends[&key], 1);
}

#[test]
fn cpu_time_is_counted_once_and_gauges_are_shown_while_a_worker_lives() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    let sample = |scenario: &mut Scenario, cpu_seconds| {
        let gauges = Gauges {
            pid: 11,
            cpu_seconds,
            booted: Some(true),
            ..Gauges::default()
        };
        let workers = vec![gauges];
        scenario.fact(Fact::Gauges { workers });
    };
    assert_eq!(scenario.one_worker().counters.cpu_ns, None);
    sample(&mut scenario, 0.0);
    let worker = scenario.one_worker();
    assert_eq!(worker.counters.cpu_ns, Some(0));
    assert_eq!(worker.cpu_percent, None, "one sample gives no rate");
    scenario.later(1);
    sample(&mut scenario, 2.0);
    scenario.later(2);
    sample(&mut scenario, 3.0);
    let worker = scenario.one_worker();
    assert_eq!(worker.counters.cpu_ns, Some(3 * S));
    assert!((worker.cpu_percent.unwrap() - 50.0).abs() < 1e-9);
    assert_eq!(worker.state, Some(Stage::Running));
    exit(&mut scenario, 11, ExitStatus::Code(0));
    let worker = scenario.one_worker();
    assert_eq!(
        (worker.counters.cpu_ns, worker.gauges, worker.cpu_percent),
        (Some(3 * S), None, None)
    );
}

#[test]
fn the_documentation_has_each_field_of_an_event() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    signal(&mut scenario, 11, 6, Some(10));
    scenario.event(Event::Stack(Box::new(Stack {
        pid: 11,
        frames: vec![CodeLocation::default()],
        entered_ns: Some(1),
        ..Stack::default()
    })));
    exit(&mut scenario, 11, ExitStatus::Code(1));
    let docs = include_str!("../../../../docs/TRACE.md");
    let events = scenario.live_view().events;
    let event = serde_json::to_value(events.last().unwrap()).unwrap();
    let mut objects = vec![&event, &event["signals"][0], &event["stacks"][0]];
    objects.extend([
        &event["stacks"][0]["frames"][0],
        &event["stacks"][0]["request"],
    ]);
    for field in objects
        .iter()
        .flat_map(|object| object.as_object().unwrap().keys())
    {
        assert!(docs.contains(&format!("`{field}`")), "{field}");
    }
}

#[test]
fn an_exit_of_a_master_is_reported_and_stays_counted_when_the_master_is_forgotten() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).worker(10, 11, 1).get(11);
    signal(&mut scenario, 10, 1, Some(7));
    signal(&mut scenario, 10, 9, Some(7));
    exit(&mut scenario, 10, ExitStatus::Signal(9));
    let event = scenario.worker_events().pop().unwrap();
    let json = serde_json::to_value(&event).unwrap();
    assert_eq!(json["event"], "master_ended");
    assert_eq!(
        (&json["app"], &json["master_pid"]),
        (&"shop".into(), &10.into())
    );
    assert_eq!(json["worker_pid"], serde_json::Value::Null);
    assert_eq!(
        (&json["reason"], &json["exit_signal"]),
        (&"crash".into(), &9.into())
    );
    // It is not the SIGHUP that ended it.
    let sent = serde_json::json!([{"signal": "KILL", "sender_pid": 7}]);
    assert_eq!(json["signals"], sent);
    assert_eq!(
        (&json["uptime_seconds"], &json["served"]),
        (&50.0.into(), &1.into())
    );
    let counts = |scenario: &Scenario| {
        let [exits] = scenario.metrics_view().master_exits.try_into().unwrap();
        (exits.app, exits.counts["crash"], exits.counts["oom"])
    };
    let expected = ("shop".to_owned(), 1, 0);
    assert_eq!(counts(&scenario), expected);
    exit(&mut scenario, 11, ExitStatus::Code(0));
    scenario.later(1000);
    assert!(scenario.metrics_view().apps.is_empty());
    assert_eq!(counts(&scenario), expected);
    assert_eq!(scenario.live_view().events[1].event, "master_ended");
}

#[test]
fn a_master_that_is_killed_by_the_oom_killer_says_so() {
    let mut scenario = Scenario::new();
    scenario.master(10);
    let time_ns = scenario.now_ns;
    scenario.event(Event::Oom { time_ns, pid: 10 });
    exit(&mut scenario, 10, ExitStatus::Signal(9));
    let expected = [("master_ended", 10, Some(ExitReason::Oom))];
    assert_eq!(events(&mut scenario), expected);
}

#[test]
fn a_master_exits_once_and_not_by_an_exec() {
    let mut scenario = Scenario::new();
    scenario.master(10).exec(10);
    assert_eq!(events(&mut scenario), []);
    // The new program is a master again.
    let now_ns = scenario.now_ns;
    scenario.master_since(10, "shop", now_ns);
    // The watcher misses it, and the kernel's record comes late.
    scenario.fact(Fact::NotGunicorn { pid: 10 });
    exit(&mut scenario, 10, ExitStatus::Code(0));
    let expected = [("master_ended", 10, Some(ExitReason::Unknown))];
    assert_eq!(events(&mut scenario), expected);
}

#[test]
fn a_master_that_is_recognised_after_its_exit_is_reported() {
    let mut scenario = Scenario::new();
    exit(&mut scenario, 10, ExitStatus::Code(3));
    scenario.master(10);
    let expected = [("master_ended", 10, Some(ExitReason::BootError))];
    assert_eq!(events(&mut scenario), expected);
    assert!(scenario.app().ended);
}
