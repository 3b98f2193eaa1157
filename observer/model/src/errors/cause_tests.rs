use super::*;

const APP: &str = "shop.views";
const FRAMEWORK: &str = "flask.app";

fn frame(module: &str, function: &str) -> Frame {
    Frame {
        module: module.to_owned(),
        file: format!("{}.py", module.replace('.', "/")),
        function: function.to_owned(),
        is_own: module.starts_with("shop"),
        is_installed: !module.starts_with("shop"),
    }
}

fn class(name: &str) -> Class {
    Class {
        module: "builtins".to_owned(),
        name: name.to_owned(),
    }
}

/// An exception with this address and class, raised in the application, that someone asked for.
fn asked(object: u64, name: &str) -> Exception {
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

/// The same one, caught so many calls below `handle_request`.
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

/// With these frames, the innermost first.
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

fn name(analysis: ErrorAnalysis) -> String {
    failure(analysis).raised.error.name
}

#[test]
fn what_left_the_application_is_the_cause_and_else_what_was_asked_for_last() {
    let table: [(&str, Vec<Exception>, &str); 9] = [
        ("one alone", vec![asked(1, "A")], "A"),
        ("the last of two", vec![asked(1, "A"), asked(2, "B")], "B"),
        (
            "one that left, before one that was logged",
            vec![left(asked(1, "A")), asked(2, "B")],
            "A",
        ),
        (
            "the last of those that left",
            vec![left(asked(1, "A")), left(asked(2, "B"))],
            "B",
        ),
        (
            "not one that came up while the page about it was made",
            vec![caught(3, asked(1, "A")), after(1, caught(9, asked(2, "B")))],
            "A",
        ),
        (
            "not one that came up late while that page was made",
            vec![
                caught(3, asked(1, "A")),
                Exception {
                    came_from: Some(5),
                    ..after(1, caught(9, asked(2, "B")))
                },
            ],
            "A",
        ),
        (
            "one that replaced it, as it was caught further out",
            vec![caught(9, asked(1, "A")), after(1, caught(3, asked(2, "B")))],
            "B",
        ),
        (
            "one that has nothing to do with an earlier one, however far in",
            vec![caught(3, asked(1, "A")), caught(9, asked(2, "B"))],
            "B",
        ),
        (
            "one that follows an earlier one from who knows where",
            vec![asked(1, "A"), after(1, caught(9, asked(2, "B")))],
            "B",
        ),
    ];
    for (what, handled, expected) in table {
        assert_eq!(name(analyse(&handled, &[], false)), expected, "{what}");
    }
}

#[test]
fn the_same_exception_asked_for_again_further_in_is_not_aside() {
    let again = after(5, caught(9, asked(1, "A")));
    let first = Exception {
        root: Some(5),
        ..caught(3, asked(1, "A"))
    };
    let frames = through(&[APP, APP], again);
    let analysis = analyse(&[first, frames], &[], false);
    assert_eq!(failure(analysis).traceback.len(), 2);
    assert_eq!(analyse(&[asked(1, "A")], &[], true).cause, {
        let failure = Failure::of(&asked(1, "A"));
        Cause::Raised(Box::new(failure))
    });
}

#[test]
fn only_what_left_is_said_to_have_left() {
    assert!(analyse(&[left(asked(1, "A"))], &[], false).has_left);
    assert!(!analyse(&[asked(1, "A")], &[], false).has_left);
    assert!(!analyse(&[], &[], true).has_left);
}

#[test]
fn what_gunicorn_handled_is_told_beside_the_cause() {
    let gunicorns = Exception {
        was_gunicorns: true,
        ..asked(2, "BrokenPipeError")
    };
    let analysis = analyse(&[left(asked(1, "A")), gunicorns, asked(3, "B")], &[], false);
    assert_eq!(analysis.gunicorns, Some(class("BrokenPipeError")));
    assert_eq!(name(analysis), "A");
    assert_eq!(analyse(&[asked(1, "A")], &[], false).gunicorns, None);
}

#[test]
fn a_failure_says_where_it_was_raised_and_what_of_the_application_led_there() {
    let of = |exception| failure(analyse(&[exception], &[], false));
    let in_library = of(through(
        &["json.decoder", "json", APP, "shop.app", FRAMEWORK],
        asked(1, "ValueError"),
    ));
    assert_eq!(in_library.raised.raised_in, "json/decoder.py:f");
    assert_eq!(in_library.called_from.as_deref(), Some("shop/views.py:f"));
    let in_app = of(asked(1, "ValueError"));
    assert_eq!(in_app.raised.raised_in, "shop/views.py:index");
    assert_eq!(in_app.called_from, None);
    let nowhere = of(through(&[], asked(1, "ValueError")));
    assert_eq!(
        (&*nowhere.raised.raised_in, nowhere.called_from),
        ("", None)
    );
    let unreadable = Exception {
        frames: vec![Frame::default()],
        ..asked(1, "ValueError")
    };
    assert_eq!(of(unreadable).raised.raised_in, "");
}

#[test]
fn a_failure_names_the_first_exception_that_led_to_it() {
    assert_eq!(
        failure(analyse(&[asked(1, "A")], &[], false)).root_cause,
        None
    );
    let root = |root_frame| {
        let exception = Exception {
            root_frame,
            ..after(9, asked(1, "A"))
        };
        failure(analyse(&[exception], &[], false))
            .root_cause
            .unwrap()
    };
    let place = Some(frame("shop.db", "connect"));
    assert_eq!(root(place).raised_in, "shop/db.py:connect");
    let Raised { error, raised_in } = root(None);
    assert_eq!((error, &*raised_in), (class("Earlier"), ""));
}

#[test]
fn a_client_that_went_away_is_no_cause_however_gunicorn_met_it() {
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
        let gone = through(&[sockets, &wsgi].concat(), left(asked(1, name)));
        let analysis = analyse(std::slice::from_ref(&gone), &[], false);
        assert!(
            analysis.client_gone && !analysis.has_left,
            "{name} {sockets:?}"
        );
        assert_eq!(analysis.cause, Cause::Unknown);
        // Nor is it the cause beside another one.
        let analysis = analyse(&[asked(2, "A"), gone], &[], false);
        assert!(analysis.client_gone);
        assert_eq!(self::name(analysis), "A");
    }
}

