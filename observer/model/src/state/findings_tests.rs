use crate::event::{Event, ExitStatus, Pid, Request};
use crate::fact::{Fact, Gauges, InFlight, Listener, Pending, WorkerInFlight};
use crate::findings::finding::{Finding, Kind};
use crate::testing::scenarios::{S, Scenario, request};

/// Reports the requests in flight: pid of the worker, and start of its request.
fn in_flight(scenario: &mut Scenario, pending: &[(Pid, u64)]) -> Vec<(Kind, Option<Pid>)> {
    let workers = pending.iter().map(|&(pid, begun_ns)| WorkerInFlight {
        pid,
        count: 1,
        oldest: vec![Pending {
            begun_ns,
            path: Some("/users/7".into()),
            ..Pending::default()
        }],
        connections: None,
    });
    let workers = workers.collect();
    let at_ns = scenario.now_ns;
    scenario.fact(Fact::InFlight(InFlight {
        at_ns,
        only: None,
        sees_connections: true,
        workers,
    }));
    let found = scenario.metrics_view().findings;
    found
        .iter()
        .map(|found| (found.finding, found.worker_pid))
        .collect()
}

fn evidence(scenario: &Scenario) -> String {
    let findings = scenario.metrics_view().findings;
    let [Finding { evidence, .. }] = findings.as_slice() else {
        panic!("one finding: {findings:?}");
    };
    evidence.raw().to_owned()
}

fn scenario(workers: &[Pid]) -> Scenario {
    let mut scenario = Scenario::new();
    scenario.master(10);
    for &pid in workers {
        scenario.fork(10, pid);
    }
    scenario
}

fn gauges(scenario: &mut Scenario, pid: Pid, resident_bytes: u64, heartbeat: f64) {
    let gauges = Gauges {
        pid,
        resident_bytes,
        heartbeat_age_seconds: Some(heartbeat),
        ..Gauges::default()
    };
    let workers = vec![gauges];
    scenario.fact(Fact::Gauges { workers });
}

fn backlog(scenario: &mut Scenario, backlog: u32) {
    let listener = Listener {
        address: "127.0.0.1:8000".to_owned(),
        backlog,
        limit: 100,
        drops: None,
    };
    let listeners = vec![listener];
    scenario.fact(Fact::Listeners { pid: 10, listeners });
}

#[test]
fn a_hanging_request_is_a_finding_while_it_lasts() {
    let mut scenario = scenario(&[11]);
    let begun_ns = scenario.now_ns;
    scenario.later(9);
    assert_eq!(in_flight(&mut scenario, &[(11, begun_ns)]), []);
    scenario.later(1);
    let stuck = (Kind::WorkerStuck, Some(11));
    assert_eq!(in_flight(&mut scenario, &[(11, begun_ns)]), [stuck]);
    let since = scenario.metrics_view().findings[0].since_seconds;
    assert!(
        evidence(&scenario).contains("/users/{id} is in progress for 10.0 s"),
        "{}",
        evidence(&scenario)
    );
    assert_eq!(scenario.new_findings().len(), 1);
    scenario.later(5);
    assert_eq!(in_flight(&mut scenario, &[(11, begun_ns)]), [stuck]);
    assert!((scenario.metrics_view().findings[0].since_seconds - since).abs() < 1e-9);
    assert!(
        scenario.new_findings().is_empty(),
        "a finding is reported once"
    );
    assert_eq!(in_flight(&mut scenario, &[]), []);
}

#[test]
fn a_heartbeat_is_late_when_little_of_the_timeout_is_left() {
    let mut scenario = scenario(&[11]);
    gauges(&mut scenario, 11, 1, 23.9);
    assert_eq!(in_flight(&mut scenario, &[]), []);
    gauges(&mut scenario, 11, 1, 24.0);
    assert_eq!(
        in_flight(&mut scenario, &[]),
        [(Kind::HeartbeatLate, Some(11))]
    );
}

#[test]
fn a_worker_that_boots_for_longer_than_the_timeout_is_a_finding() {
    let mut scenario = scenario(&[11]);
    let booting = |heartbeat_age_seconds| Fact::Gauges {
        workers: vec![Gauges {
            pid: 11,
            heartbeat_age_seconds,
            booted: Some(false),
            ..Gauges::default()
        }],
    };
    scenario.fact(booting(None));
    scenario.later(29);
    assert_eq!(in_flight(&mut scenario, &[]), []);
    scenario.later(1);
    let found = [(Kind::DoesNotBoot, Some(11))];
    assert_eq!(in_flight(&mut scenario, &[]), found);
    assert!(evidence(&scenario).contains("booting for 30 s"));
    // Its master counts: it will end it.
    scenario.fact(booting(Some(1.0)));
    assert_eq!(in_flight(&mut scenario, &[]), []);
}

