use super::*;
use crate::ingest::test_records::{
    ExceptionBytes, RequestBytes, capture_exhausted, captured_frame, exec, exit, fork, gc,
};
use observer_model::counters::worker_counters::duration_ns;
use proptest::prelude::*;

const EXCEPTION: usize = size_of::<ExceptionRecord>();

fn full() -> RequestBytes {
    RequestBytes {
        pid: 7,
        time_ns: 90,
        times: [10, 20, 30, 40, 50, 60, 70],
        request_bytes: 130,
        response_bytes: 1100,
        exceptions: 40,
        request_head_bytes: 100,
        response_head_bytes: 100,
        status: 201,
        flags: flags::EXITED,
        line: b"POST /a?secret HTTP/1.1\r\nHost: h".to_vec(),
        python: false,
        socket: false,
    }
}

fn request_of(bytes: &[u8]) -> Request {
    match decode(bytes) {
        Ok(Event::Request(request)) => *request,
        other => panic!("not a request: {other:?}"),
    }
}

#[test]
fn a_request_is_decoded_field_by_field() {
    let request = request_of(&full().build());
    let expected = Request {
        pid: 7,
        tid: 7,
        established_ns: Some(10),
        accepted_ns: Some(20),
        first_read_ns: Some(30),
        entered_ns: Some(40),
        first_write_ns: Some(50),
        last_write_ns: Some(60),
        exited_ns: Some(70),
        finished_ns: 90,
        method: Some("POST".into()),
        path: Some("/a".into()),
        protocol: Some("HTTP/1.1".into()),
        status: Some(201),
        request_body_bytes: Some(30),
        response_bytes: Some(1100),
        response_body_bytes: Some(1000),
        exceptions: Some(40),
        exceptions_count: 1,
        ..Request::default()
    };
    assert_eq!(request, expected);
}

#[test]
fn a_request_has_the_layer_that_timed_it() {
    let python = request_of(&full().build());
    assert_eq!(python.timed_by, TimedBy::Python);
    let socket = request_of(
        &RequestBytes {
            times: [10, 20, 30, 0, 50, 60, 0],
            socket: true,
            ..full()
        }
        .build(),
    );
    let expected = Request {
        timed_by: TimedBy::Socket,
        entered_ns: None,
        exited_ns: None,
        ..python
    };
    assert_eq!(socket, expected);
    assert_eq!(duration_ns(&socket), Some(30));
}

#[test]
fn times_and_sizes_that_were_not_seen_are_absent() {
    let request = request_of(
        &RequestBytes {
            pid: 1,
            time_ns: 2,
            ..Default::default()
        }
        .build(),
    );
    assert_eq!(
        request,
        Request {
            pid: 1,
            tid: 1,
            finished_ns: 2,
            ..Request::default()
        }
    );
}

#[test]
fn sizes_that_contradict_each_other_are_unknown() {
    let request = request_of(
        &RequestBytes {
            request_bytes: 5,
            ..full()
        }
        .build(),
    );
    assert_eq!(request.request_body_bytes, None);
}

#[test]
fn an_impossible_status_is_unknown() {
    assert_eq!(
        request_of(
            &RequestBytes {
                status: 42,
                ..full()
            }
            .build()
        )
        .status,
        None
    );
    assert_eq!(
        request_of(
            &RequestBytes {
                status: 65535,
                ..full()
            }
            .build()
        )
        .status,
        None
    );
}

#[test]
fn flags_become_facts() {
    let all = flags::ERROR_HANDLED | flags::BAD_REQUEST | flags::WRITE_FAILED;
    let request = request_of(
        &RequestBytes {
            flags: all,
            ..full()
        }
        .build(),
    );
    assert!(request.error_handled && request.bad_request && request.client_gone);
    assert!(!request.no_connection);
}

#[test]
fn a_line_length_beyond_the_line_is_cut() {
    let mut bytes = full().build();
    let at = 16 + 10 * 8 + 4 * 4 + 4;
    bytes[at..at + 2].copy_from_slice(&60_000_u16.to_le_bytes());
    assert_eq!(request_of(&bytes).path, Some("/a".into()));
}

