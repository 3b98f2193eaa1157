use super::*;
use crate::errors::cause::{Failure, Raised};
use crate::testing::scenarios::{named, unseen};

fn request(path: &str, method: &str, status: u16) -> Request {
    Request {
        entered_ns: Some(1),
        exited_ns: Some(2),
        path: Some(path.to_owned()),
        method: Some(method.to_owned().into()),
        status: Some(status),
        ..Request::default()
    }
}

fn http(counters: &AppCounters) -> Vec<(String, &'static str, String, u64)> {
    let series = counters.http.iter().map(|(key, histogram)| {
        let class = counters.class_name(key.class).to_string();
        let route = counters.routes.name(key.route).to_owned();
        (class, key.method.as_str(), route, histogram.count())
    });
    series.collect()
}

#[test]
fn absorbing_keeps_every_request_and_names_its_class() {
    let settings = Settings {
        route_limit: 1,
        ..Settings::default()
    };
    let (mut app, mut worker) = (AppCounters::default(), AppCounters::default());
    app.request(
        &settings,
        "SyncWorker",
        &request("/a", "GET", 200),
        &unseen(),
    );
    worker.request(&settings, "", &request("/a", "GET", 200), &unseen());
    worker.request(&settings, "", &request("/b", "BREW", 200), &unseen());
    let other = AppCounters {
        routes: RouteRegistry::default(),
        ..AppCounters::default()
    };
    app.absorb(&settings, &worker, "SyncWorker");
    app.absorb(&settings, &other, "SyncWorker");
    let class = || "SyncWorker".to_owned();
    let expected = [
        (class(), "GET", "/a".to_owned(), 2),
        (class(), "_OTHER", "other".to_owned(), 1),
    ];
    assert_eq!(http(&app), expected);
    assert_eq!(
        app.totals
            .values()
            .map(|counters| counters.requests)
            .sum::<u64>(),
        3
    );
}

#[test]
fn a_hostile_app_cannot_make_endless_series() {
    let settings = Settings {
        route_limit: 2,
        ..Settings::default()
    };
    let mut counters = AppCounters::default();
    for status in 100..1000 {
        for route in ["/a", "/b", "/c"] {
            counters.request(
                &settings,
                "SyncWorker",
                &request(route, "GET", status),
                &unseen(),
            );
        }
    }
    assert!(counters.http.len() <= 32 + 900);
    for class in 0..100 {
        counters.class(&class.to_string());
    }
    assert_eq!(counters.classes.len(), MAX_CLASSES);
}

/// It failed with an exception of this class, which left the application.
fn raised(class: &str) -> ErrorAnalysis {
    let raised = Raised {
        error: named(class),
        raised_in: "shop/views.py:index".to_owned(),
    };
    let failure = Failure {
        raised,
        root_cause: None,
        called_from: None,
        traceback: Vec::new(),
    };
    ErrorAnalysis {
        cause: Cause::Raised(Box::new(failure)),
        has_left: true,
        ..unseen()
    }
}

/// Method, route, type and count of each series of responses that failed.
fn errors(counters: &AppCounters) -> Vec<(&'static str, &str, String, u64)> {
    let series = counters.http_errors.iter().map(|(key, &count)| {
        let route = counters.routes.name(key.route);
        let error = counters.names.shown(&key.error);
        (key.method.as_str(), route, error, count)
    });
    series.collect()
}

#[test]
fn every_5xx_and_nothing_else_is_an_error_of_its_route_and_type() {
    let (settings, mut counters) = (Settings::default(), AppCounters::default());
    let none = ErrorAnalysis {
        cause: Cause::None,
        ..unseen()
    };
    for (status, analysis) in [
        (200, unseen()),
        (404, raised("A")),
        (499, raised("A")),
        (500, raised("A")),
        (500, raised("A")),
        (599, raised("B")),
        (999, unseen()),
        (502, none),
    ] {
        let request = request("/a", "GET", status);
        counters.request(&settings, "", &request, &analysis);
    }
    let mut errors = errors(&counters);
    errors.sort_unstable();
    let expected = [("", 1), ("A", 2), ("B", 1), ("unknown", 1)];
    let expected = expected.map(|(of, count)| ("GET", "/a", of.to_owned(), count));
    assert_eq!(errors, expected);
}

#[test]
fn errors_are_bounded_whatever_the_app_does() {
    let settings = Settings {
        route_limit: 2,
        ..Settings::default()
    };
    let mut counters = AppCounters::default();
    let mut count = 0;
    for status in 500..1000 {
        for (route, class) in [("/a", "A"), ("/b", "B"), ("/c", "C")] {
            let request = request(route, "GET", status);
            counters.request(&settings, "", &request, &raised(class));
            count += 1;
        }
    }
    // Beyond the room for them there is one for each status, of which there are few.
    assert!(counters.http_errors.len() <= 32 + 500);
    assert_eq!(counters.http_errors.values().sum::<u64>(), count);
    assert!(counters.names.capped > 0);
    let counters = counters.totals.values().next().unwrap();
    assert_eq!(counters.failed.len(), 3);
    assert_eq!(counters.failed.values().sum::<u64>(), count);
}

#[test]
fn the_errors_of_another_are_taken_over_under_the_names_here() {
    let settings = Settings {
        route_limit: 2,
        ..Settings::default()
    };
    let (mut app, mut worker) = (AppCounters::default(), AppCounters::default());
    app.request(
        &settings,
        "SyncWorker",
        &request("/x", "GET", 500),
        &raised("X"),
    );
    app.request(
        &settings,
        "SyncWorker",
        &request("/a", "GET", 500),
        &raised("A"),
    );
    // The same ids mean other names there; for one of them there is no room here.
    for (route, class) in [("/a", "A"), ("/b", "B")] {
        worker.request(&settings, "", &request(route, "POST", 500), &raised(class));
    }
    let counters = worker.totals.values().next().unwrap().clone();
    let translated = app.translate(&settings, &worker, &counters);
    let shown: Vec<_> = translated
        .failed
        .iter()
        .map(|(key, &count)| {
            (
                app.routes.name(key.route),
                app.names.shown(&key.error),
                count,
            )
        })
        .collect();
    let other = ("other", "other".to_owned(), 1);
    assert_eq!(shown, [other, ("/a", "A".to_owned(), 1)]);
    assert_eq!(translated.requests, 2);

    app.absorb(&settings, &worker, "SyncWorker");
    let mut errors = errors(&app);
    errors.sort_unstable();
    let expected = [
        ("GET", "/a", "A".to_owned(), 1),
        ("GET", "/x", "X".to_owned(), 1),
        ("POST", "/a", "A".to_owned(), 1),
        ("POST", "other", "other".to_owned(), 1),
    ];
    assert_eq!(errors, expected);
    assert_eq!(
        app.http_errors.keys().map(|key| key.class).max(),
        Some(ClassId(0))
    );
}