#[test]
fn the_applications_own_network_errors_are_causes() {
    for (name, modules) in [
        // To a server of its own.
        (
            "BrokenPipeError",
            &["socket", APP, "gunicorn.workers.sync"] as &[&str],
        ),
        ("TimeoutError", &["ssl", "urllib3.connection", APP]),
        (
            "ConnectionResetError",
            &["gevent._socket3", "redis.connection"],
        ),
        // What only deep_captures like Gunicorn.
        ("OSError", &["gunicornish.views"]),
        // Gunicorn's own, and nothing a client does.
        ("ValueError", &["gunicorn.http.wsgi"]),
        // Its traceback was not read.
        ("BrokenPipeError", &[]),
    ] {
        let analysis = analyse(&[through(modules, asked(1, name))], &[], false);
        assert!(!analysis.client_gone, "{name} {modules:?}");
        assert_eq!(self::name(analysis), name);
    }
}

#[test]
fn only_after_a_look_that_missed_nothing_there_is_no_exception() {
    assert_eq!(analyse(&[], &[], true).cause, Cause::None);
    assert_eq!(analyse(&[], &[], false).cause, Cause::Unknown);
    let gone = through(&["gunicorn.http.wsgi"], asked(1, "BrokenPipeError"));
    assert_eq!(analyse(&[gone], &[], true).cause, Cause::Unknown);
}

#[test]
fn a_client_that_went_is_no_cause_for_a_closer_look_either() {
    let gone: &[(&str, u32)] = &[("gunicorn.http.unreader", 6), (APP, 5), (FRAMEWORK, 4)];
    let gone = rises(&[Way(1, "ConnectionResetError", gone)]);
    let analysis = analyse(&[], &gone, true);
    assert_eq!(
        (&analysis.cause, analysis.client_gone),
        (&Cause::Unknown, true)
    );
    let own: &[(&str, u32)] = &[("redis", 6), (APP, 5), (FRAMEWORK, 4)];
    let own = rises(&[Way(1, "ConnectionResetError", own)]);
    assert_eq!(name(analyse(&[], &own, true)), "ConnectionResetError");
}

/// One exception's way: object, class, then each frame it goes up with its depth.
struct Way<'a>(u64, &'a str, &'a [(&'a str, u32)]);

/// Beside an object: it went up other frames before.
const AGAIN: u64 = 1 << 63;

