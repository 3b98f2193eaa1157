use super::*;
use crate::errors::cause::{Failure, Raised};
use crate::testing::scenarios::{named, unseen};

fn request(path: &str, method: &str, status: u16) -> Request {
    Request {
        entered_ns: Some(1),
        exited_ns: Some(2),
        path: Some(path.to_owned().into()),
        method: Some(method.to_owned().into()),
        status: Some(status),
        ..Request::default()
    }
}

/// Counts a request of a worker of the class.
fn count(
    counters: &mut AppCounters,
    settings: &Settings,
    class: &str,
    request: &Request,
    analysis: &ErrorAnalysis,
) -> Outcome {
    let class = counters.class(class);
    counters.request(settings, class, request, analysis)
}

fn http(counters: &AppCounters) -> Vec<(String, &'static str, String, u64)> {
    let series = counters.http.iter().map(|(key, of)| {
        let class = counters.class_name(key.class).to_string();
        let route = counters.routes.name(key.route).to_owned();
        (class, key.method.as_str(), route, of.duration.count())
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
    count(
        &mut app,
        &settings,
        "SyncWorker",
        &request("/a", "GET", 200),
        &unseen(),
    );
    count(
        &mut worker,
        &settings,
        "",
        &request("/a", "GET", 200),
        &unseen(),
    );
    count(
        &mut worker,
        &settings,
        "",
        &request("/b", "BREW", 200),
        &unseen(),
    );
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
}

#[test]
fn a_hostile_app_has_a_bounded_number_of_series() {
    let settings = Settings {
        route_limit: 2,
        ..Settings::default()
    };
    let mut counters = AppCounters::default();
    for status in 100..1000 {
        for route in ["/a", "/b", "/c"] {
            count(
                &mut counters,
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

/// The application raised an exception of this class.
fn raised(class: &str) -> ErrorAnalysis {
    let raised = Raised {
        error: named(class),
        raised_in: "shop/views.py:index".into(),
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

/// Method, route, type and count of each series of 5xx responses.
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
    let caught = || ErrorAnalysis {
        has_left: false,
        ..raised("A")
    };
    for (status, analysis) in [
        (200, unseen()),
        (404, caught()),
        (499, caught()),
        (500, raised("A")),
        (500, raised("A")),
        (599, raised("B")),
        (999, unseen()),
        (502, none),
    ] {
        let request = request("/a", "GET", status);
        count(&mut counters, &settings, "", &request, &analysis);
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
    let (mut counters, mut worker) = (AppCounters::default(), Counters::default());
    let mut requests = 0;
    for status in 500..1000 {
        for (route, class) in [("/a", "A"), ("/b", "B"), ("/c", "C")] {
            let request = request(route, "GET", status);
            let outcome = count(&mut counters, &settings, "", &request, &raised(class));
            worker.request(&request, &outcome);
            requests += 1;
        }
    }
    // Beyond the limit, there is one series for each status.
    assert!(counters.http_errors.len() <= 32 + 500);
    assert_eq!(counters.http_errors.values().sum::<u64>(), requests);
    assert!(counters.names.capped > 0);
    assert_eq!(worker.failed.len(), 3);
    assert_eq!(worker.failed.values().sum::<u64>(), requests);
}

#[test]
fn absorbed_errors_keep_their_names() {
    let settings = Settings {
        route_limit: 2,
        ..Settings::default()
    };
    let (mut app, mut worker) = (AppCounters::default(), AppCounters::default());
    count(
        &mut app,
        &settings,
        "SyncWorker",
        &request("/x", "GET", 500),
        &raised("X"),
    );
    count(
        &mut app,
        &settings,
        "SyncWorker",
        &request("/a", "GET", 500),
        &raised("A"),
    );
    // The same ids mean other names there, and one of these is beyond the limit here.
    let mut counters = Counters::default();
    for (route, class) in [("/a", "A"), ("/b", "B")] {
        let request = request(route, "POST", 500);
        let outcome = count(&mut worker, &settings, "", &request, &raised(class));
        counters.request(&request, &outcome);
    }
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
