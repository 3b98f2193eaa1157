use super::*;

const APP: &str = "shop.views";
const FRAMEWORK: &str = "flask.app";

fn frame(module: &str, function: &str) -> Frame {
    Frame {
        module: module.to_owned().into(),
        file: format!("{}.py", module.replace('.', "/")).into(),
        function: function.to_owned().into(),
        is_own: module.starts_with("shop"),
        is_installed: !module.starts_with("shop"),
    }
}

fn class(name: &str) -> Class {
    Class {
        module: "builtins".into(),
        name: name.to_owned().into(),
    }
}

/// An exception with this address and class, raised in the application, that code handled.
fn handled_exception(object: u64, name: &str) -> Exception {
    Exception {
        time_ns: 0,
        pid: 7,
        request: 1,
        object,
        came_from: None,
        root: None,
        has_left: false,
        was_gunicorns: false,
        depth: None,
        class: class(name),
        frames: vec![frame(APP, "index"), frame(FRAMEWORK, "wsgi_app")],
        frames_cut: 0,
        root_class: None,
        root_frame: None,
    }
}

/// The same exception, caught so many calls below `handle_request`.
fn caught(depth: u32, exception: Exception) -> Exception {
    Exception {
        depth: Some(depth),
        ..exception
    }
}

fn left(exception: Exception) -> Exception {
    Exception {
        has_left: true,
        ..exception
    }
}

/// Raised while the one at `earlier` was handled.
fn after(earlier: u64, exception: Exception) -> Exception {
    Exception {
        came_from: Some(earlier),
        root: Some(earlier),
        root_class: Some(class("Earlier")),
        ..exception
    }
}

/// The same exception with these frames, the innermost first.
fn through(modules: &[&str], exception: Exception) -> Exception {
    Exception {
        frames: modules.iter().map(|module| frame(module, "f")).collect(),
        ..exception
    }
}

fn failure(analysis: ErrorAnalysis) -> Failure {
    match analysis.cause {
        Cause::Raised(failure) => *failure,
        other => panic!("{other:?}"),
    }
}

fn name(analysis: ErrorAnalysis) -> Untrusted {
    failure(analysis).raised.error.name
}

#[test]
fn the_cause_is_the_exception_that_left_the_application_else_the_last_handled_one() {
    let table: [(&str, Vec<Exception>, &str); 9] = [
        ("one alone", vec![handled_exception(1, "A")], "A"),
        (
            "the last of two",
            vec![handled_exception(1, "A"), handled_exception(2, "B")],
            "B",
        ),
        (
            "the one that left, before one that was logged",
            vec![left(handled_exception(1, "A")), handled_exception(2, "B")],
            "A",
        ),
        (
            "the last of those that left",
            vec![
                left(handled_exception(1, "A")),
                left(handled_exception(2, "B")),
            ],
            "B",
        ),
        (
            "not one that was raised while the error page was made",
            vec![
                caught(3, handled_exception(1, "A")),
                after(1, caught(9, handled_exception(2, "B"))),
            ],
            "A",
        ),
        (
            "not one that was raised late while the error page was made",
            vec![
                caught(3, handled_exception(1, "A")),
                Exception {
                    came_from: Some(5),
                    ..after(1, caught(9, handled_exception(2, "B")))
                },
            ],
            "A",
        ),
        (
            "one that replaced it, as it was caught further out",
            vec![
                caught(9, handled_exception(1, "A")),
                after(1, caught(3, handled_exception(2, "B"))),
            ],
            "B",
        ),
        (
            "an unrelated later one, however far in",
            vec![
                caught(3, handled_exception(1, "A")),
                caught(9, handled_exception(2, "B")),
            ],
            "B",
        ),
        (
            "one that follows an earlier one of unknown depth",
            vec![
                handled_exception(1, "A"),
                after(1, caught(9, handled_exception(2, "B"))),
            ],
            "B",
        ),
    ];
    for (what, handled, expected) in table {
        assert_eq!(name(analyse(&handled, &[], false)), expected, "{what}");
    }
}

#[test]
fn the_same_exception_handled_again_further_in_stays_the_cause() {
    let again = after(5, caught(9, handled_exception(1, "A")));
    let first = Exception {
        root: Some(5),
        ..caught(3, handled_exception(1, "A"))
    };
    let frames = through(&[APP, APP], again);
    let analysis = analyse(&[first, frames], &[], false);
    assert_eq!(failure(analysis).traceback.len(), 2);
    assert_eq!(analyse(&[handled_exception(1, "A")], &[], true).cause, {
        let failure = Failure::of(&handled_exception(1, "A"));
        Cause::Raised(Box::new(failure))
    });
}