#[test]
fn fork_exec_and_exit_are_decoded() {
    assert_eq!(
        decode(&fork(5, 1, 2)),
        Ok(Event::Fork {
            time_ns: 5,
            parent: 1,
            child: 2
        })
    );
    let command = "python3".to_owned();
    let expected = Event::Exec {
        time_ns: 6,
        pid: 2,
        was_target: true,
        command,
    };
    assert_eq!(decode(&exec(6, 2, true, "python3")), Ok(expected));
    for (wait_status, status) in [
        (0, ExitStatus::Code(0)),
        (3 << 8, ExitStatus::Code(3)),
        (9, ExitStatus::Signal(9)),
        (0x80 | 6, ExitStatus::Signal(6)),
    ] {
        let expected = Event::Exit {
            time_ns: 7,
            pid: 2,
            status,
        };
        assert_eq!(decode(&exit(7, 2, wait_status)), Ok(expected));
    }
}

#[test]
fn a_request_whose_connection_closed_before_it_left_the_application_was_cut() {
    for (flags, entered_ns, expected) in [
        (flags::CLOSED, 40, true),
        (flags::CLOSED | flags::WRITE_FAILED, 40, true),
        (flags::CLOSED | flags::EXITED, 40, false),
        (flags::CLOSED | flags::ERROR_HANDLED, 40, false),
        (flags::EXITED, 40, false),
        (flags::CLOSED, 0, false),
    ] {
        let mut record = full();
        record.flags = flags;
        record.times[3] = entered_ns;
        let request = request_of(&record.build());
        assert_eq!(request.was_cut, expected, "{flags:#x} {entered_ns}");
    }
}

/// An exception of the class `shop.errors.Empty`, so many calls deep: `f0` is the outermost.
fn raised(calls: usize) -> ExceptionBytes {
    let call = |n| {
        [
            "shop.views".to_owned(),
            format!("f{n}"),
            "/srv/shop/views.py".to_owned(),
        ]
    };
    ExceptionBytes {
        pid: 7,
        time_ns: 50,
        request: 40,
        object: 0x1000,
        class: ["Empty", "shop.errors"],
        traceback: (0..calls).map(call).collect(),
        ..ExceptionBytes::default()
    }
}

fn exception_of(bytes: &[u8]) -> Exception {
    match decode(bytes) {
        Ok(Event::Exception(exception)) => *exception,
        other => panic!("not an exception: {other:?}"),
    }
}

fn class(module: &str, name: &str) -> Class {
    Class {
        module: module.to_owned().into(),
        name: name.to_owned().into(),
    }
}

#[test]
fn an_exception_is_decoded_field_by_field() {
    let record = ExceptionBytes {
        came_from: 0x2000,
        root: 0x3000,
        depth: 3,
        root_class: ["KeyError", ""],
        root_frame: Some([
            "json.decoder",
            "JSONDecoder.decode",
            "/usr/lib/python3.11/json/decoder.py",
        ]),
        ..raised(1)
    };
    let expected = Exception {
        time_ns: 50,
        pid: 7,
        request: 40,
        object: 0x1000,
        came_from: Some(0x2000),
        root: Some(0x3000),
        has_left: false,
        was_gunicorns: false,
        depth: Some(3),
        class: class("shop.errors", "Empty"),
        frames: vec![Frame {
            module: "shop.views".into(),
            file: "shop/views.py".into(),
            function: "f0".into(),
            is_own: true,
            is_installed: false,
        }],
        frames_cut: 0,
        root_class: Some(class("builtins", "KeyError")),
        root_frame: Some(Frame {
            module: "json.decoder".into(),
            file: "json/decoder.py".into(),
            function: "JSONDecoder.decode".into(),
            is_own: false,
            is_installed: false,
        }),
    };
    assert_eq!(exception_of(&record.build()), expected);
}