fn step(object: u64, name: &str, module: &str, depth: u32) -> CapturedFrame {
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

fn rises(ways: &[Way]) -> Vec<UnwindTrace> {
    let mut rises = Vec::new();
    for Way(object, name, frames) in ways {
        let mut object = *object;
        for (module, depth) in *frames {
            UnwindTrace::step(&mut rises, &step(object, name, module, *depth));
            object |= AGAIN;
        }
    }
    rises
}

#[test]
fn an_exception_is_followed_from_frame_to_frame() {
    let one = rises(&[Way(1, "A", &[(APP, 5), ("shop.app", 4), (FRAMEWORK, 3)])]);
    assert_eq!((one.len(), one[0].depth), (1, 3));
    let modules: Vec<_> = one[0].frames.iter().map(|f| f.module.as_str()).collect();
    assert_eq!(modules, [APP, "shop.app", FRAMEWORK]);
    for (what, ways, count) in [
        // Up to 3.11 the object is made when it is caught, from then on it has an address.
        (
            "made on the way",
            vec![
                Way(0, "A", &[(APP, 5)]),
                Way(1 | AGAIN, "A", &[(APP, 4), (FRAMEWORK, 3)]),
            ],
            1,
        ),
        // As `finally`, `with` and Pyramid's `reraise` do.
        (
            "raised again, in the same frame and elsewhere",
            vec![
                Way(1, "A", &[(APP, 5), (APP, 5), (APP, 4)]),
                Way(1 | AGAIN, "A", &[(FRAMEWORK, 9), (FRAMEWORK, 8)]),
            ],
            1,
        ),
        (
            "another one, at the address of one that is gone",
            vec![Way(1, "A", &[(APP, 5)]), Way(1, "A", &[(APP, 4)])],
            2,
        ),
        (
            "of two objects",
            vec![Way(1, "A", &[(APP, 5)]), Way(2, "A", &[(APP, 5)])],
            2,
        ),
        (
            "of two classes at one address",
            vec![Way(1, "A", &[(APP, 5)]), Way(1 | AGAIN, "B", &[(APP, 4)])],
            2,
        ),
        (
            "raised before it was looked at",
            vec![Way(1 | AGAIN, "A", &[(APP, 5), (FRAMEWORK, 4)])],
            1,
        ),
        (
            "between the steps of another",
            vec![
                Way(1, "A", &[(APP, 5)]),
                Way(2, "B", &[(APP, 8), (APP, 7)]),
                Way(1 | AGAIN, "A", &[(APP, 4)]),
            ],
            2,
        ),
        (
            "between the steps of one that is not made",
            vec![
                Way(0, "A", &[(APP, 5)]),
                Way(0, "B", &[(APP, 8), (APP, 7)]),
                Way(AGAIN, "A", &[(APP, 4)]),
            ],
            2,
        ),
    ] {
        assert_eq!(rises(&ways).len(), count, "{what}");
    }
}

#[test]
fn one_that_is_raised_again_elsewhere_began_where_it_was_raised_first() {
    let again = rises(&[
        Way(1, "A", &[(APP, 9), (FRAMEWORK, 8)]),
        Way(1 | AGAIN, "A", &[(FRAMEWORK, 6), (FRAMEWORK, 5)]),
    ]);
    let failure = failure(analyse(&[], &again, true));
    assert_eq!(failure.raised.raised_in, "shop/views.py:f");
    assert_eq!(again[0].depth, 5);
}

#[test]
fn depths_of_any_size_break_nothing() {
    for depth in [0, u32::MAX - 1, u32::MAX] {
        let mut rises = Vec::new();
        UnwindTrace::step(&mut rises, &step(1, "A", APP, depth));
        UnwindTrace::step(&mut rises, &step(1, "A", APP, u32::MAX));
        UnwindTrace::step(&mut rises, &step(1, "A", APP, 0));
        assert!(!rises.is_empty());
    }
}

#[test]
fn of_all_that_went_up_that_which_left_the_application_furthest_out_is_the_cause() {
    let table: [(&str, Vec<Way>, &str); 7] = [
        (
            "it left for the framework",
            vec![
                Way(1, "KeyError", &[(APP, 5)]),
                Way(2, "A", &[(APP, 5), (FRAMEWORK, 4), (FRAMEWORK, 3)]),
                Way(3, "Stop", &[(FRAMEWORK, 6)]),
            ],
            "A",
        ),
        (
            "of two, it went further out",
            vec![
                Way(1, "A", &[(APP, 5), (FRAMEWORK, 4), (FRAMEWORK, 3)]),
                Way(2, "B", &[(APP, 8), (FRAMEWORK, 7)]),
            ],
            "A",
        ),
        (
            "of two as far out, it was the last",
            vec![
                Way(1, "A", &[(APP, 5), (FRAMEWORK, 4)]),
                Way(2, "B", &[(APP, 5), (FRAMEWORK, 4)]),
            ],
            "B",
        ),
        (
            "none left: it was the last caught in the application",
            vec![
                Way(1, "A", &[(APP, 5), (APP, 4)]),
                Way(2, "B", &[("json", 7), (APP, 6)]),
                Way(3, "C", &[(FRAMEWORK, 6), (FRAMEWORK, 5), (FRAMEWORK, 4)]),
            ],
            "B",
        ),
        (
            "it left, and another was caught in the application later",
            vec![
                Way(1, "A", &[(APP, 5), (FRAMEWORK, 4)]),
                Way(2, "B", &[(APP, 6)]),
            ],
            "A",
        ),
        (
            "none was the application's: of those that left a package, it went furthest out",
            vec![
                Way(1, "A", &[("installed.views", 9), (FRAMEWORK, 8)]),
                Way(2, "B", &[("installed.views", 6), (FRAMEWORK, 5)]),
                Way(3, "C", &[("installed.views", 8), (FRAMEWORK, 7)]),
                Way(4, "D", &[(FRAMEWORK, 4), (FRAMEWORK, 3), (FRAMEWORK, 2)]),
            ],
            "B",
        ),
        (
            "it came back into the application: it has not left",
            vec![
                Way(1, "A", &[(APP, 6), (FRAMEWORK, 5), ("shop.middleware", 4)]),
                Way(2, "B", &[(APP, 9), (FRAMEWORK, 8)]),
            ],
            "B",
        ),
    ];
    for (what, ways, expected) in table {
        let analysis = analyse(&[], &rises(&ways), true);
        assert!(!analysis.has_left, "{what}");
        assert_eq!(name(analysis), expected, "{what}");
    }
    let handled = [asked(1, "A")];
    let up = rises(&[Way(2, "B", &[(APP, 5), (FRAMEWORK, 4)])]);
    assert_eq!(
        name(analyse(&handled, &up, true)),
        "A",
        "who asks knows better"
    );
}

#[test]
fn a_closer_look_is_compared_with_what_is_known_without_it() {
    let up = |name| rises(&[Way(1, name, &[(APP, 5), (FRAMEWORK, 4)])]);
    let known = through(&[APP], asked(1, "A"));
    let elsewhere = through(&["shop.cart"], asked(1, "A"));
    for (what, handled, rises, was_watched, expected) in [
        ("the same", vec![known.clone()], up("A"), true, Some(true)),
        ("another", vec![known.clone()], up("B"), true, Some(false)),
        ("elsewhere", vec![elsewhere], up("A"), true, Some(false)),
        ("none", vec![known.clone()], vec![], true, Some(false)),
        ("no look", vec![known], up("A"), false, None),
        ("only a look", vec![], up("A"), true, None),
    ] {
        let agrees = analyse(&handled, &rises, was_watched).closer_look_agrees;
        assert_eq!(agrees, expected, "{what}");
    }
}

#[test]
fn how_a_library_says_no_is_no_cause() {
    let short = rises(&[Way(1, "KeyError", &[("os", 6), ("collections.abc", 5)])]);
    assert_eq!(analyse(&[], &short, true).cause, Cause::None);
    assert_eq!(analyse(&[], &short, false).cause, Cause::Unknown);
    let long: &[(&str, u32)] = &[("os", 6), ("os", 5), ("os", 4), ("os", 3)];
    for name in ANSWERS {
        let answer = rises(&[Way(1, name, long)]);
        assert_eq!(analyse(&[], &answer, true).cause, Cause::None, "{name}");
        // The application's own is more than that.
        let own = rises(&[Way(1, name, &[(APP, 5)])]);
        assert_eq!(self::name(analyse(&[], &own, true)), name);
    }
    let within = rises(&[Way(1, "OSError", long)]);
    assert_eq!(analyse(&[], &within, true).cause, Cause::None);
    let across: &[(&str, u32)] = &[("installed.views", 6), (FRAMEWORK, 5)];
    let across = rises(&[Way(1, "OSError", across)]);
    assert_eq!(name(analyse(&[], &across, true)), "OSError");
}

#[test]
fn what_went_up_says_where_it_began() {
    let up = rises(&[Way(1, "A", &[("json", 6), (APP, 5), (FRAMEWORK, 4)])]);
    let failure = failure(analyse(&[], &up, true));
    assert_eq!(failure.raised.raised_in, "json.py:f");
    assert_eq!(failure.called_from.as_deref(), Some("shop/views.py:f"));
    assert_eq!(failure.traceback.len(), 3);
}

#[test]
fn what_is_kept_of_one_request_is_bounded_and_spares_the_applications() {
    let mut rises = rises(&[Way(1, "A", &[(APP, 9)])]);
    for object in 2..2000 {
        UnwindTrace::step(&mut rises, &step(object, "B", FRAMEWORK, 9));
    }
    assert_eq!(rises.len(), MAX_RISES);
    assert_eq!(rises[0].class.name, "A");
    for object in 2000..4000 {
        UnwindTrace::step(&mut rises, &step(object, "C", APP, 9));
    }
    assert_eq!(rises.len(), MAX_RISES);
    let mut deep = Vec::new();
    for depth in (0..1000).rev() {
        UnwindTrace::step(&mut deep, &step(1 | AGAIN, "A", APP, depth));
    }
    assert_eq!((deep.len(), deep[0].frames.len()), (1, MAX_FRAMES));
    assert_eq!(deep[0].depth, 0);
}