#[test]
fn only_an_exception_that_left_the_application_has_left() {
    assert!(analyse(&[left(handled_exception(1, "A"))], &[], false).has_left);
    assert!(!analyse(&[handled_exception(1, "A")], &[], false).has_left);
    assert!(!analyse(&[], &[], true).has_left);
}

#[test]
fn the_exception_that_gunicorn_handled_is_reported_beside_the_cause() {
    let gunicorns = Exception {
        was_gunicorns: true,
        ..handled_exception(2, "BrokenPipeError")
    };
    let analysis = analyse(
        &[
            left(handled_exception(1, "A")),
            gunicorns,
            handled_exception(3, "B"),
        ],
        &[],
        false,
    );
    assert_eq!(analysis.gunicorns, Some(class("BrokenPipeError")));
    assert_eq!(name(analysis), "A");
    assert_eq!(
        analyse(&[handled_exception(1, "A")], &[], false).gunicorns,
        None
    );
}

#[test]
fn a_failure_has_the_function_that_raised_and_the_applications_own_caller() {
    let of = |exception| failure(analyse(&[exception], &[], false));
    let in_library = of(through(
        &["json.decoder", "json", APP, "shop.app", FRAMEWORK],
        handled_exception(1, "ValueError"),
    ));
    assert_eq!(in_library.raised.raised_in, "json/decoder.py:f");
    assert_eq!(in_library.called_from, Some("shop/views.py:f".into()));
    let in_app = of(handled_exception(1, "ValueError"));
    assert_eq!(in_app.raised.raised_in, "shop/views.py:index");
    assert_eq!(in_app.called_from, None);
    let nowhere = of(through(&[], handled_exception(1, "ValueError")));
    assert_eq!(
        (nowhere.raised.raised_in.raw(), nowhere.called_from),
        ("", None)
    );
    let unreadable = Exception {
        frames: vec![Frame::default()],
        ..handled_exception(1, "ValueError")
    };
    assert_eq!(of(unreadable).raised.raised_in, "");
}

#[test]
fn a_failure_names_the_first_exception_of_its_chain() {
    assert_eq!(
        failure(analyse(&[handled_exception(1, "A")], &[], false)).root_cause,
        None
    );
    let root = |root_frame| {
        let exception = Exception {
            root_frame,
            ..after(9, handled_exception(1, "A"))
        };
        failure(analyse(&[exception], &[], false))
            .root_cause
            .unwrap()
    };
    let place = Some(frame("shop.db", "connect"));
    assert_eq!(root(place).raised_in, "shop/db.py:connect");
    let Raised { error, raised_in } = root(None);
    assert_eq!((error, raised_in.raw()), (class("Earlier"), ""));
}

#[test]
fn a_disconnected_client_is_no_cause_whatever_socket_gunicorn_uses() {
    let wsgi = ["gunicorn.http.wsgi", "gunicorn.workers.sync"];
    for (name, sockets) in [
        ("BrokenPipeError", &[] as &[&str]),
        ("ConnectionResetError", &[]),
        ("OSError", &[]),
        ("BrokenPipeError", &["gevent._socket3", "gevent.hub"]),
        ("timeout", &["eventlet.greenio.base"]),
        ("TimeoutError", &["socket"]),
        ("SSLEOFError", &["ssl", "gevent.ssl"]),
    ] {
        let gone = through(&[sockets, &wsgi].concat(), left(handled_exception(1, name)));
        let analysis = analyse(std::slice::from_ref(&gone), &[], false);
        assert!(
            analysis.client_gone && !analysis.has_left,
            "{name} {sockets:?}"
        );
        assert_eq!(analysis.cause, Cause::Unknown);
        // It is no cause beside another exception either.
        let analysis = analyse(&[handled_exception(2, "A"), gone], &[], false);
        assert!(analysis.client_gone);
        assert_eq!(self::name(analysis), "A");
    }
}

