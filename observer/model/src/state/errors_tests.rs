//! Causes of failed requests, from records to views.

use crate::event::{Event, Exception, Frame, Request, TimedBy};
use crate::fact::{DeepCaptureState, Level};
use crate::testing::scenarios::{S, Scenario, captured_frame, exception, raising, request};
use crate::views::metrics_view::{AppView, ErrorView};

/// A master with one worker.
fn shop() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    scenario
}

fn served(scenario: &mut Scenario, request: Request) -> &mut Scenario {
    scenario.event(Event::Request(Box::new(request)))
}

fn handled(scenario: &mut Scenario, exception: Exception) -> &mut Scenario {
    scenario.event(Event::Exception(Box::new(exception)))
}

/// Status, type and place of each series of responses that failed, with its count.
fn http_errors(app: &AppView) -> Vec<(u16, &str, &str, u64)> {
    let series = app.http_errors.iter();
    series
        .map(|e| {
            (
                e.status.unwrap_or(0),
                &*e.error_type,
                &*e.raised_in,
                e.count,
            )
        })
        .collect()
}

fn types(errors: &[ErrorView]) -> Vec<(&str, u64)> {
    let types = errors.iter();
    types.map(|e| (&*e.error_type, e.count)).collect()
}

#[test]
fn an_exception_that_left_the_application_is_counted_by_its_class() {
    let mut scenario = shop();
    scenario.raise(11, "Empty").raise(11, "Empty").get(11);
    let app = scenario.app();
    let place = "shop/views.py:index";
    assert_eq!(http_errors(&app), [(500, "Empty", place, 2)]);
    for failed in [
        &app.workers[0].failed,
        &app.slots[0].failed,
        &app.classes[0].failed,
    ] {
        assert_eq!(types(failed), [("Empty", 2)]);
        assert_eq!(
            (failed[0].method, &*failed[0].endpoint),
            ("GET", "/users/{id}")
        );
    }
    assert!(app.workers[0].handled.is_empty());
}

#[test]
fn an_exception_that_the_framework_answered_has_not_left_the_application() {
    let mut scenario = shop();
    let of = Request {
        status: Some(503),
        ..raising(request(11, scenario.now_ns))
    };
    handled(&mut scenario, exception(&of, 1, "Empty"));
    served(&mut scenario, of);
    let app = scenario.app();
    let place = "shop/views.py:index";
    assert_eq!(http_errors(&app), [(503, "Empty", place, 1)]);
    assert!(app.workers[0].failed.is_empty());
}

#[test]
fn an_exception_answered_with_less_than_500_is_no_error() {
    let mut scenario = shop();
    let of = Request {
        status: Some(404),
        ..raising(request(11, scenario.now_ns))
    };
    handled(&mut scenario, exception(&of, 1, "NotFound"));
    served(&mut scenario, of);
    let app = scenario.app();
    assert_eq!(http_errors(&app), []);
    assert!(app.workers[0].failed.is_empty() && app.workers[0].handled.is_empty());
}

#[test]
fn a_request_that_was_cut_off_failed_unless_its_client_disconnected() {
    for (client_gone, raised, expected) in [
        (false, None, &[("unknown", 1)][..]),
        (false, Some("SystemExit"), &[("SystemExit", 1)]),
        (true, None, &[]),
    ] {
        let mut scenario = shop();
        let of = Request {
            status: None,
            exited_ns: None,
            was_cut: true,
            client_gone,
            ..request(11, scenario.now_ns)
        };
        let of = if let Some(class) = raised {
            let of = raising(of);
            handled(&mut scenario, exception(&of, 1, class));
            of
        } else {
            of
        };
        served(&mut scenario, of);
        let app = scenario.app();
        assert_eq!(types(&app.workers[0].failed), expected);
        assert_eq!(http_errors(&app), []);
    }
}