fn signal(scenario: &mut Scenario, pid: Pid, signal: u8) {
    let time_ns = scenario.now_ns;
    scenario.event(Event::Signal {
        time_ns,
        pid,
        signal,
        sender: Some(99),
        by_thread: false,
    });
}

#[test]
fn an_app_whose_only_worker_quits_is_a_finding() {
    let mut scenario = scenario(&[11]);
    gauges(&mut scenario, 11, 1, 0.0);
    let begun_ns = scenario.now_ns;
    signal(&mut scenario, 11, 15);
    scenario.later(4);
    assert_eq!(in_flight(&mut scenario, &[(11, begun_ns)]), []);
    scenario.later(1);
    let found = [(Kind::OnlyWorkerQuitting, Some(11))];
    assert_eq!(in_flight(&mut scenario, &[(11, begun_ns)]), found);
    let evidence = evidence(&scenario);
    assert_eq!(
        evidence,
        "the only worker has been quitting for 5 s; requests in progress: 1"
    );
    scenario.fork(10, 12);
    assert_eq!(
        in_flight(&mut scenario, &[(11, begun_ns)]),
        [],
        "another one comes"
    );
}

#[test]
fn an_app_whose_workers_all_quit_by_themselves_is_a_finding() {
    let mut scenario = scenario(&[11, 12]);
    let stops = |scenario: &mut Scenario, pid| {
        let workers = vec![Gauges {
            pid,
            booted: Some(true),
            alive: Some(false),
            ..Gauges::default()
        }];
        scenario.fact(Fact::Gauges { workers });
    };
    stops(&mut scenario, 11);
    scenario.later(100);
    assert_eq!(in_flight(&mut scenario, &[]), [], "the other one serves");
    stops(&mut scenario, 12);
    scenario.later(5);
    let found = [(Kind::OnlyWorkerQuitting, None)];
    assert_eq!(in_flight(&mut scenario, &[]), found);
    assert!(evidence(&scenario).contains("all 2 workers have been quitting for 5 s"));
}

#[test]
fn workers_of_a_master_that_stops_quit_as_they_should() {
    for (asked, is_found) in [
        (&[15][..], false),
        (&[28], false),
        (&[28, 1], true),
        (&[1], true),
    ] {
        let mut scenario = scenario(&[11]);
        for &number in asked {
            signal(&mut scenario, 10, number);
        }
        signal(&mut scenario, 11, 15);
        scenario.later(9);
        let found = in_flight(&mut scenario, &[]);
        assert_eq!(!found.is_empty(), is_found, "{asked:?}: {found:?}");
    }
}

#[test]
fn workers_that_outlive_their_master_are_a_finding_as_long_as_they_live() {
    let mut scenario = scenario(&[11]);
    let exit = |scenario: &mut Scenario, pid| {
        let time_ns = scenario.now_ns;
        scenario.event(Event::Exit {
            time_ns,
            pid,
            status: ExitStatus::Signal(9),
        });
    };
    exit(&mut scenario, 10);
    scenario.later(4);
    assert_eq!(in_flight(&mut scenario, &[]), [], "they may follow it");
    scenario.later(1);
    let found = [(Kind::OrphanedWorkers, None)];
    assert_eq!(in_flight(&mut scenario, &[]), found);
    assert!(evidence(&scenario).contains("5 s ago; 1 of its workers"));
    // Long after its series would have gone.
    scenario.later(100_000);
    assert_eq!(in_flight(&mut scenario, &[]), found);
    exit(&mut scenario, 11);
    assert_eq!(in_flight(&mut scenario, &[]), []);
}

#[test]
fn workers_that_exit_in_trouble_again_and_again_are_a_restart_loop() {
    let mut scenario = scenario(&[]);
    let end = |scenario: &mut Scenario, pid: Pid, status: ExitStatus| {
        scenario.fork(10, pid);
        let time_ns = scenario.now_ns;
        scenario.event(Event::Exit {
            time_ns,
            pid,
            status,
        });
    };
    for pid in 20..22 {
        end(&mut scenario, pid, ExitStatus::Signal(11));
    }
    assert_eq!(in_flight(&mut scenario, &[]), []);
    end(&mut scenario, 30, ExitStatus::Code(3));
    assert_eq!(in_flight(&mut scenario, &[]), [(Kind::RestartLoop, None)]);
    assert!(
        evidence(&scenario)
            .contains("3 workers exited within a minute, the last one by boot_error")
    );
    scenario.later(61);
    assert_eq!(in_flight(&mut scenario, &[]), []);
}

