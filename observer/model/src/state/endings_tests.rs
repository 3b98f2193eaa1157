//! What nobody answered, whose client left, and what is long on purpose.

use crate::event::{Event, LostFrom, Pid, Request, StreamKind};
use crate::fact::{
    Connections, Fact, InFlight, Master, Pending, ThreadFrame, ThreadStack, WorkerInFlight,
};
use crate::findings::finding::Kind;
use crate::testing::scenarios::{S, Scenario, request};

fn scenario(class: &str, threads: u32) -> Scenario {
    let mut scenario = Scenario::new();
    scenario.fact(Fact::Master(Master {
        pid: 10,
        started_ns: 50 * S,
        app: "shop".to_owned(),
        worker_class: class.to_owned(),
        threads: Some(threads),
        ..Master::default()
    }));
    scenario.fork(10, 11);
    scenario
}

fn send(scenario: &mut Scenario, request: Request) {
    scenario.event(Event::Request(Box::new(request)));
}

fn lost(scenario: &mut Scenario, pid: Pid, from: LostFrom, count: u32) {
    scenario.event(Event::Lost {
        time_ns: scenario.now_ns,
        pid,
        from,
        count,
    });
}

/// Reports what the worker does, and returns the findings.
fn does(
    scenario: &mut Scenario,
    count: u32,
    oldest: Vec<Pending>,
    connections: Connections,
) -> Vec<Kind> {
    let workers = vec![WorkerInFlight {
        pid: 11,
        count,
        oldest,
        connections: Some(connections),
    }];
    let at_ns = scenario.now_ns;
    scenario.fact(Fact::InFlight(InFlight {
        at_ns,
        only: None,
        sees_connections: true,
        workers,
    }));
    let findings = scenario.metrics_view().findings;
    findings.iter().map(|finding| finding.finding).collect()
}

#[test]
fn lost_connections_count_for_the_app_of_a_worker_or_a_master() {
    let mut scenario = scenario("ThreadWorker", 2);
    lost(&mut scenario, 11, LostFrom::Read, 1);
    lost(&mut scenario, 10, LostFrom::Backlog, 7);
    // Of a process that is nobody's.
    lost(&mut scenario, 12, LostFrom::Backlog, 1);
    let (class, unanswered) = &scenario.app().unanswered[0];
    let expected = [(LostFrom::Backlog, 7), (LostFrom::Read, 1)];
    assert_eq!(
        (&**class, unanswered.lost.clone()),
        ("ThreadWorker", expected.into())
    );
}

#[test]
fn a_client_that_left_is_counted_with_the_time_for_nobody() {
    let mut scenario = scenario("SyncWorker", 1);
    let now_ns = scenario.now_ns;
    send(
        &mut scenario,
        Request {
            client_gone: true,
            ..request(11, now_ns)
        },
    );
    send(&mut scenario, request(11, now_ns));
    let counters = scenario.one_worker().counters;
    assert_eq!((counters.requests, counters.errors), (2, 0));
    let of_class = &scenario.app().unanswered[0].1;
    assert_eq!((of_class.disconnects, of_class.gone_ns), (1, 2_000_000));
}

#[test]
fn a_response_that_broke_off_is_an_error_unless_its_client_left() {
    for (client_gone, errors) in [(false, 1), (true, 0)] {
        let mut scenario = scenario("SyncWorker", 1);
        let now_ns = scenario.now_ns;
        send(
            &mut scenario,
            Request {
                is_incomplete: true,
                client_gone,
                ..request(11, now_ns)
            },
        );
        assert_eq!(scenario.one_worker().counters.errors, errors);
        let app = scenario.app();
        let error_type = if client_gone {
            ""
        } else {
            "response_incomplete"
        };
        assert_eq!(app.http[0].error_type, error_type);
        let of_errors = app.http_errors.iter().map(|of| of.status);
        let expected = (errors == 1).then_some(Some(200));
        assert_eq!(of_errors.collect::<Vec<_>>(), Vec::from_iter(expected));
    }
}

#[test]
fn an_exception_after_the_head_is_an_error_with_its_class() {
    let mut scenario = scenario("SyncWorker", 1);
    let request = crate::testing::scenarios::raising(request(11, scenario.now_ns));
    let exception = crate::event::Exception {
        has_left: true,
        ..crate::testing::scenarios::exception(&request, 1, "Torn")
    };
    scenario.event(Event::Exception(Box::new(exception)));
    send(&mut scenario, request);
    let app = scenario.app();
    assert_eq!(app.http[0].error_type, "response_incomplete");
    assert_eq!(app.http_errors[0].error_type, "Torn");
    assert_eq!(app.workers[0].counters.errors, 1);
}