#[test]
fn handle_error_counts_also_for_a_request_that_gunicorn_refused() {
    let mut scenario = shop();
    let refused = Request {
        status: Some(400),
        bad_request: true,
        error_handled: true,
        entered_ns: None,
        exited_ns: None,
        exceptions: Some(5),
        ..request(11, scenario.now_ns)
    };
    let invalid = Exception {
        request: 5,
        was_gunicorns: true,
        has_left: true,
        ..exception(&refused, 1, "InvalidRequestLine")
    };
    handled(&mut scenario, invalid);
    served(&mut scenario, refused.clone());
    // The same when its exception was not seen.
    served(
        &mut scenario,
        Request {
            exceptions: None,
            ..refused
        },
    );
    let app = scenario.app();
    let mut handled = types(&app.workers[0].handled);
    handled.sort_unstable();
    assert_eq!(handled, [("InvalidRequestLine", 1), ("unknown", 1)]);
    assert!(
        app.workers[0].failed.is_empty(),
        "it never reached the application"
    );
    assert_eq!(app.workers[0].counters.requests, 0);
}

#[test]
fn without_an_exception_a_5xx_is_unknown_until_a_deep_capture_shows_that_there_was_none() {
    let mut scenario = shop();
    scenario
        .fail(11, 500)
        .deep_capture(10, DeepCaptureState::Capturing)
        .later(1);
    scenario.fail(11, 503);
    let app = scenario.app();
    let errors = [(500, "unknown", "", 1), (503, "", "", 1)];
    assert_eq!(http_errors(&app), errors);
    assert!(app.workers[0].failed.is_empty());
}

#[test]
fn a_deep_capture_finds_an_exception_that_no_code_handled() {
    let mut scenario = shop();
    scenario
        .deep_capture(10, DeepCaptureState::Capturing)
        .later(1);
    let of = Request {
        status: Some(500),
        exceptions_count: 2,
        ..raising(request(11, scenario.now_ns))
    };
    for depth in [3, 2] {
        let captured_frame = captured_frame(&of, 1, "Empty", depth);
        scenario.event(Event::CapturedFrame(Box::new(captured_frame)));
    }
    served(&mut scenario, of);
    let place = "shop/views.py:index";
    assert_eq!(http_errors(&scenario.app()), [(500, "Empty", place, 1)]);
    let events = scenario.metrics_view().observer.events;
    assert_eq!((events["captured_frame"], events["exception"]), (2, 0));
}

#[test]
fn a_deep_capture_is_checked_against_a_known_exception() {
    let mut scenario = shop();
    scenario
        .raise(11, "Empty")
        .deep_capture(10, DeepCaptureState::Capturing)
        .later(1);
    // This capture saw no frame.
    scenario.raise(11, "Empty");
    for (status, steps) in [(500, 1), (500, 1), (404, 1), (500, 0)] {
        scenario.later(1);
        let of = Request {
            status: Some(status),
            exceptions_count: steps + 1,
            ..raising(request(11, scenario.now_ns))
        };
        for _ in 0..steps {
            let captured_frame = captured_frame(&of, 1, "Empty", 1);
            scenario.event(Event::CapturedFrame(Box::new(captured_frame)));
        }
        handled(&mut scenario, exception(&of, 1, "Empty"));
        served(&mut scenario, of);
    }
    let observer = scenario.metrics_view().observer;
    assert_eq!(
        (
            observer.deep_captures_agreed,
            observer.deep_captures_disagreed
        ),
        (2, 2)
    );
}