#[test]
fn the_applications_own_network_errors_are_causes() {
    for (name, modules) in [
        // Connections of the application to another server.
        (
            "BrokenPipeError",
            &["socket", APP, "gunicorn.workers.sync"] as &[&str],
        ),
        ("TimeoutError", &["ssl", "urllib3.connection", APP]),
        (
            "ConnectionResetError",
            &["gevent._socket3", "redis.connection"],
        ),
        // A module whose name only begins like Gunicorn's.
        ("OSError", &["gunicornish.views"]),
        // An error of Gunicorn itself.
        ("ValueError", &["gunicorn.http.wsgi"]),
        // Its traceback was not read.
        ("BrokenPipeError", &[]),
    ] {
        let analysis = analyse(&[through(modules, handled_exception(1, name))], &[], false);
        assert!(!analysis.client_gone, "{name} {modules:?}");
        assert_eq!(self::name(analysis), name);
    }
}

#[test]
fn only_a_complete_deep_capture_shows_that_there_was_no_exception() {
    assert_eq!(analyse(&[], &[], true).cause, Cause::None);
    assert_eq!(analyse(&[], &[], false).cause, Cause::Unknown);
    let gone = through(
        &["gunicorn.http.wsgi"],
        handled_exception(1, "BrokenPipeError"),
    );
    assert_eq!(analyse(&[gone], &[], true).cause, Cause::Unknown);
}

#[test]
fn a_disconnected_client_is_no_cause_for_a_deep_capture_either() {
    let gone: &[(&str, u32)] = &[("gunicorn.http.unreader", 6), (APP, 5), (FRAMEWORK, 4)];
    let gone = captures(&[Capture(1, "ConnectionResetError", gone)]);
    let analysis = analyse(&[], &gone, true);
    assert_eq!(
        (&analysis.cause, analysis.client_gone),
        (&Cause::Unknown, true)
    );
    let own: &[(&str, u32)] = &[("redis", 6), (APP, 5), (FRAMEWORK, 4)];
    let own = captures(&[Capture(1, "ConnectionResetError", own)]);
    assert_eq!(name(analyse(&[], &own, true)), "ConnectionResetError");
}

/// An exception: object, class, then each frame that it passes through, with its depth.
struct Capture<'a>(u64, &'a str, &'a [(&'a str, u32)]);

/// Added to an object: the exception passed through other frames before.
const AGAIN: u64 = 1 << 63;

fn captured(object: u64, name: &str, module: &str, depth: u32) -> CapturedFrame {
    CapturedFrame {
        time_ns: 0,
        pid: 7,
        request: 1,
        object: object & !AGAIN,
        is_made: object & !AGAIN != 0,
        has_traceback: object & AGAIN != 0,
        class_object: name.bytes().map(u64::from).sum(),
        depth,
        class: class(name),
        frame: frame(module, "f"),
    }
}

fn captures(list: &[Capture]) -> Vec<CapturedException> {
    let mut captures = Vec::new();
    for Capture(object, name, frames) in list {
        let mut object = *object;
        for (module, depth) in *frames {
            CapturedException::captured_frame(
                &mut captures,
                &captured(object, name, module, *depth),
            );
            object |= AGAIN;
        }
    }
    captures
}

#[test]
fn an_exception_is_followed_from_frame_to_frame() {
    let one = captures(&[Capture(
        1,
        "A",
        &[(APP, 5), ("shop.app", 4), (FRAMEWORK, 3)],
    )]);
    assert_eq!((one.len(), one[0].depth), (1, 3));
    let modules: Vec<_> = one[0]
        .frames
        .iter()
        .map(|frame| frame.module.raw())
        .collect();
    assert_eq!(modules, [APP, "shop.app", FRAMEWORK]);
    for (what, list, count) in [
        // CPython up to 3.11 makes the object when the exception is caught.
        (
            "made while it passes through frames",
            vec![
                Capture(0, "A", &[(APP, 5)]),
                Capture(1 | AGAIN, "A", &[(APP, 4), (FRAMEWORK, 3)]),
            ],
            1,
        ),
        // As `finally`, `with` and Pyramid's `reraise` do.
        (
            "raised again, in the same frame and elsewhere",
            vec![
                Capture(1, "A", &[(APP, 5), (APP, 5), (APP, 4)]),
                Capture(1 | AGAIN, "A", &[(FRAMEWORK, 9), (FRAMEWORK, 8)]),
            ],
            1,
        ),
        (
            "another one, at the address of a freed one",
            vec![Capture(1, "A", &[(APP, 5)]), Capture(1, "A", &[(APP, 4)])],
            2,
        ),
        (
            "of two objects",
            vec![Capture(1, "A", &[(APP, 5)]), Capture(2, "A", &[(APP, 5)])],
            2,
        ),
        (
            "of two classes at one address",
            vec![
                Capture(1, "A", &[(APP, 5)]),
                Capture(1 | AGAIN, "B", &[(APP, 4)]),
            ],
            2,
        ),
        (
            "raised before the capture began",
            vec![Capture(1 | AGAIN, "A", &[(APP, 5), (FRAMEWORK, 4)])],
            1,
        ),
        (
            "between the frames of another",
            vec![
                Capture(1, "A", &[(APP, 5)]),
                Capture(2, "B", &[(APP, 8), (APP, 7)]),
                Capture(1 | AGAIN, "A", &[(APP, 4)]),
            ],
            2,
        ),
        (
            "between the frames of one that is not made yet",
            vec![
                Capture(0, "A", &[(APP, 5)]),
                Capture(0, "B", &[(APP, 8), (APP, 7)]),
                Capture(AGAIN, "A", &[(APP, 4)]),
            ],
            2,
        ),
    ] {
        assert_eq!(captures(&list).len(), count, "{what}");
    }
}

