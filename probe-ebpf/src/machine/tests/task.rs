//! Requests that tasks serve.

use super::worker::Worker;
use crate::abi::{Stat, target_flags};
use crate::coroutine::Serving;
use crate::machine::Origin;

const SOCK: u64 = 0x9000;
const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno";
/// As in Uvicorn.
const CYCLE: Serving = Serving {
    request: 0x5000,
    server: 0x5000,
};

fn worker() -> Worker {
    let mut worker = Worker::unread();
    worker.kernel.target.flags |= target_flags::TASKS;
    worker.accept(SOCK);
    worker
}

/// The key of the exceptions of a request.
fn key(worker: &Worker, Serving { request, server }: Serving) -> Option<u64> {
    worker.machine().task(request, server).map(|(_, key)| key)
}

#[test]
fn a_request_enters_with_its_task_and_ends_with_its_bytes() {
    let mut worker = worker();
    for _ in 0..2 {
        worker.read(SOCK, HELLO);
        assert_eq!(key(&worker, CYCLE), None);
        worker.machine().task_entered(SOCK, CYCLE);
        let entered_ns = worker.conn(SOCK).entered_ns;
        assert_eq!(key(&worker, CYCLE), Some(entered_ns));
        worker.write(SOCK, OK);
        let sent = worker.only();
        assert_eq!((sent.origin, sent.conn.status), (Origin::Task, 200));
        assert_eq!(sent.conn.entered_ns, entered_ns);
        assert!(sent.conn.first_read_ns < entered_ns);
        assert!(entered_ns < sent.conn.first_write_ns);
        assert_eq!(key(&worker, CYCLE), None);
    }
}

#[test]
fn the_exception_of_a_failed_response_may_come_after_it() {
    let mut worker = worker();
    worker.read(SOCK, HELLO);
    worker.machine().task_entered(SOCK, CYCLE);
    let entered_ns = worker.conn(SOCK).entered_ns;
    worker.write(SOCK, FAILED);
    assert_eq!(worker.only().conn.status, 500);
    assert_eq!(key(&worker, CYCLE), Some(entered_ns));
    // The next request of the connection has exceptions of its own.
    let next = Serving {
        request: 0x6000,
        server: 0x6000,
    };
    worker.read(SOCK, HELLO);
    worker.machine().task_entered(SOCK, next);
    let later_ns = worker.conn(SOCK).entered_ns;
    assert_eq!(key(&worker, next), Some(later_ns));
    assert_eq!(key(&worker, CYCLE), Some(entered_ns));
    // The address of the first is used again.
    worker.write(SOCK, OK);
    worker.only();
    worker.read(SOCK, HELLO);
    worker.machine().task_entered(SOCK, CYCLE);
    let last_ns = worker.conn(SOCK).entered_ns;
    assert_eq!(key(&worker, CYCLE), Some(last_ns));
}

#[test]
fn the_requests_of_a_connection_may_have_one_server() {
    let mut worker = worker();
    let of = |request| Serving {
        request,
        server: 0x7000,
    };
    for request in [0x5000, 0x6000] {
        worker.read(SOCK, HELLO);
        worker.machine().task_entered(SOCK, of(request));
        assert!(key(&worker, of(request)).is_some());
        assert_eq!(key(&worker, of(request + 8)), None);
        worker.write(SOCK, OK);
        worker.only();
    }
}

#[test]
fn a_request_that_is_not_answered_ends_with_its_connection() {
    let mut worker = worker();
    worker.read(SOCK, HELLO);
    worker.machine().task_entered(SOCK, CYCLE);
    worker.close(SOCK);
    let sent = worker.only();
    assert_eq!((sent.origin, sent.conn.status), (Origin::Task, 0));
    assert_eq!(key(&worker, CYCLE), None);
}

#[test]
fn a_task_of_an_unknown_connection_is_a_loss() {
    let worker = worker();
    worker.machine().task_entered(SOCK + 64, CYCLE);
    assert_eq!(worker.count(Stat::FlowWithoutConn), 1);
    assert_eq!(key(&worker, CYCLE), None);
    assert_eq!(
        key(
            &worker,
            Serving {
                request: 0,
                server: 0
            }
        ),
        None
    );
}
