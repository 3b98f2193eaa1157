//! Counters of routes that become one.

use crate::event::{Event, Pid, Request};
use crate::fact::{Fact, InFlight, Pending, WorkerInFlight};
use crate::testing::scenarios::{S, Scenario, exception, raising, request};
use crate::views::metrics_view::AppView;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn get(scenario: &mut Scenario, pid: Pid, path: &str) {
    let request = Request {
        path: Some(path.to_owned().into()),
        ..request(pid, scenario.now_ns)
    };
    scenario.event(Event::Request(Box::new(request)));
}

/// An exception left the application, and its response is a 500.
fn raise(scenario: &mut Scenario, pid: Pid, path: &str) {
    let request = Request {
        path: Some(path.to_owned().into()),
        status: Some(500),
        error_handled: true,
        ..raising(request(pid, scenario.now_ns))
    };
    let mut exception = exception(&request, 1, "Fault");
    exception.has_left = true;
    scenario.event(Event::Exception(Box::new(exception)));
    scenario.event(Event::Request(Box::new(request)));
}

/// Requests by route.
fn http(app: &AppView) -> BTreeMap<String, u64> {
    let mut routes = BTreeMap::new();
    for series in &app.http {
        *routes.entry(series.route.clone()).or_default() += series.duration.count();
    }
    routes
}

fn of<const N: usize>(routes: [(&str, u64); N]) -> BTreeMap<String, u64> {
    routes
        .map(|(route, count)| (route.to_owned(), count))
        .into()
}

#[test]
fn all_counts_of_a_closed_level_are_of_its_placeholder() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).fork(10, 12).fork(10, 13);
    for i in 0..30 {
        raise(&mut scenario, 11 + i % 3, &format!("/blog/post-{i}"));
    }
    // One worker exits, and its counters move to its slot.
    scenario.exit(13).later(400);
    for i in 30..40 {
        raise(&mut scenario, 11, &format!("/blog/post-{i}"));
    }
    get(&mut scenario, 11, "/checkout");
    let app = scenario.app();
    assert_eq!(http(&app), of([("/blog/{slug}", 40), ("/checkout", 1)]));
    let [error] = app.http_errors.as_slice() else {
        panic!("one series of errors");
    };
    assert_eq!((&*error.endpoint, error.count), ("/blog/{slug}", 40));
    for errors in [&app.classes[0].failed, &app.classes[0].handled] {
        let all: Vec<_> = errors.iter().map(|of| (&*of.endpoint, of.count)).collect();
        assert_eq!(all, [("/blog/{slug}", 40)]);
    }
    let mut workers = app.workers.iter().map(|worker| worker.failed.len());
    assert!(workers.all(|series| series == 1));
    let view = scenario.live_view();
    let routes = &view.apps[0].routes;
    let recent = routes.iter().map(|of| (of.route.raw(), of.requests));
    let recent: Vec<_> = recent.collect();
    assert!(recent.contains(&("/blog/{slug}", 40)) || recent.contains(&("/blog/{slug}", 10)));
    let mut slow = view.apps[0].slowest.iter().map(|of| of.route.raw());
    assert!(slow.all(|route| ["/blog/{slug}", "/checkout"].contains(&route)));
}

#[test]
fn requests_before_their_master_is_known_count_under_the_placeholder() {
    let mut scenario = Scenario::new();
    for i in 0..50 {
        raise(&mut scenario, 11, &format!("/blog/post-{i}"));
    }
    scenario.master(10).worker(10, 11, 1);
    for i in 50..60 {
        raise(&mut scenario, 11, &format!("/blog/post-{i}"));
    }
    let app = scenario.app();
    let failed: u64 = app.workers[0].failed.iter().map(|of| of.count).sum();
    assert_eq!(failed, 60);
    assert_eq!(http(&app).values().sum::<u64>(), 60);
    assert_eq!(app.capped_requests, 0);
}

