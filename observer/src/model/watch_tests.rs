use super::super::finding::{Finding, Kind};
use super::super::story::{S, Story, request};
use crate::event::{Event, ExitStatus, Pid, Request};
use crate::fact::{Fact, Gauges, InFlight, Listener, Pending, WorkerInFlight};

/// A look at what is in progress, with what each of these workers began, and when.
fn look(story: &mut Story, pending: &[(Pid, u64)]) -> Vec<(Kind, Option<Pid>)> {
    let workers = pending.iter().map(|&(pid, begun_ns)| WorkerInFlight {
        pid,
        count: 1,
        oldest: vec![Pending {
            begun_ns,
            path: Some("/users/7".to_owned()),
            ..Pending::default()
        }],
    });
    let workers = workers.collect();
    let at_ns = story.now_ns;
    story.fact(Fact::InFlight(InFlight {
        at_ns,
        only: None,
        workers,
    }));
    let found = story.snapshot().findings;
    found
        .iter()
        .map(|found| (found.finding, found.worker_pid))
        .collect()
}

fn evidence(story: &Story) -> String {
    let findings = story.snapshot().findings;
    let [Finding { evidence, .. }] = findings.as_slice() else {
        panic!("one finding: {findings:?}");
    };
    evidence.clone()
}

fn story(workers: &[Pid]) -> Story {
    let mut story = Story::new();
    story.master(10);
    for &pid in workers {
        story.fork(10, pid);
    }
    story
}

fn gauges(story: &mut Story, pid: Pid, resident_bytes: u64, heartbeat: f64) {
    let gauges = Gauges {
        pid,
        resident_bytes,
        heartbeat_age_seconds: Some(heartbeat),
        ..Gauges::default()
    };
    let workers = vec![gauges];
    story.fact(Fact::Gauges { workers });
}

fn backlog(story: &mut Story, backlog: u32) {
    let listener = Listener {
        address: "127.0.0.1:8000".to_owned(),
        backlog,
        limit: 100,
        drops: None,
    };
    let listeners = vec![listener];
    story.fact(Fact::Listeners { pid: 10, listeners });
}

#[test]
fn a_request_that_takes_long_is_found_while_it_does_and_since_when() {
    let mut story = story(&[11]);
    let begun_ns = story.now_ns;
    story.state.keep_findings();
    story.later(9);
    assert_eq!(look(&mut story, &[(11, begun_ns)]), []);
    story.later(1);
    let stuck = (Kind::WorkerStuck, Some(11));
    assert_eq!(look(&mut story, &[(11, begun_ns)]), [stuck]);
    let since = story.snapshot().findings[0].since_seconds;
    assert!(
        evidence(&story).contains("/users/{id} is in progress for 10.0 s"),
        "{}",
        evidence(&story)
    );
    assert_eq!(story.state.take_findings().len(), 1);
    story.later(5);
    assert_eq!(look(&mut story, &[(11, begun_ns)]), [stuck]);
    assert!((story.snapshot().findings[0].since_seconds - since).abs() < 1e-9);
    assert!(story.state.take_findings().is_empty(), "it is told once");
    assert_eq!(look(&mut story, &[]), []);
}

#[test]
fn a_heartbeat_is_late_when_little_of_the_timeout_is_left() {
    let mut story = story(&[11]);
    gauges(&mut story, 11, 1, 23.9);
    assert_eq!(look(&mut story, &[]), []);
    gauges(&mut story, 11, 1, 24.0);
    assert_eq!(look(&mut story, &[]), [(Kind::HeartbeatLate, Some(11))]);
}

#[test]
fn workers_that_end_in_trouble_again_and_again_are_a_loop() {
    let mut story = story(&[]);
    let end = |story: &mut Story, pid: Pid, status: ExitStatus| {
        story.fork(10, pid);
        let time_ns = story.now_ns;
        story.event(Event::Exit {
            time_ns,
            pid,
            status,
        });
    };
    for pid in 20..22 {
        end(&mut story, pid, ExitStatus::Signal(11));
    }
    assert_eq!(look(&mut story, &[]), []);
    end(&mut story, 30, ExitStatus::Code(3));
    assert_eq!(look(&mut story, &[]), [(Kind::RestartLoop, None)]);
    assert!(
        evidence(&story).contains("3 workers ended within a minute, the last one by boot_error")
    );
    story.later(61);
    assert_eq!(look(&mut story, &[]), []);
}

