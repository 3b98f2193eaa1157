use super::*;
use crate::model::cause::{Failure, Raised};
use crate::model::story::{named, unseen};

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

fn http(ledger: &Ledger) -> Vec<(String, &'static str, String, u64)> {
    let series = ledger.http.iter().map(|(key, histogram)| {
        let class = ledger.class_name(key.class).to_string();
        let route = ledger.routes.name(key.route).to_owned();
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
    let (mut app, mut worker) = (Ledger::default(), Ledger::default());
    app.request(
        &settings,
        "SyncWorker",
        &request("/a", "GET", 200),
        &unseen(),
    );
    worker.request(&settings, "", &request("/a", "GET", 200), &unseen());
    worker.request(&settings, "", &request("/b", "BREW", 200), &unseen());
    let other = Ledger {
        routes: Routes::default(),
        ..Ledger::default()
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
        app.totals.values().map(|tally| tally.requests).sum::<u64>(),
        3
    );
}

#[test]
fn a_hostile_app_cannot_make_endless_series() {
    let settings = Settings {
        route_limit: 2,
        ..Settings::default()
    };
    let mut ledger = Ledger::default();
    for status in 100..1000 {
        for route in ["/a", "/b", "/c"] {
            ledger.request(
                &settings,
                "SyncWorker",
                &request(route, "GET", status),
                &unseen(),
            );
        }
    }
    assert!(ledger.http.len() <= 32 + 900);
    for class in 0..100 {
        ledger.class(&class.to_string());
    }
    assert_eq!(ledger.classes.len(), MAX_CLASSES);
}

/// It failed with an exception of this class, which left the application.
fn raised(class: &str) -> Verdict {
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
    Verdict {
        cause: Cause::Raised(Box::new(failure)),
        has_left: true,
        ..unseen()
    }
}

/// Method, route, type and count of each series of responses that failed.
fn errors(ledger: &Ledger) -> Vec<(&'static str, &str, String, u64)> {
    let series = ledger.http_errors.iter().map(|(key, &count)| {
        let route = ledger.routes.name(key.route);
        let error = ledger.names.shown(&key.error);
        (key.method.as_str(), route, error, count)
    });
    series.collect()
}

#[test]
fn every_5xx_and_nothing_else_is_an_error_of_its_route_and_type() {
    let (settings, mut ledger) = (Settings::default(), Ledger::default());
    let none = Verdict {
        cause: Cause::None,
        ..unseen()
    };
    for (status, verdict) in [
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
        ledger.request(&settings, "", &request, &verdict);
    }
    let mut errors = errors(&ledger);
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
    let mut ledger = Ledger::default();
    let mut count = 0;
    for status in 500..1000 {
        for (route, class) in [("/a", "A"), ("/b", "B"), ("/c", "C")] {
            let request = request(route, "GET", status);
            ledger.request(&settings, "", &request, &raised(class));
            count += 1;
        }
    }
    // Beyond the room for them there is one for each status, of which there are few.
    assert!(ledger.http_errors.len() <= 32 + 500);
    assert_eq!(ledger.http_errors.values().sum::<u64>(), count);
    assert!(ledger.names.capped > 0);
    let tally = ledger.totals.values().next().unwrap();
    assert_eq!(tally.failed.len(), 3);
    assert_eq!(tally.failed.values().sum::<u64>(), count);
}

#[test]
fn the_errors_of_another_are_taken_over_under_the_names_here() {
    let settings = Settings {
        route_limit: 2,
        ..Settings::default()
    };
    let (mut app, mut worker) = (Ledger::default(), Ledger::default());
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
    let tally = worker.totals.values().next().unwrap().clone();
    let translated = app.translate(&settings, &worker, &tally);
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