#[test]
fn a_backlog_that_stays_is_saturation_and_one_that_grows_is_a_growing_backlog() {
    let mut scenario = scenario(&[11]);
    for (waiting, expected) in [
        (5, None),
        (5, None),
        (5, Some(Kind::Saturated)),
        // It grows, but by little.
        (6, Some(Kind::Saturated)),
        (20, Some(Kind::BacklogGrowing)),
        (0, None),
    ] {
        backlog(&mut scenario, waiting);
        scenario.later(5);
        let found = in_flight(&mut scenario, &[]);
        assert_eq!(found.first().map(|found| found.0), expected, "{waiting}");
    }
}

#[test]
fn one_worker_that_serves_nearly_all_requests_is_a_finding() {
    let mut scenario = scenario(&[11, 12]);
    for _ in 0..3 {
        in_flight(&mut scenario, &[]);
        scenario.later(5);
    }
    for _ in 0..99 {
        scenario.get(11);
    }
    assert_eq!(in_flight(&mut scenario, &[]), []);
    scenario.get(12);
    assert_eq!(
        in_flight(&mut scenario, &[]),
        [(Kind::OneWorkerBusy, Some(11))]
    );
    for _ in 0..20 {
        scenario.get(12);
    }
    assert_eq!(in_flight(&mut scenario, &[]), []);
}

#[test]
fn memory_that_grows_with_requests_is_a_finding_but_a_warm_up_is_not() {
    let mut scenario = scenario(&[11]);
    let mib = |n: u64| n << 20;
    let mut found = Vec::new();
    for step in 0..12 {
        gauges(&mut scenario, 11, mib(50 + 2 * step), 0.0);
        for _ in 0..4 {
            scenario.get(11);
        }
        scenario.later(5);
        found = in_flight(&mut scenario, &[]);
    }
    assert_eq!(found, [(Kind::MemoryGrows, Some(11))]);
    assert!(
        evidence(&scenario).contains("memory grew by 22 MiB to 72 MiB within 55 s"),
        "{}",
        evidence(&scenario)
    );
    // It stays the same from now on, but for one step.
    for step in 0..24 {
        gauges(&mut scenario, 11, mib(if step < 12 { 72 } else { 90 }), 0.0);
        scenario.get(11);
        scenario.later(5);
        found = in_flight(&mut scenario, &[]);
    }
    assert_eq!(found, []);
}

#[test]
fn a_master_that_exited_with_its_workers_has_no_findings() {
    let mut scenario = scenario(&[11]);
    let begun_ns = scenario.now_ns;
    scenario.later(60);
    assert_eq!(in_flight(&mut scenario, &[(11, begun_ns)]).len(), 1);
    scenario.exit(11).exit(10);
    assert_eq!(in_flight(&mut scenario, &[(11, begun_ns)]), []);
}

#[test]
fn a_hanging_request_counts_as_busy_up_to_each_sample() {
    let mut scenario = scenario(&[11]);
    let begun_ns = scenario.now_ns;
    scenario.later(3);
    in_flight(&mut scenario, &[(11, begun_ns)]);
    let worker = scenario.one_worker();
    assert_eq!((worker.counters.busy_ns, worker.in_flight), (3 * S, 1));
    assert!((worker.oldest_request.unwrap().age_seconds - 3.0).abs() < 1e-9);
    scenario.later(1);
    let now_ns = scenario.now_ns;
    let finished = Request {
        entered_ns: Some(begun_ns),
        exited_ns: Some(now_ns),
        ..request(11, now_ns)
    };
    scenario.event(Event::Request(Box::new(finished)));
    scenario.later(10);
    in_flight(&mut scenario, &[]);
    let worker = scenario.one_worker();
    assert_eq!((worker.counters.busy_ns, worker.in_flight), (4 * S, 0));
    assert_eq!(scenario.app().classes[0].counters.busy_ns, 4 * S);
    assert_eq!(scenario.app().slots[0].counters.busy_ns, 4 * S);
}