#[test]
fn an_incomplete_deep_capture_leaves_the_cause_unknown() {
    let captured = |scenario: &mut Scenario| {
        scenario
            .deep_capture(10, DeepCaptureState::Capturing)
            .later(1);
    };
    type Then = fn(&mut Scenario);
    let table: [(&str, Then); 5] = [
        ("the request began before the capture", |scenario| {
            scenario.now_ns -= S;
        }),
        ("the capture is exhausted", |scenario| {
            let time_ns = scenario.now_ns;
            scenario.event(Event::DeepCaptureExhausted { time_ns });
        }),
        ("the capture is over", |scenario| {
            scenario.deep_capture(10, DeepCaptureState::Resting);
        }),
        (
            "the capture is over and another master's begins",
            |scenario| {
                scenario
                    .deep_capture(10, DeepCaptureState::Resting)
                    .deep_capture(20, DeepCaptureState::Capturing)
                    .later(1);
            },
        ),
        ("its exceptions were lost", |scenario| {
            let lost = Request {
                status: Some(500),
                ..raising(request(11, scenario.now_ns))
            };
            served(scenario, lost);
        }),
    ];
    for (what, then) in table {
        let mut scenario = shop();
        captured(&mut scenario);
        then(&mut scenario);
        if scenario.app().http_errors.is_empty() {
            scenario.fail(11, 500);
        }
        assert_eq!(
            http_errors(&scenario.app()),
            [(500, "unknown", "", 1)],
            "{what}"
        );
    }
}

#[test]
fn only_an_unexplained_failure_in_python_needs_a_deep_capture() {
    type Change = fn(Request) -> Request;
    let table: [(&str, Change, Option<&str>); 9] = [
        ("a 500", |r| r, Some("500 on /users/{id}")),
        (
            "a 503",
            |r| Request {
                status: Some(503),
                ..r
            },
            Some("503 on /users/{id}"),
        ),
        (
            "cut off",
            |r| Request {
                status: None,
                was_cut: true,
                ..r
            },
            Some("no answer on /users/{id}"),
        ),
        (
            "no error",
            |r| Request {
                status: Some(499),
                ..r
            },
            None,
        ),
        ("no answer seen", |r| Request { status: None, ..r }, None),
        (
            "the client disconnected",
            |r| Request {
                client_gone: true,
                ..r
            },
            None,
        ),
        (
            "seen by system calls alone",
            |r| Request {
                timed_by: TimedBy::Socket,
                ..r
            },
            None,
        ),
        (
            "never in the application",
            |r| Request {
                entered_ns: None,
                bad_request: true,
                ..r
            },
            None,
        ),
        (
            "of a process without a master",
            |r| Request { pid: 77, ..r },
            None,
        ),
    ];
    for (what, change, expected) in table {
        let mut scenario = shop();
        let failed = Request {
            status: Some(500),
            ..request(11, scenario.now_ns)
        };
        served(&mut scenario, change(failed));
        let wanted = scenario.deep_captures_wanted();
        let why = wanted.get(&10).map(String::as_str);
        assert_eq!(why, expected, "{what}");
        assert!(wanted.keys().all(|&pid| pid == 10), "{what}");
        assert!(scenario.deep_captures_wanted().is_empty(), "{what}");
    }
}

#[test]
fn an_explained_or_captured_or_unobserved_failure_needs_no_deep_capture() {
    let needs = |steps: fn(&mut Scenario)| {
        let mut scenario = shop();
        steps(&mut scenario);
        !scenario.deep_captures_wanted().is_empty()
    };
    assert!(needs(|scenario| {
        scenario.fail(11, 500);
    }));
    assert!(!needs(|scenario| {
        scenario.raise(11, "Empty");
    }));
    assert!(!needs(|scenario| {
        scenario
            .deep_capture(10, DeepCaptureState::Capturing)
            .fail(11, 500);
    }));
    assert!(!needs(|scenario| {
        scenario.level(10, Level::None).fail(11, 500);
    }));
    // Its master exited in the meantime.
    assert!(!needs(|scenario| {
        scenario.fail(11, 500).exit(10);
    }));
    // Its client disconnected.
    assert!(!needs(|scenario| {
        let of = Request {
            status: Some(500),
            ..raising(request(11, scenario.now_ns))
        };
        let gone = Exception {
            frames: vec![Frame {
                module: "gunicorn.http.wsgi".into(),
                ..Frame::default()
            }],
            ..exception(&of, 1, "BrokenPipeError")
        };
        handled(scenario, gone);
        served(scenario, of);
    }));
}

