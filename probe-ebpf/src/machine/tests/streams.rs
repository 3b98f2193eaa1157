//! Encrypted requests, and streams of HTTP/2: their bytes show nothing, Gunicorn's objects do.

use super::worker::{Request, Worker};
use crate::abi::flags;
use crate::gunicorn::Family;
use crate::machine::Ended;

const SOCK: u64 = 0x9000;
const CLIENT: u64 = 0x77_0000;
const CIPHERTEXT: &[u8] = b"\x17\x03\x03 ciphertext";

/// What a response object shows, as the programs read it.
fn response(worker: &mut Worker, status: &str, sent: u64, headers_sent: u64) -> Ended {
    let heap = &mut worker.kernel.user;
    let fields = [heap.str(status), heap.int(sent), heap.int(headers_sent), 0];
    worker.machine().ended(&worker.kernel.user.layout, fields)
}

fn connected(family: Family) -> Worker {
    let mut worker = Worker::tls(family);
    worker.accept(SOCK);
    // The handshake.
    worker.read(SOCK, CIPHERTEXT);
    worker.write(SOCK, CIPHERTEXT);
    worker
}

#[test]
fn an_encrypted_request_has_the_status_of_its_response() {
    let mut worker = connected(Family::Gthread);
    for (ordinal, method) in ["GET", "POST"].into_iter().enumerate() {
        worker.read(SOCK, CIPHERTEXT);
        let request = worker.request(method, "/hello", CLIENT);
        let bytes = worker.conn(SOCK).request_bytes;
        let is_measured = worker.enter(&request);
        assert_eq!(is_measured, method == "POST");
        if is_measured {
            let length = worker.kernel.user.int(5 << 30 | 9);
            worker.machine().announced(&worker.call(&request), length);
        }
        // Decrypted in pieces, and larger than announced.
        worker.read(SOCK, CIPHERTEXT);
        worker.write(SOCK, CIPHERTEXT);
        worker.write(SOCK, CIPHERTEXT);
        assert!(!worker.machine().has_status(&worker.call(&request)));
        let ended = response(&mut worker, "201 Created", 10, 1);
        worker.exit_as(&request, ended);
        let sent = worker.only();
        sent.check_times();
        assert_eq!(sent.conn.ordinal as usize, ordinal);
        assert_eq!((sent.conn.status, sent.conn.flags), (201, flags::EXITED));
        assert_eq!(sent.conn.response_bytes, 2 * CIPHERTEXT.len() as u64);
        assert_eq!(
            sent.conn.response_head_bytes as usize,
            2 * CIPHERTEXT.len() - 10
        );
        assert_eq!(u64::from(sent.conn.request_head_bytes), bytes);
        let body = if is_measured {
            5 << 30 | 9
        } else {
            CIPHERTEXT.len() as u64
        };
        assert_eq!(sent.conn.request_bytes - bytes, body);
    }
}

#[test]
fn an_encrypted_request_that_failed_before_its_head_waits_for_its_error_page() {
    let mut worker = connected(Family::Sync);
    worker.read(SOCK, CIPHERTEXT);
    let request = worker.enter_new("GET", "/raises", CLIENT);
    let ended = response(&mut worker, "200 OK", 0, 0);
    worker.exit_as(&request, ended);
    worker.none();
    worker.fail(&request, 500);
    worker.write(SOCK, CIPHERTEXT);
    assert_eq!(worker.only().conn.status, 500);
}

fn stream(worker: &mut Worker, path: &str) -> Request {
    let request = worker.request("GET", path, CLIENT);
    let request = Request {
        is_stream: true,
        ..request
    };
    worker.enter(&request);
    request
}

#[test]
fn streams_of_a_connection_come_one_after_the_other() {
    for family in [Family::Gthread, Family::Async] {
        let mut worker = connected(family);
        worker.read(SOCK, CIPHERTEXT);
        for (ordinal, path) in ["/a", "/b", "/c"].into_iter().enumerate() {
            let request = stream(&mut worker, path);
            worker.write(SOCK, CIPHERTEXT);
            let ended = response(&mut worker, "200 OK", 6, 1);
            worker.exit_as(&request, ended);
            let sent = worker.only();
            sent.check_times();
            assert_eq!(
                (sent.conn.status, sent.conn.ordinal as usize),
                (200, ordinal)
            );
            assert_eq!(sent.line().split_once(' ').unwrap().1, path);
            assert_eq!(sent.has(flags::PIPELINED), ordinal > 0);
        }
        worker.close(SOCK);
        worker.none();
    }
}

#[test]
fn a_stream_that_sent_no_head_is_answered_with_500() {
    let mut worker = connected(Family::Gthread);
    worker.read(SOCK, CIPHERTEXT);
    let request = stream(&mut worker, "/raises");
    let ended = response(&mut worker, "200 OK", 0, 0);
    worker.exit_as(&request, ended);
    let sent = worker.only();
    sent.check_times();
    assert_eq!(sent.conn.status, 500);
}

#[test]
fn objects_that_are_no_response_show_nothing() {
    let mut worker = Worker::new(Family::Sync);
    let none = worker.kernel.user.none();
    let text = worker.kernel.user.str("OK");
    let layout = worker.kernel.user.layout;
    for object in [0, none, text, u64::MAX] {
        let ended = worker.machine().ended(&layout, [object; 4]);
        assert_eq!(ended.status, 0);
    }
    assert_eq!(worker.machine().ended(&layout, [0; 4]), Ended::default());
}
