use super::*;
use crate::errors::cause::{Cause, Failure};
use crate::testing::scenarios::{captured_frame, exception, raising, request};

const NOW: u64 = 1_000_000_000;

fn failure(analysis: ErrorAnalysis) -> Failure {
    match analysis.cause {
        Cause::Raised(failure) => *failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_is_given_its_own_exceptions_once() {
    let mut exceptions = Exceptions::default();
    let (one, another) = (raising(request(7, NOW)), raising(request(7, 2 * NOW)));
    let of_another_worker = raising(request(8, NOW));
    exceptions.handled(&exception(&one, 1, "A"));
    exceptions.handled(&exception(&another, 1, "B"));
    exceptions.captured_frame(&captured_frame(&of_another_worker, 1, "C", 3));
    let class = |analysis| failure(analysis).raised.error.name;
    assert_eq!(class(exceptions.analysis(&another, false)), "B");
    assert_eq!(class(exceptions.analysis(&one, false)), "A");
    assert_eq!(class(exceptions.analysis(&of_another_worker, true)), "C");
    assert_eq!(exceptions.analysis(&one, false).cause, Cause::Unknown);
    assert!(exceptions.seen.is_empty());
}

#[test]
fn a_request_without_exceptions_of_its_own_is_given_none() {
    let mut exceptions = Exceptions::default();
    let plain = request(7, NOW);
    exceptions.handled(&exception(&plain, 1, "A"));
    assert_eq!(exceptions.analysis(&plain, true).cause, Cause::None);
    assert_eq!(exceptions.analysis(&plain, false).cause, Cause::Unknown);
}

#[test]
fn a_request_whose_exceptions_were_lost_is_not_said_to_have_had_none() {
    let lost = raising(request(7, NOW));
    let analysis = Exceptions::default().analysis(&lost, true);
    assert_eq!(analysis.cause, Cause::Unknown);
}

#[test]
fn the_same_exception_again_is_one_and_keeps_all_that_was_known_of_it() {
    let of = raising(request(7, NOW));
    let first = Exception {
        has_left: true,
        was_gunicorns: true,
        ..exception(&of, 1, "A")
    };
    let again = Exception {
        frames: Vec::new(),
        ..exception(&of, 1, "A")
    };
    let mut exceptions = Exceptions::default();
    for seen in [&first, &exception(&of, 2, "B"), &again] {
        exceptions.handled(seen);
    }
    let analysis = exceptions.analysis(&of, false);
    assert!(analysis.has_left && analysis.gunicorns.is_some());
    let failure = failure(analysis);
    assert_eq!(failure.raised.error.name, "A");
    assert_eq!(failure.traceback, first.frames);

    // Asked for again, it is the last that was asked for.
    for (object, class) in [(1, "A"), (2, "B"), (1, "A")] {
        exceptions.handled(&exception(&of, object, class));
    }
    let analysis = exceptions.analysis(&of, false);
    assert_eq!(self::failure(analysis).raised.error.name, "A");
}

#[test]
fn exceptions_of_requests_that_never_finish_are_bounded_and_their_loss_is_counted() {
    let mut exceptions = Exceptions::default();
    let room = MAX_KEPT as u64 / 2;
    let requests = room + 5;
    for n in 0..requests {
        let of = raising(request(7, NOW + n));
        exceptions.handled(&exception(&of, 1, "A"));
        exceptions.captured_frame(&captured_frame(&of, 2, "BB", 3));
    }
    assert_eq!(exceptions.seen.len() as u64, room);
    assert_eq!(exceptions.kept, MAX_KEPT);
    assert_eq!(exceptions.forgotten, 5);
    // The oldest were.
    for (n, is_known) in [(0, false), (4, false), (5, true), (requests - 1, true)] {
        let analysis = exceptions.analysis(&raising(request(7, NOW + n)), true);
        assert_eq!(analysis.cause != Cause::Unknown, is_known, "{n}");
    }
}

#[test]
fn of_one_request_the_last_exceptions_are_kept() {
    let mut exceptions = Exceptions::default();
    let of = raising(request(7, NOW));
    for object in 0..1000 {
        exceptions.handled(&exception(&of, object, &format!("E{object}")));
    }
    let seen = exceptions.seen.first_key_value().unwrap().1;
    assert_eq!(seen.handled.len(), MAX_EXCEPTIONS);
    assert_eq!(seen.handled[0].class.name, "E984");
    assert_eq!(exceptions.kept, MAX_EXCEPTIONS);
    exceptions.analysis(&of, false);
    assert_eq!(exceptions.kept, 0);
}

#[test]
fn of_a_part_of_what_went_up_nothing_follows() {
    let all = Request {
        exceptions_count: 2,
        ..raising(request(7, NOW))
    };
    for (records, is_known) in [(1, false), (2, true)] {
        let mut exceptions = Exceptions::default();
        for object in 0..records {
            exceptions.captured_frame(&captured_frame(&all, object + 1, "A", 3));
        }
        let cause = exceptions.analysis(&all, true).cause;
        assert_eq!(cause != Cause::Unknown, is_known);
        for object in 0..records {
            exceptions.captured_frame(&captured_frame(&all, object + 1, "A", 3));
        }
        assert_eq!(exceptions.analysis(&all, false).cause, Cause::Unknown);
    }
}

#[test]
fn what_was_caught_before_the_request_came_is_none_of_it() {
    let of = raising(request(7, NOW));
    let outside = Exception {
        has_left: false,
        depth: None,
        ..exception(&of, 1, "ImportError")
    };
    let mut exceptions = Exceptions::default();
    exceptions.handled(&outside);
    assert_eq!(exceptions.analysis(&of, true).cause, Cause::None);
}

#[test]
fn what_ended_is_forgotten_by_its_pid() {
    let mut exceptions = Exceptions::default();
    let (gone, lives) = (raising(request(7, NOW)), raising(request(8, NOW)));
    for of in [&gone, &lives] {
        exceptions.handled(&exception(of, 1, "A"));
    }
    exceptions.forget(7);
    assert_eq!(exceptions.analysis(&gone, false).cause, Cause::Unknown);
    assert_ne!(exceptions.analysis(&lives, false).cause, Cause::Unknown);
    assert_eq!(exceptions.forgotten, 0);
}