#[test]
fn deep_captures_of_several_masters_cover_the_workers_of_each() {
    let mut scenario = shop();
    scenario.named_master(20, "till").fork(20, 21);
    scenario
        .deep_capture(10, DeepCaptureState::Capturing)
        .deep_capture(20, DeepCaptureState::Capturing)
        .later(1);
    scenario.fail(11, 500).fail(21, 500);
    scenario
        .deep_capture(20, DeepCaptureState::Resting)
        .fail(11, 500)
        .fail(21, 500);
    let apps = scenario.metrics_view().apps;
    assert_eq!(http_errors(&apps[0]), [(500, "", "", 2)]);
    assert_eq!(
        http_errors(&apps[1]),
        [(500, "", "", 1), (500, "unknown", "", 1)]
    );
}

#[test]
fn a_deep_capture_is_shown_until_it_is_over_or_its_master_exits() {
    let mut scenario = shop();
    let states = |scenario: &Scenario| {
        let deep_captures = scenario.metrics_view().observer.deep_captures;
        deep_captures
            .iter()
            .map(|capture| format!("{} {} {}", capture.app, capture.pid, capture.state))
            .collect::<Vec<_>>()
    };
    for (state, shown) in [
        (DeepCaptureState::Capturing, "shop 10 looking"),
        (DeepCaptureState::Resting, "shop 10 resting"),
        (DeepCaptureState::Failed, "shop 10 failed"),
    ] {
        scenario.deep_capture(10, state);
        assert_eq!(states(&scenario), [shown]);
    }
    assert_eq!(scenario.metrics_view().observer.deep_captures_begun, 1);
    scenario.deep_capture(10, DeepCaptureState::Over);
    assert!(states(&scenario).is_empty());
    scenario
        .deep_capture(10, DeepCaptureState::Capturing)
        .exit(10);
    assert!(states(&scenario).is_empty());
    assert_eq!(scenario.metrics_view().observer.deep_captures_begun, 2);
}

#[test]
fn errors_from_before_the_master_was_known_keep_their_names() {
    let mut scenario = Scenario::new();
    scenario.fork(10, 11).raise(11, "Empty").raise(11, "Full");
    scenario.master(10).fork(10, 12).raise(12, "Full");
    let app = scenario.app();
    let place = "shop/views.py:index";
    assert_eq!(
        http_errors(&app),
        [(500, "Empty", place, 1), (500, "Full", place, 2)]
    );
    let failed: Vec<_> = app.workers.iter().map(|w| types(&w.failed)).collect();
    assert_eq!(failed, [vec![("Empty", 1), ("Full", 1)], vec![("Full", 1)]]);
    let slots: u64 = app
        .slots
        .iter()
        .flat_map(|s| &s.failed)
        .map(|e| e.count)
        .sum();
    assert_eq!(slots, 3);
    assert_eq!(types(&app.classes[0].failed), [("Empty", 1), ("Full", 2)]);
}

#[test]
fn masters_of_one_name_share_errors_and_hand_them_over_once() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).raise(11, "Empty");
    scenario.master(20).fork(20, 21).raise(21, "Full");
    let total = |scenario: &Scenario| -> u64 {
        let apps = scenario.metrics_view().apps;
        let shop = apps.iter().filter(|app| app.app == "shop");
        shop.flat_map(|app| &app.http_errors).map(|e| e.count).sum()
    };
    assert_eq!(total(&scenario), 2);
    // It gets another name: its errors stay under the first.
    scenario.named_master(10, "till");
    assert_eq!(total(&scenario), 2);
    let apps = scenario.metrics_view().apps;
    let till = apps.iter().find(|app| app.app == "till").unwrap();
    assert_eq!(http_errors(till), []);
    // It gets the first name again: no error is counted twice.
    scenario.named_master(10, "shop");
    assert_eq!(total(&scenario), 2);
    // It exited and is forgotten.
    scenario.exit(11).exit(10).later(1000);
    assert_eq!(total(&scenario), 2);
    assert_eq!(scenario.app().master_pid, 20);
}

