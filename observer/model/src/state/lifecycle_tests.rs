//! Ends of workers as events, and what is told of them.
use std::borrow::Cow;

use crate::event::{CodeLocation, Event, ExitStatus, Frame, Pid, Stack};
use crate::fact::{Fact, Gauges, InFlight, Pending, WorkerInFlight};
use crate::lifecycle::exit_reason::{ExitKind, ExitReason};
use crate::lifecycle::worker_event::WorkerEvent;
use crate::lifecycle::worker_state::Stage;
use crate::testing::scenarios::{S, Scenario};

fn signal(scenario: &mut Scenario, pid: Pid, signal: u8, sender: Option<Pid>) {
    let time_ns = scenario.now_ns;
    scenario.event(Event::Signal {
        time_ns,
        pid,
        signal,
        sender,
    });
}

fn end(scenario: &mut Scenario, pid: Pid, status: ExitStatus) {
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
        let reason = event.ended.as_ref().map(|ended| ended.reason);
        let Cow::Borrowed(name) = event.event else {
            panic!("`{}` was made at run time", event.event)
        };
        (name, event.worker_pid, reason)
    };
    taken.iter().map(of).collect()
}

#[test]
fn a_timeout_is_told_with_the_stack_and_the_request() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).worker(10, 11, 1);
    scenario.later(40);
    let begun_ns = scenario.now_ns - 30 * S;
    let oldest = vec![Pending {
        begun_ns,
        tid: 11,
        method: Some("GET".to_owned()),
        path: Some("/users/7".to_owned()),
        path_cut: false,
    }];
    let (pid, count, at_ns) = (11, 1, scenario.now_ns);
    scenario.fact(Fact::InFlight(InFlight {
        at_ns,
        only: None,
        workers: vec![WorkerInFlight { pid, count, oldest }],
    }));
    signal(&mut scenario, 11, 6, Some(10));
    let frame = Frame {
        file: "shop.py".to_owned(),
        function: "view".to_owned(),
        is_own: true,
        ..Frame::default()
    };
    let line = Some(7);
    scenario.event(Event::Stack(Box::new(Stack {
        time_ns: at_ns,
        pid: 11,
        is_current: true,
        entered_ns: Some(begun_ns),
        method: Some("GET".to_owned()),
        path: Some("/users/7".to_owned()),
        frames: vec![CodeLocation { frame, line }],
        ..Stack::default()
    })));
    assert_eq!(scenario.one_worker().state, Some(Stage::Aborting));
    // While it goes down, the request comes to an end.
    scenario.later(1);
    let at_ns = scenario.now_ns;
    let workers = Vec::new();
    scenario.fact(Fact::InFlight(InFlight {
        at_ns,
        only: None,
        workers,
    }));
    end(&mut scenario, 11, ExitStatus::Signal(9));
    let worker = scenario.one_worker();
    assert_eq!(worker.reason, Some(ExitReason::Timeout));
    assert_eq!(worker.restart_type, Some(ExitKind::Forced));
    assert_eq!((worker.state, worker.in_flight), (None, 0));
    let app = scenario.app();
    assert_eq!(app.ends["timeout"], 1);
    assert_eq!(app.ends.values().sum::<u64>(), 1);
    assert_eq!(app.timeouts[0].stuck_in, "shop.py:view");
    assert_eq!(&*app.timeouts[0].class, "ThreadWorker");
    let event = scenario.view().events.pop().unwrap();
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
fn a_worker_whose_master_is_known_later_still_tells_why_it_ended() {
    let mut scenario = Scenario::new();
    scenario.fork(10, 11);
    scenario.event(Event::Oom {
        time_ns: 1,
        pid: 11,
    });
    end(&mut scenario, 11, ExitStatus::Signal(9));
    assert_eq!(events(&mut scenario), []);
    scenario.master(10);
    assert_eq!(
        events(&mut scenario),
        [("worker_ended", 11, Some(ExitReason::Oom))]
    );
    assert_eq!(scenario.app().ends["oom"], 1);
}

#[test]
fn signals_of_a_master_are_counted_and_explain_what_it_does() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).fork(10, 12);
    signal(&mut scenario, 10, 1, Some(1));
    signal(&mut scenario, 11, 15, Some(10));
    end(&mut scenario, 11, ExitStatus::Code(0));
    assert_eq!(scenario.app().signals, [("HUP", 1)].into());
    assert_eq!(scenario.app().ends["reload"], 1);
    // A worker that cannot boot makes its master stop all others.
    end(&mut scenario, 12, ExitStatus::Code(3));
    scenario.fork(10, 13).get(13);
    let mut scenario = {
        scenario.later(100);
        scenario
    };
    signal(&mut scenario, 13, 15, Some(10));
    end(&mut scenario, 13, ExitStatus::Code(0));
    assert_eq!(scenario.app().ends["boot_error"], 1);
    assert_eq!(
        scenario.app().ends["reload"],
        2,
        "the last thing it was asked for"
    );
}

#[test]
fn the_ends_of_workers_stay_counted_by_slot_and_class() {
    let mut scenario = Scenario::new();
    scenario.master(10);
    for pid in 11..14 {
        scenario.fork(10, pid).get(pid);
        end(&mut scenario, pid, ExitStatus::Signal(11));
    }
    let key = (ExitKind::Forced, ExitReason::Crash);
    let app = scenario.app();
    assert_eq!(app.slots[0].counters.ends[&key], 3);
    assert_eq!(app.classes[0].counters.ends[&key], 3);
    assert_eq!(app.workers[0].counters.ends[&key], 1);
}

#[test]
fn what_a_worker_used_is_counted_once_and_shown_while_it_lives() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    let look = |scenario: &mut Scenario, cpu_seconds| {
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
    look(&mut scenario, 0.0);
    let worker = scenario.one_worker();
    assert_eq!(worker.counters.cpu_ns, Some(0));
    assert_eq!(worker.cpu_percent, None, "one look tells no rate");
    scenario.later(1);
    look(&mut scenario, 2.0);
    scenario.later(2);
    look(&mut scenario, 3.0);
    let worker = scenario.one_worker();
    assert_eq!(worker.counters.cpu_ns, Some(3 * S));
    assert!((worker.cpu_percent.unwrap() - 50.0).abs() < 1e-9);
    assert_eq!(worker.state, Some(Stage::Running));
    end(&mut scenario, 11, ExitStatus::Code(0));
    let worker = scenario.one_worker();
    assert_eq!(
        (worker.counters.cpu_ns, worker.gauges, worker.cpu_percent),
        (Some(3 * S), None, None)
    );
}

/// What a program may rely on: docs/TRACE.md has each field.
#[test]
fn every_field_of_an_event_is_documented() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    signal(&mut scenario, 11, 6, Some(10));
    scenario.event(Event::Stack(Box::new(Stack {
        pid: 11,
        frames: vec![CodeLocation::default()],
        entered_ns: Some(1),
        ..Stack::default()
    })));
    end(&mut scenario, 11, ExitStatus::Code(1));
    let docs = include_str!("../../../../docs/TRACE.md");
    let events = scenario.view().events;
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