#[test]
fn masters_of_one_name_close_levels_together() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11).master(20).fork(20, 21);
    for i in 0..5 {
        get(&mut scenario, 21, &format!("/blog/post-{i}"));
    }
    for _ in 0..20 {
        get(&mut scenario, 11, "/blog/archive");
        get(&mut scenario, 21, "/blog/search");
    }
    for i in 0..50 {
        get(&mut scenario, 11, &format!("/blog/post-{i}"));
    }
    let apps = scenario.metrics_view().apps;
    let first = [("/blog/archive", 20), ("/blog/{slug}", 50)];
    assert_eq!(http(&apps[0]), of(first));
    // What the first does not keep by its name, the second does not either.
    let second = [("/blog/{slug}", 25)];
    assert_eq!(http(&apps[1]), of(second));
    // A later master names them as the others do.
    scenario.master(30).fork(30, 31);
    get(&mut scenario, 31, "/blog/post-1");
    get(&mut scenario, 31, "/blog/archive");
    get(&mut scenario, 31, "/news/post-1");
    let third = [
        ("/blog/archive", 1),
        ("/blog/{slug}", 1),
        ("/news/post-1", 1),
    ];
    assert_eq!(http(&scenario.metrics_view().apps[2]), of(third));
}

#[test]
fn a_request_in_flight_has_the_route_that_it_will_count_under() {
    let mut scenario = Scenario::new();
    scenario.master(10).fork(10, 11);
    for i in 0..50 {
        get(&mut scenario, 11, &format!("/blog/post-{i}"));
    }
    let pending = Pending {
        begun_ns: scenario.now_ns - S,
        tid: 11,
        method: None,
        path: Some("/blog/post-99".into()),
        path_cut: false,
        written_ns: None,
    };
    scenario.fact(Fact::InFlight(InFlight {
        at_ns: scenario.now_ns,
        only: None,
        sees_connections: true,
        workers: vec![WorkerInFlight {
            pid: 11,
            count: 1,
            oldest: vec![pending],
            connections: None,
        }],
    }));
    let view = scenario.live_view();
    let oldest = view.apps[0].oldest_request.as_ref().unwrap();
    assert_eq!(oldest.route.raw(), "/blog/{slug}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn no_count_is_lost_or_counted_twice(
        requests in prop::collection::vec(
            ("(/(a|b|x[0-9a-z]{1,2})){1,3}", 11..14_u32, any::<bool>()), 0..600)
    ) {
        let mut scenario = Scenario::new();
        // 13 is a worker of no known master yet, and 21 of another master of the same app.
        scenario.master(10).fork(10, 11).fork(10, 12).master(20).fork(20, 21);
        let errors = requests.iter().filter(|(.., fails)| *fails).count() as u64;
        for (path, pid, fails) in &requests {
            let pid = if *pid == 12 { 21 } else { *pid };
            if *fails {
                raise(&mut scenario, pid, path);
            } else {
                get(&mut scenario, pid, path);
            }
        }
        scenario.worker(10, 13, 2).exit(20).exit(21).later(400);
        let apps = scenario.metrics_view().apps;
        prop_assert_eq!(apps.len(), 1);
        let app = &apps[0];
        prop_assert_eq!(http(app).values().sum::<u64>(), requests.len() as u64);
        prop_assert_eq!(app.http_errors.iter().map(|of| of.count).sum::<u64>(), errors);
        // The workers of the master that is gone are gone too.
        let own = requests.iter().filter(|(_, pid, fails)| *fails && *pid != 12).count();
        let failed = app.classes.iter().flat_map(|of| &of.failed);
        prop_assert_eq!(failed.map(|of| of.count).sum::<u64>(), own as u64);
        let others = app.http.iter().filter(|of| of.route == "other");
        prop_assert_eq!(others.map(|of| of.duration.count()).sum::<u64>(), app.capped_requests);
    }
}
