//! What is not answered, and who left first.

extern crate std;

use std::vec;

use super::worker::Worker;
use crate::abi::{LostFrom, flags};
use crate::gunicorn::Family;
use crate::machine::Origin;

const SOCK: u64 = 0x9000;
const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_request_that_was_read_and_never_entered_is_lost_when_its_connection_is_closed() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.read(SOCK, &HELLO[..10]);
    worker.close(SOCK);
    worker.none();
    assert_eq!(worker.kernel.take_lost(), [LostFrom::Read]);
}

#[test]
fn a_request_that_nobody_read_is_lost_when_its_connection_is_closed() {
    let mut worker = Worker::new(Family::Gthread);
    for (unread, lost) in [(0, vec![]), (1, vec![]), (32, vec![LostFrom::Accepted])] {
        worker.accept(SOCK);
        later(&worker);
        worker.kernel.unread.borrow_mut().insert(SOCK, unread);
        worker.close(SOCK);
        assert_eq!(worker.kernel.take_lost(), lost, "{unread} bytes");
    }
}

#[test]
fn a_client_that_connected_just_now_is_about_to_send() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.close(SOCK);
    assert_eq!(worker.kernel.take_lost(), [LostFrom::Accepted]);
}

#[test]
fn a_client_that_left_lost_nothing() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    worker.read(SOCK, &HELLO[..10]);
    worker.read_end(SOCK);
    worker.close(SOCK);
    let mut tls = Worker::tls(Family::Sync);
    tls.accept(SOCK);
    tls.read(SOCK, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03");
    tls.close(SOCK);
    for worker in [worker, tls] {
        worker.none();
        assert!(worker.kernel.take_lost().is_empty());
    }
}

#[test]
fn the_rest_of_a_body_that_nobody_read_is_no_request() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.read(
        SOCK,
        b"POST /up HTTP/1.1\r\nContent-Length: 9000\r\n\r\nsome",
    );
    let request = worker.enter_new("POST", "/up", 1);
    worker.write(SOCK, b"HTTP/1.1 401 Unauthorized\r\n\r\n");
    worker.exit(&request);
    worker.kernel.unread.borrow_mut().insert(SOCK, 5000);
    worker.close(SOCK);
    assert_eq!(worker.only().conn.status, 401);
    assert!(worker.kernel.take_lost().is_empty());
}

#[test]
fn a_client_that_is_gone_waits_for_nothing() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.kernel.unread.borrow_mut().insert(SOCK, 33);
    worker.kernel.left.borrow_mut().insert(SOCK);
    worker.close(SOCK);
    assert!(worker.kernel.take_lost().is_empty());
}

#[test]
fn an_answered_connection_lost_nothing() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    let request = worker.enter_new("GET", "/hello", 1);
    worker.write(SOCK, b"HTTP/1.1 200 OK\r\n\r\nhello");
    worker.exit(&request);
    worker.close(SOCK);
    assert!(!worker.only().has(flags::CLIENT_LEFT));
    assert!(worker.kernel.take_lost().is_empty());
}

#[test]
fn a_client_that_closed_its_side_before_the_response_had_left() {
    for left_before in [true, false] {
        let mut worker = Worker::new(Family::Sync);
        worker.accept(SOCK);
        worker.read(SOCK, HELLO);
        let request = worker.enter_new("GET", "/hello", 1);
        let leave = |worker: &Worker| worker.kernel.left.borrow_mut().insert(SOCK);
        if left_before {
            leave(&worker);
        }
        worker.write(SOCK, b"HTTP/1.1 200 OK\r\n\r\nhello");
        // A client that has read its answer may close at once.
        leave(&worker);
        worker.exit(&request);
        assert_eq!(worker.only().has(flags::CLIENT_LEFT), left_before);
    }
}

/// Later than any pause between two writes of one response.
const A_WHILE: u64 = 1_000_000_000;

fn later(worker: &Worker) {
    let now = worker.kernel.clock.get();
    worker.kernel.clock.set(now + A_WHILE);
}

#[test]
fn a_late_event_makes_the_response_a_stream() {
    for (python, late, is_stream) in [
        (true, &b"9\r\ndata: 1\n\n\r\n"[..], true),
        (false, b"9\r\ndata: 1\n\n\r\n", true),
        (true, b"9\r\n{\"data\":1\r\n", false),
        (false, b"9\r\n{\"data\":1\r\n", false),
    ] {
        let mut worker = if python {
            Worker::new(Family::Gthread)
        } else {
            Worker::unread()
        };
        worker.accept(SOCK);
        worker.read(SOCK, HELLO);
        let request = python.then(|| worker.enter_new("GET", "/hello", 1));
        worker.write(SOCK, CHUNKED);
        worker.write(SOCK, b"9\r\ndata: 0\n\n\r\n");
        assert_eq!(
            worker.conn(SOCK).flags & flags::EVENT_STREAM,
            0,
            "too early"
        );
        later(&worker);
        worker.write(SOCK, late);
        worker.write(SOCK, b"0\r\n\r\n");
        if let Some(request) = request {
            worker.exit(&request);
        }
        let sent = worker.only();
        assert_eq!(sent.has(flags::EVENT_STREAM), is_stream, "{sent:?}");
    }
}

#[test]
fn on_the_wire_a_response_that_its_connection_ends_is_incomplete() {
    let length = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12345";
    for (head, flag) in [(CHUNKED, flags::INCOMPLETE), (length, flags::INCOMPLETE)] {
        let mut worker = Worker::unread();
        worker.accept(SOCK);
        worker.read(SOCK, HELLO);
        worker.write(SOCK, head);
        worker.close(SOCK);
        let sent = worker.only();
        assert!(sent.has(flag) && !sent.has(flags::CLIENT_LEFT), "{sent:?}");
    }
    let mut worker = Worker::unread();
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    worker.write(SOCK, b"HTTP/1.0 200 OK\r\n\r\nuntil the end");
    worker.close(SOCK);
    assert!(!worker.only().has(flags::INCOMPLETE));
}

#[test]
fn on_the_wire_only_what_begins_like_a_request_is_one() {
    for bytes in [
        &b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut worker = Worker::unread();
        worker.accept(SOCK);
        worker.read(SOCK, bytes);
        worker.close(SOCK);
        worker.none();
    }
}

#[test]
fn on_the_wire_a_request_without_an_answer_ends_with_its_connection() {
    for has_left in [true, false] {
        let mut worker = Worker::unread();
        worker.accept(SOCK);
        worker.read(SOCK, HELLO);
        if has_left {
            worker.read_end(SOCK);
        }
        worker.close(SOCK);
        let sent = worker.only();
        assert_eq!((sent.origin, sent.conn.status), (Origin::Socket, 0));
        assert!(sent.has(flags::CLOSED), "{sent:?}");
        assert_eq!(sent.has(flags::CLIENT_LEFT), has_left, "{sent:?}");
    }
}