#[test]
fn an_exception_raised_again_elsewhere_keeps_the_frame_that_raised_it_first() {
    let again = captures(&[
        Capture(1, "A", &[(APP, 9), (FRAMEWORK, 8)]),
        Capture(1 | AGAIN, "A", &[(FRAMEWORK, 6), (FRAMEWORK, 5)]),
    ]);
    let failure = failure(analyse(&[], &again, true));
    assert_eq!(failure.raised.raised_in, "shop/views.py:f");
    assert_eq!(again[0].depth, 5);
}

#[test]
fn any_depth_is_accepted() {
    for depth in [0, u32::MAX - 1, u32::MAX] {
        let mut captures = Vec::new();
        CapturedException::captured_frame(&mut captures, &captured(1, "A", APP, depth));
        CapturedException::captured_frame(&mut captures, &captured(1, "A", APP, u32::MAX));
        CapturedException::captured_frame(&mut captures, &captured(1, "A", APP, 0));
        assert!(!captures.is_empty());
    }
}

#[test]
fn in_a_deep_capture_the_exception_that_left_the_application_furthest_out_is_the_cause() {
    let table: [(&str, Vec<Capture>, &str); 7] = [
        (
            "it left for the framework",
            vec![
                Capture(1, "KeyError", &[(APP, 5)]),
                Capture(2, "A", &[(APP, 5), (FRAMEWORK, 4), (FRAMEWORK, 3)]),
                Capture(3, "Stop", &[(FRAMEWORK, 6)]),
            ],
            "A",
        ),
        (
            "of two, it went further out",
            vec![
                Capture(1, "A", &[(APP, 5), (FRAMEWORK, 4), (FRAMEWORK, 3)]),
                Capture(2, "B", &[(APP, 8), (FRAMEWORK, 7)]),
            ],
            "A",
        ),
        (
            "of two as far out, it was the last",
            vec![
                Capture(1, "A", &[(APP, 5), (FRAMEWORK, 4)]),
                Capture(2, "B", &[(APP, 5), (FRAMEWORK, 4)]),
            ],
            "B",
        ),
        (
            "none left: it was the last caught in the application",
            vec![
                Capture(1, "A", &[(APP, 5), (APP, 4)]),
                Capture(2, "B", &[("json", 7), (APP, 6)]),
                Capture(3, "C", &[(FRAMEWORK, 6), (FRAMEWORK, 5), (FRAMEWORK, 4)]),
            ],
            "B",
        ),
        (
            "it left, and another was caught in the application later",
            vec![
                Capture(1, "A", &[(APP, 5), (FRAMEWORK, 4)]),
                Capture(2, "B", &[(APP, 6)]),
            ],
            "A",
        ),
        (
            "none was the application's: of those that left a package, it went furthest out",
            vec![
                Capture(1, "A", &[("installed.views", 9), (FRAMEWORK, 8)]),
                Capture(2, "B", &[("installed.views", 6), (FRAMEWORK, 5)]),
                Capture(3, "C", &[("installed.views", 8), (FRAMEWORK, 7)]),
                Capture(4, "D", &[(FRAMEWORK, 4), (FRAMEWORK, 3), (FRAMEWORK, 2)]),
            ],
            "B",
        ),
        (
            "it came back into the application: it has not left",
            vec![
                Capture(1, "A", &[(APP, 6), (FRAMEWORK, 5), ("shop.middleware", 4)]),
                Capture(2, "B", &[(APP, 9), (FRAMEWORK, 8)]),
            ],
            "B",
        ),
    ];
    for (what, list, expected) in table {
        let analysis = analyse(&[], &captures(&list), true);
        assert!(!analysis.has_left, "{what}");
        assert_eq!(name(analysis), expected, "{what}");
    }
    let handled = [handled_exception(1, "A")];
    let up = captures(&[Capture(2, "B", &[(APP, 5), (FRAMEWORK, 4)])]);
    assert_eq!(
        name(analyse(&handled, &up, true)),
        "A",
        "a handled exception wins over a captured one"
    );
}

