//! Requests that fail, and bytes that are refused.

use super::worker::Worker;
use crate::abi::{Phase, Stat, flags};
use crate::gunicorn::Family;
use crate::machine::Origin;
use crate::machine::test_kernel::{Sent, TGID};

const SOCK: u64 = 0x9000;
const CLIENT: u64 = 0x77_0000;
const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
const PAGE: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n<html>";
const HEAD: u32 = PAGE.len() as u32 - 6;

fn reading(family: Family) -> Worker {
    let mut worker = Worker::new(family);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    worker
}

fn is_error_page(sent: &Sent) {
    sent.check_times();
    assert_eq!((sent.origin, sent.conn.status), (Origin::Python, 500));
    assert!(sent.has(flags::ERROR_HANDLED));
    assert_eq!(sent.conn.response_bytes, PAGE.len() as u64);
    assert_eq!(sent.conn.response_head_bytes, HEAD);
    assert_eq!(sent.line(), "GET /raises");
}

#[test]
fn an_exception_before_the_response_ends_with_the_error_page() {
    for family in [Family::Sync, Family::Gthread, Family::Async] {
        let mut worker = reading(family);
        let request = worker.enter_new("GET", "/raises", CLIENT);
        worker.fail(&request, 0);
        worker.fail(&request, 500);
        worker.write(SOCK, PAGE);
        let sent = worker.only();
        is_error_page(&sent);
        assert!(!sent.has(flags::EXITED));
        worker.close(SOCK);
        worker.none();
    }
}

#[test]
fn an_exception_before_the_first_byte_of_the_body_exits_first() {
    let mut worker = reading(Family::Sync);
    let request = worker.enter_new("GET", "/raises", CLIENT);
    worker.exit(&request);
    let exited = worker.conn(SOCK).exited_ns;
    worker.fail(&request, 0);
    worker.fail(&request, 500);
    worker.write(SOCK, PAGE);
    let sent = worker.only();
    is_error_page(&sent);
    assert_eq!(sent.conn.exited_ns, exited);
}

#[test]
fn an_exception_after_the_first_byte_is_the_end() {
    let mut worker = reading(Family::Sync);
    let request = worker.enter_new("GET", "/late", CLIENT);
    worker.write(SOCK, OK);
    worker.exit(&request);
    let sent = worker.only();
    assert_eq!((sent.conn.status, sent.conn.flags), (200, flags::EXITED));
    // Gunicorn closes the connection then.
    worker.close(SOCK);
    worker.none();
}

#[test]
fn handle_error_after_the_first_byte_leaves_the_status() {
    let mut worker = reading(Family::Sync);
    let request = worker.enter_new("GET", "/late", CLIENT);
    worker.write(SOCK, OK);
    worker.fail(&request, 500);
    worker.write(SOCK, PAGE);
    worker.none();
    worker.close(SOCK);
    let sent = worker.only();
    sent.check_times();
    assert_eq!(sent.conn.status, 200);
    assert!(sent.has(flags::ERROR_HANDLED) && !sent.has(flags::CLOSED));
}

#[test]
fn a_request_that_nobody_answers_ends_with_its_connection() {
    for exits in [false, true] {
        let mut worker = reading(Family::Gthread);
        let request = worker.enter_new("GET", "/reset", CLIENT);
        if exits {
            worker.exit(&request);
        }
        worker.none();
        assert!(worker.machine().is_unanswered(SOCK));
        worker.close(SOCK);
        let sent = worker.only();
        sent.check_times();
        assert_eq!((&*sent.line(), sent.conn.status), ("GET /reset", 0));
        assert!(sent.has(flags::CLOSED));
        assert_eq!(sent.has(flags::EXITED), exits);
    }
}

#[test]
fn a_connection_is_unanswered_only_while_a_request_waits() {
    let mut worker = Worker::new(Family::Gthread);
    let is_unanswered = |worker: &Worker| worker.machine().is_unanswered(SOCK);
    assert!(!is_unanswered(&worker));
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    assert!(!is_unanswered(&worker));
    let request = worker.enter_new("GET", "/hello", CLIENT);
    assert!(is_unanswered(&worker));
    worker.fail(&request, 0);
    assert!(!is_unanswered(&worker), "its exception is known");
    let second = worker.enter_new("GET", "/hello", CLIENT);
    worker.write(SOCK, OK);
    assert!(!is_unanswered(&worker));
    worker.exit(&second);
    assert!(!is_unanswered(&worker));
}