#[test]
fn a_stream_has_the_latency_of_its_head_and_counts_of_its_own() {
    for kind in StreamKind::ALL {
        let mut scenario = scenario("ThreadWorker", 4);
        let now_ns = scenario.now_ns;
        send(
            &mut scenario,
            Request {
                entered_ns: Some(now_ns - 20 * S),
                first_write_ns: Some(now_ns - 20 * S + 1_000),
                last_write_ns: Some(now_ns - S),
                response_bytes: Some(77),
                stream: Some(kind),
                ..request(11, now_ns)
            },
        );
        let counters = scenario.one_worker().counters;
        assert_eq!(counters.requests, 1);
        assert!((counters.duration.sum() - 1e-6).abs() < 1e-12);
        let counts = counters.streams[&kind];
        assert_eq!((counts.streams, counts.sent_bytes), (1, 77));
        assert_eq!(counts.duration_ns, 19 * S - 1_000);
    }
}

#[test]
fn an_old_request_that_writes_is_not_stuck() {
    let mut scenario = scenario("ThreadWorker", 4);
    let now_ns = scenario.now_ns;
    let pending = |written_ns| {
        vec![Pending {
            begun_ns: now_ns - 60 * S,
            written_ns,
            ..Pending::default()
        }]
    };
    for (written_ns, found) in [
        (None, vec![Kind::WorkerStuck]),
        (Some(now_ns - S), vec![]),
        (Some(now_ns - 40 * S), vec![Kind::WorkerStuck]),
    ] {
        let none = Connections::default();
        let findings = does(&mut scenario, 1, pending(written_ns), none);
        assert_eq!(findings, found, "{written_ns:?}");
    }
}

#[test]
fn connections_that_wait_for_a_thread_are_saturation() {
    let mut scenario = scenario("ThreadWorker", 2);
    let waiting = |since_ns| Connections {
        accepted: 12,
        accepted_since_ns: Some(since_ns),
        ..Connections::default()
    };
    let now_ns = scenario.now_ns;
    let findings = |scenario: &mut Scenario, count, since_ns| {
        does(scenario, count, Vec::new(), waiting(since_ns))
    };
    assert_eq!(findings(&mut scenario, 1, now_ns - 9 * S), []);
    assert_eq!(findings(&mut scenario, 2, now_ns - S), []);
    let found = findings(&mut scenario, 2, now_ns - 9 * S);
    assert_eq!(found, [Kind::Saturated]);
    let waiting = &scenario.app().waiting[1];
    assert_eq!((waiting.stage, waiting.count), ("accepted", 12));
    assert!((waiting.oldest_seconds.unwrap() - 9.0).abs() < 1e-9);
}

#[test]
fn a_sync_worker_that_waits_for_its_client_says_so() {
    let reading = |scenario: &Scenario| Connections {
        reading: 1,
        accepted_since_ns: Some(scenario.now_ns - 40 * S),
        ..Connections::default()
    };
    let mut sync = scenario("SyncWorker", 1);
    let connections = reading(&sync);
    let found = does(&mut sync, 0, Vec::new(), connections);
    assert_eq!(found, [Kind::ClientSilent]);
    // Others serve someone else meanwhile.
    let mut gevent = scenario("GeventWorker", 1);
    let connections = reading(&gevent);
    assert_eq!(does(&mut gevent, 0, Vec::new(), connections), []);
}

#[test]
fn a_worker_that_takes_no_signal_has_the_stack_that_was_read_from_outside() {
    let mut scenario = scenario("SyncWorker", 1);
    let stack = |function: &str| {
        vec![ThreadStack {
            tid: 11,
            is_main: true,
            frames: vec![ThreadFrame {
                file: "shop.py".into(),
                function: function.to_owned().into(),
                line: Some(7),
                is_own: true,
            }],
            ..ThreadStack::default()
        }]
    };
    scenario.event(Event::Signal {
        time_ns: scenario.now_ns,
        pid: 11,
        signal: 6,
        sender: Some(10),
        by_thread: false,
    });
    for function in ["halt", "too_late"] {
        let stacks = stack(function);
        scenario.fact(Fact::Stacks { pid: 11, stacks });
    }
    scenario.exit(11);
    let events = scenario.worker_events();
    let exit = events.iter().find_map(|event| event.exit.as_ref()).unwrap();
    assert_eq!(exit.stuck_in.as_ref().unwrap().raw(), "shop.py:halt");
    assert_eq!(exit.stacks.len(), 1);
}

#[test]
fn a_worker_without_a_connection_has_none_where_they_are_seen() {
    let mut scenario = scenario("ThreadWorker", 2);
    for sees_connections in [true, false] {
        let at_ns = scenario.now_ns;
        scenario.fact(Fact::InFlight(InFlight {
            at_ns,
            only: None,
            sees_connections,
            workers: Vec::new(),
        }));
        let expected = sees_connections.then(Connections::default);
        assert_eq!(scenario.one_worker().connections, expected);
    }
}