#[test]
fn a_deep_capture_is_compared_with_the_known_cause() {
    let up = |name| captures(&[Capture(1, name, &[(APP, 5), (FRAMEWORK, 4)])]);
    let known = through(&[APP], handled_exception(1, "A"));
    let elsewhere = through(&["shop.cart"], handled_exception(1, "A"));
    for (what, handled, captures, is_complete, expected) in [
        ("the same", vec![known.clone()], up("A"), true, Some(true)),
        ("another", vec![known.clone()], up("B"), true, Some(false)),
        ("elsewhere", vec![elsewhere], up("A"), true, Some(false)),
        ("none", vec![known.clone()], vec![], true, Some(false)),
        ("no complete capture", vec![known], up("A"), false, None),
        ("only a capture", vec![], up("A"), true, None),
    ] {
        let agrees = analyse(&handled, &captures, is_complete).deep_capture_agrees;
        assert_eq!(agrees, expected, "{what}");
    }
}

#[test]
fn an_exception_that_a_library_uses_as_an_answer_is_no_cause() {
    let short = captures(&[Capture(1, "KeyError", &[("os", 6), ("collections.abc", 5)])]);
    assert_eq!(analyse(&[], &short, true).cause, Cause::None);
    assert_eq!(analyse(&[], &short, false).cause, Cause::Unknown);
    let long: &[(&str, u32)] = &[("os", 6), ("os", 5), ("os", 4), ("os", 3)];
    for name in ANSWERS {
        let answer = captures(&[Capture(1, name, long)]);
        assert_eq!(analyse(&[], &answer, true).cause, Cause::None, "{name}");
        // The application's own exception of that class is a cause.
        let own = captures(&[Capture(1, name, &[(APP, 5)])]);
        assert_eq!(self::name(analyse(&[], &own, true)), name);
    }
    let within = captures(&[Capture(1, "OSError", long)]);
    assert_eq!(analyse(&[], &within, true).cause, Cause::None);
    let across: &[(&str, u32)] = &[("installed.views", 6), (FRAMEWORK, 5)];
    let across = captures(&[Capture(1, "OSError", across)]);
    assert_eq!(name(analyse(&[], &across, true)), "OSError");
}

#[test]
fn a_captured_exception_has_the_frame_that_raised_it() {
    let up = captures(&[Capture(1, "A", &[("json", 6), (APP, 5), (FRAMEWORK, 4)])]);
    let failure = failure(analyse(&[], &up, true));
    assert_eq!(failure.raised.raised_in, "json.py:f");
    assert_eq!(failure.called_from, Some("shop/views.py:f".into()));
    assert_eq!(failure.traceback.len(), 3);
}

#[test]
fn captured_exceptions_of_a_request_are_bounded_and_the_applications_own_stay() {
    let mut captures = captures(&[Capture(1, "A", &[(APP, 9)])]);
    for object in 2..2000 {
        CapturedException::captured_frame(&mut captures, &captured(object, "B", FRAMEWORK, 9));
    }
    assert_eq!(captures.len(), MAX_CAPTURED);
    assert_eq!(captures[0].class.name, "A");
    for object in 2000..4000 {
        CapturedException::captured_frame(&mut captures, &captured(object, "C", APP, 9));
    }
    assert_eq!(captures.len(), MAX_CAPTURED);
    let mut deep = Vec::new();
    for depth in (0..1000).rev() {
        CapturedException::captured_frame(&mut deep, &captured(1 | AGAIN, "A", APP, depth));
    }
    assert_eq!((deep.len(), deep[0].frames.len()), (1, MAX_FRAMES));
    assert_eq!(deep[0].depth, 0);
}
