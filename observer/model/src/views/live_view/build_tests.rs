//! The live view and the history of a scenario.

use crate::testing::scenarios::{S, Scenario};
use crate::event::{Event, Request};
use crate::fact::{Fact, InFlight, Pending, WorkerInFlight};

fn in_flight(scenario: &mut Scenario, begun_ns: Option<u64>) {
    let of = |begun_ns| WorkerInFlight {
        pid: 11,
        count: 1,
        oldest: vec![Pending {
            begun_ns,
            path: Some("/users/7".into()),
            ..Pending::default()
        }],
    };
    scenario.fact(Fact::InFlight(InFlight {
        at_ns: scenario.now_ns,
        only: None,
        workers: begun_ns.into_iter().map(of).collect(),
    }));
}

fn request(scenario: &mut Scenario, path: &str, status: Option<u16>, duration_ns: u64) {
    let now_ns = scenario.now_ns;
    scenario.event(Event::Request(Box::new(Request {
        pid: 11,
        method: Some("GET".into()),
        path: Some(path.to_owned().into()),
        status,
        entered_ns: Some(now_ns - duration_ns),
        first_write_ns: Some(now_ns),
        exited_ns: Some(now_ns),
        finished_ns: now_ns,
        ..Request::default()
    })));
}

#[test]
fn rates_are_of_the_last_minute_and_totals_of_all_time() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    for _ in 0..10 {
        request(&mut scenario, "/old", Some(200), S / 10);
    }
    scenario.later(120);
    in_flight(&mut scenario, None);
    for second in 0..60 {
        scenario.later(1);
        request(&mut scenario, "/new", Some(200), S / 4);
        if second % 6 == 0 {
            request(&mut scenario, "/new", Some(503), S / 4);
        }
        in_flight(&mut scenario, None);
    }
    let view = scenario.live_view();
    let app = &view.apps[0];
    assert_eq!((app.requests_total, app.errors_total), (80, 10));
    let near = |value: f64, wanted: f64| (value / wanted - 1.0).abs() < 0.1;
    assert!(near(app.now.requests_per_second, 70.0 / 60.0), "{app:?}");
    assert!(near(app.now.errors_per_second, 10.0 / 60.0), "{app:?}");
    assert!(near(app.now.p95_seconds.unwrap(), 0.25), "{app:?}");
    assert!(near(app.now.utilisation.unwrap(), 0.25), "{app:?}");
    let worker = &app.workers[0];
    assert!(near(worker.busy.unwrap(), 0.25), "{worker:?}");
    assert!(near(worker.requests_per_second.unwrap(), 1.1), "{worker:?}");
    assert_eq!(app.routes[0].route, "/new");
    assert_eq!((app.routes[0].requests, app.routes[0].errors), (70, 10));
    assert!(near(app.routes[0].phases.app_seconds.unwrap(), 0.25));
    assert_eq!(app.routes[0].phases.queue_seconds, None);
    assert_eq!((app.errors[0].status, app.errors[0].count), (503, 10));
    assert!(near(app.slowest[0].duration_seconds, 0.25));
}

#[test]
fn a_view_has_the_last_points_of_the_history() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    for _ in 0..30 {
        request(&mut scenario, "/", Some(200), 1);
        in_flight(&mut scenario, None);
        scenario.later(1);
    }
    let history = scenario.state.history(scenario.now_ns, 0.0);
    let points = &history.apps[0].points;
    assert_eq!(points.len(), 6);
    assert!(points.iter().all(|point| point.requests == 5), "{points:?}");
    assert_eq!(points[0].durations.len(), history.limits_seconds.len() + 1);
    assert_eq!(scenario.live_view().apps[0].points, points[4..]);
    // A client that reconnects gets the later points.
    let since = points[3].time_seconds + 2.0;
    let later = scenario.state.history(scenario.now_ns, since);
    assert_eq!(later.apps[0].points, points[3..]);
    for since in [f64::MAX, f64::MIN, 1e300] {
        let history = scenario.state.history(scenario.now_ns, since);
        assert!(history.apps[0].points.len() <= 6);
    }
}

#[test]
fn a_request_in_progress_has_its_age() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    let begun_ns = scenario.now_ns;
    scenario.later(7);
    in_flight(&mut scenario, Some(begun_ns));
    let view = scenario.live_view();
    let oldest = view.apps[0].oldest_request.as_ref().unwrap();
    assert_eq!(
        (oldest.age_seconds, oldest.route.raw()),
        (7.0, "/users/{id}")
    );
    assert_eq!(view.apps[0].in_flight, 1);
    assert_eq!(view.apps[0].points.last().unwrap().in_flight, 1);
}

#[test]
fn a_view_reads_back_as_it_was_written() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    request(&mut scenario, "/users/7", Some(500), S);
    let now_ns = scenario.now_ns;
    in_flight(&mut scenario, Some(now_ns));
    let view = scenario.live_view();
    let json = serde_json::to_string(&view).unwrap();
    let back: crate::views::live_view::View = serde_json::from_str(&json).unwrap();
    assert_eq!(back, view);
    // A field that a later version adds is ignored.
    let more = json.replacen('{', "{\"added\":1,", 1);
    assert!(serde_json::from_str::<crate::views::live_view::View>(&more).is_ok());
}
