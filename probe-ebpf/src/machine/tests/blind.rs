//! Requests of workers whose sockets are not observed: where Python begins and ends them.

use super::worker::{Request, Worker};
use crate::abi::{Stat, flags};
use crate::gunicorn::Family;
use crate::machine::{Ended, Origin};

const SOCK: u64 = 0x9000;
const CLIENT: u64 = 0x77_0000;
const ANSWERED: Ended = Ended {
    status: 201,
    sent: 12,
    has_headers_sent: true,
    version: 0x0101,
};

fn worker(family: Family) -> Worker {
    let mut worker = Worker::new(family);
    worker.kernel.sees_io = false;
    worker
}

/// A new connection at the same `struct sock`.
fn connect(worker: &mut Worker, identity: u32) {
    let established = worker.kernel.clock.get();
    worker.kernel.births.insert(SOCK, (identity, established));
}

fn enter(worker: &mut Worker, path: &str) -> Request {
    let request = worker.request("GET", path, CLIENT);
    assert!(!worker.enter_blind(&request, SOCK));
    request
}

#[test]
fn a_request_has_the_times_of_python_and_of_its_connection() {
    for family in [Family::Sync, Family::Gthread] {
        let mut worker = worker(family);
        for (identity, ordinal) in [(5, 0), (5, 1), (6, 0)] {
            if ordinal == 0 {
                connect(&mut worker, identity);
            }
            let request = enter(&mut worker, "/hello");
            worker.exit_as(&request, ANSWERED);
            let sent = worker.only();
            sent.check_times();
            assert_eq!((&*sent.line(), sent.conn.status), ("GET /hello", 201));
            assert_eq!(sent.conn.flags, flags::EXITED | flags::NO_HEADS);
            let request = (sent.conn.request_bytes, sent.conn.request_head_bytes);
            let response = (sent.conn.response_bytes, sent.conn.response_head_bytes);
            assert_eq!((request, response), ((1, 1), (13, 1)));
            assert_eq!(sent.conn.version, 0x0101);
            assert_eq!(sent.conn.ordinal, ordinal);
            assert_eq!(sent.conn.established_ns != 0, ordinal == 0);
            assert_eq!((sent.conn.first_read_ns, sent.conn.first_write_ns), (0, 0));
        }
        assert_eq!(worker.count(Stat::FlowWithoutConn), 0);
    }
}

#[test]
fn a_body_is_as_long_as_it_announces_or_unknown() {
    for announces in [false, true] {
        let mut worker = worker(Family::Sync);
        connect(&mut worker, 5);
        let request = worker.request("POST", "/upload", CLIENT);
        assert!(worker.enter_blind(&request, SOCK));
        if announces {
            let length = worker.kernel.user.int(10_000);
            worker.machine().announced(&worker.call(&request), length);
        }
        worker.exit_as(&request, ANSWERED);
        let sent = worker.only();
        let bytes = (sent.conn.request_bytes, sent.conn.request_head_bytes);
        assert_eq!(bytes, if announces { (10_001, 1) } else { (1, 0) });
    }
}

#[test]
fn greenlets_have_no_connection() {
    let mut worker = worker(Family::Async);
    let requests = ["/a", "/b"].map(|path| worker.enter_new("GET", path, CLIENT));
    for (request, line) in requests.iter().zip(["GET /a", "GET /b"]) {
        worker.exit_as(request, ANSWERED);
        let sent = worker.only();
        assert_eq!(sent.line(), line);
        assert!(sent.has(flags::NO_CONNECTION));
    }
    assert_eq!(worker.kernel.conn_count(), 0);
    assert_eq!(worker.count(Stat::FlowWithoutConn), 0);
}

#[test]
fn an_error_page_is_the_end_once_its_status_is_known() {
    for exits in [false, true] {
        let mut worker = worker(Family::Gthread);
        connect(&mut worker, 5);
        let request = enter(&mut worker, "/raises");
        if exits {
            worker.exit(&request);
        }
        worker.fail(&request, 0);
        worker.none();
        worker.fail(&request, 500);
        let sent = worker.only();
        sent.check_times();
        assert_eq!((&*sent.line(), sent.conn.status), ("GET /raises", 500));
        assert!(sent.has(flags::ERROR_HANDLED));
    }
}

#[test]
fn a_request_without_an_answer_ends_with_the_next_of_its_connection_or_address() {
    for identity in [5, 6] {
        let mut worker = worker(Family::Gthread);
        connect(&mut worker, 5);
        enter(&mut worker, "/reset");
        connect(&mut worker, identity);
        let request = enter(&mut worker, "/next");
        let sent = worker.only();
        sent.check_times();
        assert_eq!((&*sent.line(), sent.conn.status), ("GET /reset", 0));
        worker.exit_as(&request, ANSWERED);
        let sent = worker.only();
        assert_eq!((&*sent.line(), sent.conn.status), ("GET /next", 201));
        assert_eq!(sent.conn.ordinal, u32::from(identity == 5));
        assert_eq!(worker.count(Stat::FlowReplaced), 0);
    }
}

#[test]
fn refused_bytes_have_a_record_whatever_the_thread_served_before() {
    let mut worker = worker(Family::Sync);
    connect(&mut worker, 5);
    let request = enter(&mut worker, "/hello");
    worker.exit_as(&request, ANSWERED);
    worker.only();
    let socket = worker.socket(9, SOCK);
    worker.refuse(socket, 11, 0);
    let sent = worker.only();
    assert_eq!((sent.origin, sent.conn.refused_ns), (Origin::Refused, 11));
    let request = enter(&mut worker, "/hello");
    worker.exit_as(&request, ANSWERED);
    assert_eq!(worker.only().conn.flags, flags::EXITED | flags::NO_HEADS);
}
