//! Requests of processes whose Python is not read.

use super::worker::Worker;
use crate::abi::{HEAD_BYTES, LineSource, Phase, flags};
use crate::machine::Origin;
use crate::machine::test_kernel::Sent;

const SOCK: u64 = 0x9000;
const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";

fn accepted() -> Worker {
    let mut worker = Worker::unread();
    worker.accept(SOCK);
    worker
}

#[track_caller]
fn check(sent: &Sent, line: &[u8], status: u16) {
    sent.check_times();
    assert_eq!(sent.origin, Origin::Socket);
    assert_eq!(sent.conn.line_source, LineSource::Wire as u16);
    assert!(sent.conn.line.starts_with(line));
    assert_eq!(sent.conn.status, status);
    assert_eq!((sent.conn.entered_ns, sent.conn.exited_ns), (0, 0));
}

#[test]
fn a_request_ends_with_its_content_length() {
    let mut worker = accepted();
    for ordinal in 0..2 {
        worker.read(SOCK, HELLO);
        worker.write(SOCK, OK);
        worker.none();
        worker.write(SOCK, b"hello");
        let sent = worker.only();
        check(&sent, b"GET /hello", 200);
        assert_eq!(sent.conn.ordinal, ordinal);
        assert_eq!(sent.conn.request_head_bytes, HELLO.len() as u32);
        assert_eq!(sent.conn.response_head_bytes, OK.len() as u32);
        assert_eq!(sent.conn.response_bytes, OK.len() as u64 + 5);
    }
}

#[test]
fn a_request_ends_with_its_last_chunk() {
    let mut worker = accepted();
    worker.read(SOCK, HELLO);
    worker.write(
        SOCK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    worker.write(SOCK, b"5\r\nhello\r\n");
    worker.none();
    worker.write(SOCK, b"0\r\n\r\n");
    check(&worker.only(), b"GET /hello", 200);
    worker.read(SOCK, HELLO);
    worker.write(
        SOCK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    check(&worker.only(), b"GET /hello", 200);
}

#[test]
fn a_request_of_unknown_length_ends_with_the_next_or_the_connection() {
    let mut worker = accepted();
    worker.read(SOCK, HELLO);
    worker.write(SOCK, b"HTTP/1.1 200 OK\r\n\r\nhello");
    worker.none();
    worker.read(SOCK, b"GET /next HTTP/1.1\r\n\r\n");
    check(&worker.only(), b"GET /hello", 200);
    worker.write(SOCK, b"HTTP/1.0 404 Not Found\r\n\r\nhello");
    worker.close(SOCK);
    let sent = worker.only();
    check(&sent, b"GET /next", 404);
    assert_eq!(sent.conn.ordinal, 1);
}

#[test]
fn a_head_in_pieces_is_put_together() {
    let mut worker = accepted();
    for piece in HELLO.chunks(5) {
        worker.read(SOCK, piece);
    }
    worker.write(SOCK, b"HTTP/1.1 204 No Content\r\n\r\n");
    let sent = worker.only();
    check(&sent, b"GET /hello HTTP/1.1", 204);
    assert_eq!(sent.conn.request_head_bytes, HELLO.len() as u32);
    assert_eq!(sent.conn.request_bytes, HELLO.len() as u64);
}

#[test]
fn a_long_line_is_cut() {
    let mut worker = accepted();
    let line = [b"GET /", &[b'a'; 1000][..], b" HTTP/1.1\r\n\r\n"].concat();
    worker.read(SOCK, &line[..10]);
    worker.read(SOCK, &line[10..]);
    worker.write(SOCK, b"HTTP/1.1 204 No Content\r\n\r\n");
    let sent = worker.only();
    assert!(sent.has(flags::LINE_CUT));
    assert!(sent.conn.line_len as usize <= HEAD_BYTES);
    assert_eq!(sent.conn.line[..60], line[..60]);
}

#[test]
fn a_pipelined_request_has_no_line() {
    let mut worker = accepted();
    worker.read(SOCK, &HELLO.repeat(2));
    for ordinal in 0..2 {
        worker.write(SOCK, OK);
        worker.write(SOCK, b"hello");
        let sent = worker.only();
        assert_eq!((sent.conn.ordinal, sent.conn.status), (ordinal, 200));
        assert_eq!(sent.has(flags::PIPELINED), ordinal == 1);
    }
}

#[test]
fn the_rest_of_a_body_is_no_request() {
    let mut worker = accepted();
    worker.read(SOCK, b"POST /up HTTP/1.1\r\nContent-Length: 99\r\n\r\nzzz");
    worker.write(SOCK, b"HTTP/1.1 204 No Content\r\n\r\n");
    check(&worker.only(), b"POST /up", 204);
    worker.read(SOCK, b"zzzzzzzzzzzz");
    assert_eq!(worker.conn(SOCK).phase, Phase::Idle as u16);
    worker.read(SOCK, b"zzz");
    worker.read(SOCK, HELLO);
    worker.write(SOCK, b"HTTP/1.1 204 No Content\r\n\r\n");
    let sent = worker.only();
    check(&sent, b"GET /hello", 204);
    assert_eq!(sent.conn.ordinal, 1);
}

#[test]
fn an_interim_response_is_part_of_the_head() {
    let mut worker = accepted();
    worker.read(SOCK, b"POST /up HTTP/1.1\r\nExpect: 100-continue\r\n\r\n");
    worker.write(SOCK, b"HTTP/1.1 100 Continue\r\n\r\n");
    worker.read(SOCK, b"body");
    worker.write(SOCK, OK);
    worker.write(SOCK, b"hello");
    let sent = worker.only();
    assert_eq!(sent.conn.status, 200);
    assert_eq!(sent.conn.response_head_bytes as usize, 25 + OK.len());
}

#[test]
fn a_connection_without_an_answer_is_forgotten() {
    let mut worker = accepted();
    worker.read(SOCK, HELLO);
    worker.close(SOCK);
    assert_eq!(worker.only().conn.status, 0);
    assert_eq!(worker.kernel.conn_count(), 0);
}

#[test]
fn what_follows_a_switch_of_protocols_is_no_request() {
    let mut worker = accepted();
    worker.read(SOCK, HELLO);
    worker.write(SOCK, b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
    assert_eq!(worker.only().conn.status, 101);
    worker.read(SOCK, HELLO);
    worker.close(SOCK);
    worker.none();
}