#[test]
fn a_client_that_left_before_the_error_page_is_the_end() {
    let mut worker = reading(Family::Sync);
    let request = worker.enter_new("GET", "/raises", CLIENT);
    worker.fail(&request, 500);
    worker.write_fails(SOCK, 11);
    worker.none();
    worker.write_fails(SOCK, 32);
    let sent = worker.only();
    assert!(sent.has(flags::WRITE_FAILED));
    assert_eq!(sent.conn.status, 0);
    worker.close(SOCK);
    worker.none();
}

#[test]
fn a_write_that_fails_shows_the_status_that_was_meant() {
    let mut worker = reading(Family::Sync);
    let request = worker.enter_new("GET", "/hello", CLIENT);
    worker.write_fails_with(SOCK, b"HTTP/1.1 100 Continue\r\n\r\n", 32);
    assert_eq!(worker.conn(SOCK).status, 0);
    worker.write_fails_with(SOCK, OK, 32);
    worker.write_fails_with(SOCK, b"the body of a response", 32);
    worker.exit(&request);
    let sent = worker.only();
    sent.check_times();
    assert_eq!((sent.conn.status, sent.conn.response_bytes), (200, 0));
    assert!(sent.has(flags::WRITE_FAILED));
}

#[test]
fn a_kept_connection_goes_on_after_an_error_page() {
    let mut worker = reading(Family::Gthread);
    let request = worker.enter_new("GET", "/raises", CLIENT);
    worker.fail(&request, 500);
    worker.write(SOCK, PAGE);
    is_error_page(&worker.only());
    worker.read(SOCK, HELLO);
    let request = worker.enter_new("GET", "/hello", CLIENT);
    worker.write(SOCK, OK);
    worker.exit(&request);
    let sent = worker.only();
    assert_eq!((sent.conn.status, sent.conn.ordinal), (200, 1));
    assert_eq!(sent.conn.flags, flags::EXITED);
}

#[test]
fn a_failure_of_an_unknown_request_is_counted() {
    let mut worker = Worker::new(Family::Sync);
    let request = worker.request("GET", "/hello", CLIENT);
    worker.fail(&request, 500);
    worker.none();
    assert_eq!(worker.count(Stat::ExitUnmatched), 1);
}

const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<html>";

#[test]
fn refused_bytes_end_with_the_error_page() {
    for family in [Family::Sync, Family::Gthread, Family::Async] {
        let mut worker = Worker::new(family);
        worker.accept(SOCK);
        worker.read(SOCK, b"GARBAGE\r\n\r\n");
        worker.refuse(CLIENT, 11, 400);
        assert_eq!(worker.conn(SOCK).phase, Phase::Refused as u16);
        worker.write(SOCK, REFUSAL);
        let sent = worker.only();
        sent.check_times();
        assert_eq!(sent.origin, Origin::Refused);
        assert_eq!((sent.conn.status, sent.conn.refused_ns), (400, 11));
        assert_eq!((sent.conn.entered_ns, sent.conn.request), (0, 0));
        assert_eq!(sent.conn.request_bytes, 11);
        assert_eq!(sent.conn.request_head_bytes, 11);
        assert_eq!(sent.conn.response_bytes, REFUSAL.len() as u64);
        assert_eq!(sent.conn.response_head_bytes, REFUSAL.len() as u32 - 6);
        worker.close(SOCK);
        worker.none();
    }
}

#[test]
fn a_refused_request_keeps_its_first_exception() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    worker.read(SOCK, b"GET / HTTP/1.1\r\n");
    worker.read(SOCK, b"X: y");
    let call_of = worker.request("GET", "/", CLIENT);
    worker.refuse(CLIENT, 11, 0);
    assert!(worker.machine().is_refused(&worker.call(&call_of)));
    worker.refuse(CLIENT, 12, 431);
    worker.write(SOCK, REFUSAL);
    let sent = worker.only();
    assert_eq!(sent.conn.refused_ns, 11);
    assert_eq!(sent.conn.request_bytes, 20);
}