#[test]
fn a_backlog_that_stays_is_saturation_and_one_that_grows_is_told_as_such() {
    let mut story = story(&[11]);
    for (waiting, expected) in [
        (5, None),
        (5, None),
        (5, Some(Kind::Saturated)),
        // Little, though it grows.
        (6, Some(Kind::Saturated)),
        (20, Some(Kind::BacklogGrowing)),
        (0, None),
    ] {
        backlog(&mut story, waiting);
        story.later(5);
        let found = look(&mut story, &[]);
        assert_eq!(found.first().map(|found| found.0), expected, "{waiting}");
    }
}

#[test]
fn one_worker_that_serves_nearly_all_is_found() {
    let mut story = story(&[11, 12]);
    for _ in 0..3 {
        look(&mut story, &[]);
        story.later(5);
    }
    for _ in 0..99 {
        story.get(11);
    }
    assert_eq!(look(&mut story, &[]), []);
    story.get(12);
    assert_eq!(look(&mut story, &[]), [(Kind::OneWorkerBusy, Some(11))]);
    for _ in 0..20 {
        story.get(12);
    }
    assert_eq!(look(&mut story, &[]), []);
}

#[test]
fn memory_that_grows_with_requests_is_found_but_not_that_of_a_warm_up() {
    let mut story = story(&[11]);
    let mib = |n: u64| n << 20;
    let mut found = Vec::new();
    for step in 0..12 {
        gauges(&mut story, 11, mib(50 + 2 * step), 0.0);
        for _ in 0..4 {
            story.get(11);
        }
        story.later(5);
        found = look(&mut story, &[]);
    }
    assert_eq!(found, [(Kind::MemoryGrows, Some(11))]);
    assert!(
        evidence(&story).contains("it grew by 22 MiB to 72 MiB within 55 s"),
        "{}",
        evidence(&story)
    );
    // It stays what it is from now on, but for one step.
    for step in 0..24 {
        gauges(&mut story, 11, mib(if step < 12 { 72 } else { 90 }), 0.0);
        story.get(11);
        story.later(5);
        found = look(&mut story, &[]);
    }
    assert_eq!(found, []);
}

#[test]
fn nothing_is_found_of_a_master_that_has_ended() {
    let mut story = story(&[11]);
    let begun_ns = story.now_ns;
    story.later(60);
    assert_eq!(look(&mut story, &[(11, begun_ns)]).len(), 1);
    story.exit(10);
    assert_eq!(look(&mut story, &[(11, begun_ns)]), []);
}

#[test]
fn a_hanging_request_counts_as_busy_up_to_each_look() {
    let mut story = story(&[11]);
    let begun_ns = story.now_ns;
    story.later(3);
    look(&mut story, &[(11, begun_ns)]);
    let worker = story.one_worker();
    assert_eq!((worker.tally.busy_ns, worker.in_flight), (3 * S, 1));
    assert!((worker.oldest_request.unwrap().age_seconds - 3.0).abs() < 1e-9);
    story.later(1);
    let now_ns = story.now_ns;
    let ended = Request {
        entered_ns: Some(begun_ns),
        exited_ns: Some(now_ns),
        ..request(11, now_ns)
    };
    story.event(Event::Request(Box::new(ended)));
    story.later(10);
    look(&mut story, &[]);
    let worker = story.one_worker();
    assert_eq!((worker.tally.busy_ns, worker.in_flight), (4 * S, 0));
    assert_eq!(story.app().classes[0].tally.busy_ns, 4 * S);
    assert_eq!(story.app().slots[0].tally.busy_ns, 4 * S);
}
