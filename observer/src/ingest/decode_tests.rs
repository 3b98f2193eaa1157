use super::*;
use crate::ingest::sample::{RequestBytes, exec, exit, fork};
use proptest::prelude::*;

fn full() -> RequestBytes {
    RequestBytes {
        pid: 7,
        time_ns: 90,
        times: [10, 20, 30, 40, 50, 60, 70],
        request_bytes: 130,
        response_bytes: 1100,
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
        ..Request::default()
    };
    assert_eq!(request, expected);
}

#[test]
fn a_request_says_which_layer_timed_it() {
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
    assert_eq!(socket.duration_ns(), Some(30));
}

#[test]
fn what_was_not_seen_is_absent() {
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
    let at = 16 + 9 * 8 + 4 * 4 + 4;
    bytes[at..at + 2].copy_from_slice(&60_000_u16.to_le_bytes());
    assert_eq!(request_of(&bytes).path.as_deref(), Some("/a"));
}

#[test]
fn processes_begin_change_and_end() {
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
fn bytes_that_are_no_record_are_refused() {
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
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn no_body_of_a_request_breaks_it(body in proptest::collection::vec(any::<u8>(), 376)) {
        let mut bytes = body;
        bytes[..4].copy_from_slice(&[1, 0, 120, 1]);
        prop_assert!(decode(&bytes).is_ok());
    }
}