#[test]
fn refused_bytes_without_an_answer_end_with_the_connection() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    worker.read(SOCK, b"GARBAGE\r\n\r\n");
    worker.refuse(CLIENT, 11, 400);
    worker.close(SOCK);
    let sent = worker.only();
    assert_eq!((sent.origin, sent.conn.status), (Origin::Refused, 0));
    assert_eq!(worker.kernel.conn_count(), 0);
}

#[test]
fn a_later_request_of_a_connection_may_be_refused() {
    let mut worker = reading(Family::Gthread);
    let request = worker.enter_new("GET", "/hello", CLIENT);
    worker.write(SOCK, OK);
    worker.exit(&request);
    worker.only();
    worker.on(TGID + 1).read(SOCK, b"GARBAGE\r\n\r\n");
    // Gunicorn passes the socket here, not the connection.
    let socket = worker.socket(9, SOCK);
    worker.refuse(socket, 11, 400);
    worker.write(SOCK, REFUSAL);
    let sent = worker.only();
    assert_eq!((sent.origin, sent.conn.ordinal), (Origin::Refused, 1));
}

#[test]
fn a_pipelined_request_is_refused_on_its_connection_in_any_thread() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.read(SOCK, &[HELLO, b"GARBAGE\r\n\r\n"].concat());
    let request = worker.enter_new("GET", "/hello", CLIENT);
    worker.write(SOCK, OK);
    worker.exit(&request);
    worker.only();
    worker.on(TGID + 1).accept(SOCK + 64);
    worker.read(SOCK + 64, HELLO);
    let socket = worker.socket(9, SOCK);
    worker.refuse(socket, 11, 400);
    worker.write(SOCK, REFUSAL);
    let sent = worker.only();
    assert_eq!((sent.origin, sent.conn.ordinal), (Origin::Refused, 1));
    assert_eq!((sent.conn.key.address, sent.conn.status), (SOCK, 400));
    assert_eq!(worker.conn(SOCK + 64).phase, Phase::Reading as u16);
}

#[test]
fn a_refused_request_that_has_an_object_is_refused_once() {
    let mut worker = Worker::tls(Family::Sync);
    worker.accept(SOCK);
    worker.read(SOCK, b"\x17\x03\x03 ciphertext");
    worker.refuse(CLIENT, 11, 0);
    // Gunicorn takes the request from the exception.
    let request = worker.request("GET", "/hello", CLIENT);
    worker.fail(&request, 400);
    worker.write(SOCK, b"\x17\x03\x03 ciphertext");
    let sent = worker.only();
    assert_eq!((sent.origin, sent.conn.status), (Origin::Refused, 400));
    assert_eq!(sent.conn.refused_ns, 11);
}

#[test]
fn refused_bytes_of_an_unknown_connection_have_a_record() {
    let mut worker = Worker::new(Family::Sync);
    worker.refuse(CLIENT, 11, 400);
    let sent = worker.only();
    assert_eq!((sent.origin, sent.conn.refused_ns), (Origin::Refused, 11));
    assert!(sent.has(flags::NO_CONNECTION));
    assert_eq!(worker.kernel.conn_count(), 0);
}

#[test]
fn encrypted_bytes_leave_the_status_to_handle_error() {
    let mut worker = Worker::tls(Family::Sync);
    worker.accept(SOCK);
    worker.read(SOCK, b"\x17\x03\x03 ciphertext");
    worker.refuse(CLIENT, 11, 400);
    worker.write(SOCK, b"\x17\x03\x03 ciphertext");
    let sent = worker.only();
    assert_eq!((sent.origin, sent.conn.status), (Origin::Refused, 400));
    worker.close(SOCK);

    worker.accept(SOCK);
    worker.read(SOCK, b"\x17\x03\x03 ciphertext");
    let request = worker.enter_new("GET", "/raises", CLIENT);
    worker.fail(&request, 0);
    worker.fail(&request, 500);
    worker.write(SOCK, b"\x17\x03\x03 ciphertext");
    let sent = worker.only();
    sent.check_times();
    assert_eq!((sent.origin, sent.conn.status), (Origin::Python, 500));
}
