use super::*;
use observer_model::event::{Class, Request};

fn finished() -> FinishedRequest {
    FinishedRequest {
        // 2026-01-31 12:34:56.789
        time_seconds: 1_769_862_896.789_4,
        app: "shop:app".to_owned(),
        route: "/products/{id}".to_owned(),
        request: Request {
            pid: 1234,
            method: Some("GET".into()),
            path: Some("/products/7".to_owned()),
            status: Some(200),
            ..Request::default()
        },
        duration_ns: Some(12_345_678),
        phases_ns: [("queue", 400_000), ("app", 12_260_000), ("write", 0)].into(),
        ..FinishedRequest::default()
    }
}

fn raised_in(name: &str, place: &str) -> Raised {
    Raised {
        error: Class {
            module: "builtins".to_owned(),
            name: name.to_owned(),
        },
        raised_in: place.to_owned(),
    }
}

fn failure(name: &str, place: &str) -> Failure {
    Failure {
        raised: raised_in(name, place),
        root_cause: None,
        called_from: None,
        traceback: Vec::new(),
    }
}

fn failed(failure: Failure) -> FinishedRequest {
    FinishedRequest {
        cause: Some(Cause::Raised(Box::new(failure))),
        ..finished()
    }
}

#[test]
fn a_line_is_under_its_header() {
    let failed = failed(failure("ValueError", "shop/views.py:checkout"));
    let lines = [
        header(false),
        line(&finished(), false),
        line(&finished(), true),
        line(&failed, false),
    ];
    let expected = "\
TIME (UTC)     CODE  METHOD    ROUTE                                   DURATION  QUEUE    DISPATCH READ     APP      WRITE      WORKER  APP                   ERROR
12:34:56.789Z  200   GET       /products/{id}                            12.3ms  q0.4                       a12.3    w0.0         1234  shop:app
12:34:56.789Z  200   GET       /products/7                               12.3ms  q0.4                       a12.3    w0.0         1234  shop:app
12:34:56.789Z  200   GET       /products/{id}                            12.3ms  q0.4                       a12.3    w0.0         1234  shop:app              ValueError in shop/views.py:checkout";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn what_is_not_known_is_a_dash_never_a_zero() {
    let unknown = FinishedRequest {
        request: Request {
            pid: 7,
            ..Request::default()
        },
        ..FinishedRequest::default()
    };
    let line = line(&unknown, true);
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words, ["00:00:00.000Z", "-", "-", "-", "-", "7", "-"]);
}

#[test]
fn what_went_wrong_stands_out() {
    let of = |status| {
        let mut finished = finished();
        finished.request.status = status;
        color(&Line::Request(Box::new(finished)))
    };
    assert_eq!(of(Some(200)), None);
    assert_eq!(of(Some(302)), None);
    assert_eq!(of(Some(404)), Some(Color::Yellow));
    assert_eq!(of(None), Some(Color::Yellow));
    assert_eq!(of(Some(503)), Some(Color::Red));
    let answered = failed(failure("KeyError", "shop.py:total"));
    assert_eq!(color(&Line::Request(Box::new(answered))), Some(Color::Red));
    assert_eq!(Color::Red.paint("line\n"), "\x1b[31mline\x1b[0m\n");
}

#[test]
fn times_are_told_to_a_tenth_of_a_millisecond() {
    for (ns, text) in [
        (0, "0.0"),
        (49_999, "0.0"),
        (50_000, "0.1"),
        (999_950_000, "1000.0"),
        (u64::MAX, "18446744073709.5"),
    ] {
        assert_eq!(milliseconds(ns), text);
    }
    for seconds in [-1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(time(seconds), "00:00:00.000Z");
    }
    assert_eq!(time(86_399.999_6), "23:59:59.999Z");
}

#[test]
fn why_it_failed_is_told_from_the_last_exception_to_the_first() {
    let checkout = || failure("ValueError", "shop/views.py:checkout");
    let gone = Request {
        client_gone: true,
        ..Request::default()
    };
    let cut = Request {
        was_cut: true,
        ..Request::default()
    };
    let bad = Request {
        bad_request: true,
        ..Request::default()
    };
    let of = |request: &Request, cause: Option<Cause>| FinishedRequest {
        request: request.clone(),
        cause,
        ..finished()
    };
    for (finished, expected) in [
        (finished(), ""),
        (failed(checkout()), "ValueError in shop/views.py:checkout"),
        (
            failed(Failure {
                root_cause: Some(raised_in("KeyError", "shop/cart.py:total")),
                ..checkout()
            }),
            "ValueError in shop/views.py:checkout ← KeyError in shop/cart.py:total",
        ),
        (
            failed(Failure {
                called_from: Some("shop/views.py:pay".to_owned()),
                root_cause: Some(raised_in("OSError", "")),
                ..failure("PaymentError", "pay/api.py:charge")
            }),
            "PaymentError in pay/api.py:charge (from shop/views.py:pay) ← OSError",
        ),
        (failed(failure("", "")), "an exception"),
        (of(&Request::default(), Some(Cause::None)), "no exception"),
        (
            of(&Request::default(), Some(Cause::Unknown)),
            "cause unknown",
        ),
        (of(&gone, Some(Cause::Unknown)), "client gone"),
        (of(&gone, None), "client gone"),
        (of(&bad, Some(Cause::Unknown)), "bad request"),
        (of(&cut, Some(Cause::Unknown)), "cut off, cause unknown"),
    ] {
        assert_eq!(why(&finished), expected);
    }
}

#[test]
fn what_comes_from_outside_cannot_drive_the_terminal() {
    let hostile = format!(
        "a\x1b]0;owned\x07\u{9b}2J\n\u{202e}\u{5d0}\u{627}\u{2028}\u{200b}{}",
        "x".repeat(4096)
    );
    let mut finished = failed(Failure {
        root_cause: Some(raised_in(&hostile, &hostile)),
        called_from: Some(hostile.clone()),
        ..failure(&hostile, &hostile)
    });
    finished.app.clone_from(&hostile);
    finished.route.clone_from(&hostile);
    finished.request.path = Some(hostile.clone());
    finished.request.method = Some(hostile.clone().into());
    for paths in [false, true] {
        let line = line(&finished, paths);
        let is_harmless = |c: char| (' '..='~').contains(&c) || "…←x".contains(c);
        assert!(line.chars().all(is_harmless), "{line:?}");
        assert_eq!(line.matches("a\\u{1b}]0;owned").count(), 7, "{line}");
        assert!(line.chars().count() < 1500, "{line}");
        // The columns are where they always are.
        let before = |line: &str, end: &str| line.split(end).next().unwrap().chars().count();
        let column = before(&header(paths), "DURATION") + "DURATION".len();
        assert_eq!(before(&line, "12.3ms") + "12.3ms".len(), column);
    }
}