#[test]
fn exceptions_of_an_exited_process_are_forgotten() {
    let mut scenario = shop();
    let of = raising(request(11, scenario.now_ns));
    handled(&mut scenario, exception(&of, 1, "Empty"));
    scenario.exit(11).fork(10, 11);
    let next = Request {
        status: Some(500),
        ..of
    };
    served(&mut scenario, next);
    assert_eq!(http_errors(&scenario.app()), [(500, "unknown", "", 1)]);
}

#[test]
fn names_beyond_the_limit_are_other_and_the_total_stays() {
    let mut scenario = shop();
    for n in 0..250 {
        scenario.raise(11, &format!("E{n}"));
    }
    let app = scenario.app();
    let errors = http_errors(&app);
    assert_eq!(errors.iter().map(|(.., count)| count).sum::<u64>(), 250);
    assert_eq!(errors.len(), 201);
    assert!(errors.contains(&(500, "other", "shop/views.py:index", 50)));
    let failed: u64 = app.workers[0].failed.iter().map(|e| e.count).sum();
    assert_eq!((app.workers[0].failed.len(), failed), (201, 250));
    assert!(app.capped_errors >= 50);
}

/// A failed request whose task is seen, at this time.
fn failed_task(now_ns: u64) -> Request {
    Request {
        timed_by: TimedBy::Task,
        status: Some(500),
        ..raising(request(11, now_ns))
    }
}

#[test]
fn a_failed_request_of_a_task_waits_for_the_exception_that_left_it() {
    let mut scenario = shop();
    let failed = failed_task(scenario.now_ns);
    let mut logged = exception(&failed, 7, "KeyError");
    served(&mut scenario, failed);
    assert!(scenario.app().http_errors.is_empty());
    logged.has_left = true;
    handled(&mut scenario, logged);
    let place = "shop/views.py:index";
    assert_eq!(http_errors(&scenario.app()), [(500, "KeyError", place, 1)]);
}

#[test]
fn it_waits_for_a_second_or_the_exit_of_its_worker() {
    let mut scenario = shop();
    let failed = failed_task(scenario.now_ns);
    let answered = exception(&failed, 7, "KeyError");
    handled(&mut scenario, answered);
    served(&mut scenario, failed);
    assert!(scenario.app().http_errors.is_empty());
    scenario.later(1);
    let place = "shop/views.py:index";
    assert_eq!(http_errors(&scenario.app()), [(500, "KeyError", place, 1)]);
    let failed = failed_task(scenario.now_ns);
    served(&mut scenario, failed);
    scenario.exit(11);
    let app = scenario.app();
    let errors = http_errors(&app);
    assert_eq!(errors.iter().map(|(_, _, _, count)| count).sum::<u64>(), 2);
}

#[test]
fn a_request_that_still_waits_is_counted_in_the_end() {
    let mut scenario = shop();
    let failed = failed_task(scenario.now_ns);
    served(&mut scenario, failed);
    scenario.state.settle();
    assert_eq!(http_errors(&scenario.app()), [(500, "unknown", "", 1)]);
}

#[test]
fn an_exception_that_only_ends_a_task_failed_no_request() {
    let mut scenario = shop();
    let failed = Request {
        timed_by: TimedBy::Python,
        ..failed_task(scenario.now_ns)
    };
    let mut cancelled = exception(&failed, 7, "CancelledError");
    cancelled.class.module = "asyncio.exceptions".into();
    handled(&mut scenario, cancelled);
    served(&mut scenario, failed);
    assert_eq!(http_errors(&scenario.app()), [(500, "unknown", "", 1)]);
}
