//! Ends of workers as events, and what is told of them.
use std::borrow::Cow;

use super::ending::{Manner, Reason};
use super::happened::Happened;
use super::life::Stage;
use super::story::{S, Story};
use crate::event::{Event, ExitStatus, Frame, Pid, Place, Stack};
use crate::fact::{Fact, Gauges, InFlight, Pending, WorkerInFlight};

fn signal(story: &mut Story, pid: Pid, signal: u8, sender: Option<Pid>) {
    let time_ns = story.now_ns;
    story.event(Event::Signal {
        time_ns,
        pid,
        signal,
        sender,
    });
}

fn end(story: &mut Story, pid: Pid, status: ExitStatus) {
    let time_ns = story.now_ns;
    story.event(Event::Exit {
        time_ns,
        pid,
        status,
    });
}

fn events(story: &mut Story) -> Vec<(&'static str, Pid, Option<Reason>)> {
    let taken = story.state.take_events();
    let of = |event: &Happened| {
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
    let mut story = Story::new();
    story.state.keep_events();
    story.master(10).fork(10, 11).worker(10, 11, 1);
    story.later(40);
    let begun_ns = story.now_ns - 30 * S;
    let oldest = vec![Pending {
        begun_ns,
        tid: 11,
        method: Some("GET".to_owned()),
        path: Some("/users/7".to_owned()),
        path_cut: false,
    }];
    let (pid, count, at_ns) = (11, 1, story.now_ns);
    story.fact(Fact::InFlight(InFlight {
        at_ns,
        only: None,
        workers: vec![WorkerInFlight { pid, count, oldest }],
    }));
    signal(&mut story, 11, 6, Some(10));
    let frame = Frame {
        file: "shop.py".to_owned(),
        function: "view".to_owned(),
        is_own: true,
        ..Frame::default()
    };
    let line = Some(7);
    story.event(Event::Stack(Box::new(Stack {
        time_ns: at_ns,
        pid: 11,
        is_current: true,
        entered_ns: Some(begun_ns),
        method: Some("GET".to_owned()),
        path: Some("/users/7".to_owned()),
        frames: vec![Place { frame, line }],
        ..Stack::default()
    })));
    assert_eq!(story.one_worker().state, Some(Stage::Aborting));
    // While it goes down, the request comes to an end.
    story.later(1);
    let at_ns = story.now_ns;
    let workers = Vec::new();
    story.fact(Fact::InFlight(InFlight {
        at_ns,
        only: None,
        workers,
    }));
    end(&mut story, 11, ExitStatus::Signal(9));
    let worker = story.one_worker();
    assert_eq!(worker.reason, Some(Reason::Timeout));
    assert_eq!(worker.restart_type, Some(Manner::Forced));
    assert_eq!((worker.state, worker.in_flight), (None, 0));
    let app = story.app();
    assert_eq!(app.ends["timeout"], 1);
    assert_eq!(app.ends.values().sum::<u64>(), 1);
    assert_eq!(app.timeouts[0].stuck_in, "shop.py:view");
    assert_eq!(&*app.timeouts[0].class, "ThreadWorker");
    let event = story.view().events.pop().unwrap();
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
        ("worker_ended", 11, Some(Reason::Timeout)),
    ];
    assert_eq!(events(&mut story), expected);
}

#[test]
fn a_worker_whose_master_is_known_later_still_tells_why_it_ended() {
    let mut story = Story::new();
    story.state.keep_events();
    story.fork(10, 11);
    story.event(Event::Oom {
        time_ns: 1,
        pid: 11,
    });
    end(&mut story, 11, ExitStatus::Signal(9));
    assert_eq!(events(&mut story), []);
    story.master(10);
    assert_eq!(
        events(&mut story),
        [("worker_ended", 11, Some(Reason::Oom))]
    );
    assert_eq!(story.app().ends["oom"], 1);
}

#[test]
fn signals_of_a_master_are_counted_and_explain_what_it_does() {
    let mut story = Story::new();
    story.master(10).fork(10, 11).fork(10, 12);
    signal(&mut story, 10, 1, Some(1));
    signal(&mut story, 11, 15, Some(10));
    end(&mut story, 11, ExitStatus::Code(0));
    assert_eq!(story.app().signals, [("HUP", 1)].into());
    assert_eq!(story.app().ends["reload"], 1);
    // A worker that cannot boot makes its master stop all others.
    end(&mut story, 12, ExitStatus::Code(3));
    story.fork(10, 13).get(13);
    let mut story = {
        story.later(100);
        story
    };
    signal(&mut story, 13, 15, Some(10));
    end(&mut story, 13, ExitStatus::Code(0));
    assert_eq!(story.app().ends["boot_error"], 1);
    assert_eq!(
        story.app().ends["reload"],
        2,
        "the last thing it was asked for"
    );
}

#[test]
fn the_ends_of_workers_stay_counted_by_slot_and_class() {
    let mut story = Story::new();
    story.master(10);
    for pid in 11..14 {
        story.fork(10, pid).get(pid);
        end(&mut story, pid, ExitStatus::Signal(11));
    }
    let key = (Manner::Forced, Reason::Crash);
    let app = story.app();
    assert_eq!(app.slots[0].tally.ends[&key], 3);
    assert_eq!(app.classes[0].tally.ends[&key], 3);
    assert_eq!(app.workers[0].tally.ends[&key], 1);
}

#[test]
fn what_a_worker_used_is_counted_once_and_shown_while_it_lives() {
    let mut story = Story::new();
    story.master(10).fork(10, 11);
    let look = |story: &mut Story, cpu_seconds| {
        let gauges = Gauges {
            pid: 11,
            cpu_seconds,
            booted: Some(true),
            ..Gauges::default()
        };
        let workers = vec![gauges];
        story.fact(Fact::Gauges { workers });
    };
    assert_eq!(story.one_worker().tally.cpu_ns, None);
    look(&mut story, 0.0);
    let worker = story.one_worker();
    assert_eq!(worker.tally.cpu_ns, Some(0));
    assert_eq!(worker.cpu_percent, None, "one look tells no rate");
    story.later(1);
    look(&mut story, 2.0);
    story.later(2);
    look(&mut story, 3.0);
    let worker = story.one_worker();
    assert_eq!(worker.tally.cpu_ns, Some(3 * S));
    assert!((worker.cpu_percent.unwrap() - 50.0).abs() < 1e-9);
    assert_eq!(worker.state, Some(Stage::Running));
    end(&mut story, 11, ExitStatus::Code(0));
    let worker = story.one_worker();
    assert_eq!(
        (worker.tally.cpu_ns, worker.gauges, worker.cpu_percent),
        (Some(3 * S), None, None)
    );
}

/// What a program may rely on: docs/TRACE.md has each field.
#[test]
fn every_field_of_an_event_is_documented() {
    let mut story = Story::new();
    story.master(10).fork(10, 11);
    signal(&mut story, 11, 6, Some(10));
    story.event(Event::Stack(Box::new(Stack {
        pid: 11,
        frames: vec![Place::default()],
        entered_ns: Some(1),
        ..Stack::default()
    })));
    end(&mut story, 11, ExitStatus::Code(1));
    let docs = include_str!("../../../docs/TRACE.md");
    let events = story.view().events;
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