#[test]
fn a_traceback_comes_innermost_first_however_long_it_is() {
    for (calls, kept) in [
        (0, 0),
        (1, 1),
        (3, 3),
        (16, 16),
        (17, 16),
        (20, 16),
        (256, 16),
    ] {
        let exception = exception_of(&raised(calls).build());
        let functions: Vec<_> = exception.frames.iter().map(|f| f.function.raw()).collect();
        let expected: Vec<_> = (calls - kept..calls)
            .rev()
            .map(|n| format!("f{n}"))
            .collect();
        assert_eq!(functions, expected, "{calls} calls");
        let cut = u32::try_from(calls - kept).unwrap();
        assert_eq!(exception.frames_cut, cut, "{calls} calls");
    }
}

#[test]
fn an_exception_without_a_root_has_no_class_and_no_place_of_one() {
    let stray = ExceptionBytes {
        root_class: ["KeyError", ""],
        root_frame: Some(["m", "f", "m.py"]),
        ..raised(0)
    };
    let exception = exception_of(&stray.build());
    assert_eq!((exception.root, exception.came_from), (None, None));
    assert_eq!((exception.root_class, exception.root_frame), (None, None));
    // One that was made and never raised: it has no traceback.
    let unraised = ExceptionBytes {
        root: 0x3000,
        root_frame: None,
        ..stray
    };
    let exception = exception_of(&unraised.build());
    assert_eq!(exception.root_class, Some(class("builtins", "KeyError")));
    assert_eq!(exception.root_frame, None);
}

#[test]
fn a_depth_is_known_only_where_the_catching_frame_was_met() {
    for (depth, expected) in [
        (0, Some(0)),
        (5, Some(5)),
        (NO_DEPTH, None),
        // The calls from there that were counted on.
        (NO_DEPTH + 7, None),
        (u32::MAX, None),
    ] {
        let record = ExceptionBytes { depth, ..raised(1) };
        assert_eq!(exception_of(&record.build()).depth, expected);
    }
}

#[test]
fn an_exception_has_its_observer_and_whether_it_left_the_application() {
    for (seen_by, expected) in [
        (SeenBy::HandleError, true),
        (SeenBy::Exit, false),
        (SeenBy::Asked, false),
        (SeenBy::Close, false),
    ] {
        let record = ExceptionBytes {
            seen_by,
            has_left: seen_by != SeenBy::Asked,
            ..raised(0)
        };
        let exception = exception_of(&record.build());
        assert_eq!(exception.was_gunicorns, expected, "{seen_by:?}");
        assert_eq!(exception.has_left, seen_by != SeenBy::Asked, "{seen_by:?}");
    }
}

#[test]
fn a_captured_frame_is_decoded_field_by_field() {
    let bytes = captured_frame(
        [7, 2],
        [60, 40, 0, 0x500],
        ["zlib.error", ""],
        ["", "create.<locals>.index", "<string>"],
    );
    let expected = CapturedFrame {
        time_ns: 60,
        pid: 7,
        request: 40,
        object: 0,
        is_made: true,
        has_traceback: true,
        class_object: 0x500,
        depth: 2,
        class: class("zlib", "error"),
        frame: Frame {
            module: "".into(),
            file: "<string>".into(),
            function: "index".into(),
            is_own: false,
            is_installed: false,
        },
    };
    assert_eq!(decode(&bytes), Ok(Event::CapturedFrame(Box::new(expected))));
}

#[test]
fn an_exhausted_deep_capture_is_decoded() {
    let event = decode(&capture_exhausted(9));
    assert_eq!(event, Ok(Event::DeepCaptureExhausted { time_ns: 9 }));
}

#[test]
fn a_garbage_collection_has_its_pause() {
    let expected = Event::Gc {
        time_ns: 9,
        pid: 7,
        pause_ns: 5,
    };
    assert_eq!(decode(&gc(9, 5)), Ok(expected));
}

#[test]
fn a_record_of_another_length_than_its_kind_has_is_refused() {
    for record in [
        raised(2).build(),
        captured_frame([7, 2], [60, 40, 0, 0x500], ["E", "m"], ["m", "f", "m.py"]),
        capture_exhausted(9),
        gc(9, 5),
    ] {
        assert!(decode(&record).is_ok());
        for length in [16, record.len() - 1, record.len() + 1] {
            let mut wrong = record.clone();
            wrong.resize(length, 0);
            let is_same = length == record.len();
            assert_eq!(decode(&wrong).is_ok(), is_same, "{length}");
            // Also when it says itself how long it is.
            let [low, high] = u16::try_from(length).unwrap().to_le_bytes();
            (wrong[2], wrong[3]) = (low, high);
            assert_eq!(decode(&wrong).is_ok(), is_same, "{length}");
        }
    }
}

#[test]
fn a_line_is_the_same_in_a_short_and_in_a_long_record() {
    let of = |line: String| {
        let record = RequestBytes {
            line: line.into_bytes(),
            ..full()
        };
        record.build()
    };
    let short = "GET /a HTTP/1.1\r\n".to_owned();
    let long = format!("{short}{}", "x".repeat(SHORT_LINE_BYTES));
    let (short, long) = (of(short), of(long));
    assert_eq!(short.len(), size_of::<RequestRecord<SHORT_LINE_BYTES>>());
    assert_eq!(long.len(), size_of::<RequestRecord>());
    assert_eq!(decode(&short), decode(&long));
}

#[test]
fn bytes_that_are_not_a_record_are_refused() {
    let good = full().build();
    assert_eq!(decode(&[]), Err(DecodeError::Short));
    assert_eq!(decode(&good[..15]), Err(DecodeError::Short));
    assert_eq!(decode(&good[..good.len() - 1]), Err(DecodeError::Length));
    assert_eq!(
        decode(&[good.clone(), vec![0]].concat()),
        Err(DecodeError::Length)
    );
    let mut lying = good.clone();
    lying[2] ^= 1;
    assert_eq!(decode(&lying), Err(DecodeError::Length));
    let mut unknown = good;
    unknown[0] = 99;
    assert_eq!(decode(&unknown), Err(DecodeError::Kind));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn no_body_of_a_record_panics(body in proptest::collection::vec(any::<u8>(), EXCEPTION)) {
        for (kind, size) in [
            (RecordKind::Request, size_of::<RequestRecord>()),
            (RecordKind::Request, size_of::<RequestRecord<SHORT_LINE_BYTES>>()),
            (RecordKind::Exception, EXCEPTION),
            (RecordKind::CapturedFrame, size_of::<CapturedFrameRecord>()),
        ] {
            let mut bytes = body[..size].to_vec();
            bytes[..2].copy_from_slice(&(kind as u16).to_le_bytes());
            bytes[2..4].copy_from_slice(&u16::try_from(size).unwrap().to_le_bytes());
            prop_assert!(decode(&bytes).is_ok());
        }
    }
}

#[test]
fn a_signal_has_its_sender_unless_the_kernel_sent_it() {
    use crate::ingest::test_records::{oom, signal};
    let decoded = |sender| decode(&signal(5, 7, 15, sender)).unwrap();
    let expected = |sender| Event::Signal {
        time_ns: 5,
        pid: 7,
        signal: 15,
        sender,
        by_thread: false,
    };
    assert_eq!(decoded(9), expected(Some(9)));
    assert_eq!(decoded(0), expected(None));
    let victim = Event::Oom { time_ns: 5, pid: 7 };
    assert_eq!(decode(&oom(5, 7)), Ok(victim));
}

#[test]
fn a_stack_is_decoded_from_the_innermost_frame_out() {
    use crate::ingest::test_records::stack;
    let frames = [
        ["shop", "view", "/srv/shop.py"],
        ["", "", ""],
        ["m", "f", "/srv/m.py"],
    ];
    let bytes = stack(7, 5, "GET /a?secret HTTP/1.1", &frames);
    let Ok(Event::Stack(stack)) = decode(&bytes) else {
        panic!("not a stack");
    };
    assert_eq!(
        (stack.pid, stack.time_ns, stack.entered_ns),
        (7, 5, Some(4))
    );
    assert_eq!(stack.path, Some("/a".into()));
    assert!(stack.is_current && !stack.is_cut);
    let named: Vec<_> = stack
        .frames
        .iter()
        .map(|location| (location.frame.file.raw(), location.frame.function.raw()))
        .collect();
    // The frame without names only marks the border to C.
    assert_eq!(named, [("shop.py", "view"), ("m.py", "f")]);
}
