//! Connections: accepted, adopted, closed, reused.

use super::worker::Worker;
use crate::abi::{MAX_PORTS, Phase, Stat, flags};
use crate::gunicorn::Family;
use crate::machine::Origin;
use crate::machine::test_kernel::TGID;

const SOCK: u64 = 0x9000;
const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nhello";

/// A request and its answer.
fn serve(worker: &mut Worker, sock: u64) {
    worker.read(sock, HELLO);
    let request = worker.enter_new("GET", "/hello", sock + 1);
    worker.write(sock, RESPONSE);
    worker.exit(&request);
}

#[test]
fn the_first_request_of_a_connection_has_the_times_of_the_connection() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    for ordinal in 0..3 {
        serve(&mut worker, SOCK);
        let sent = worker.only();
        sent.check_times();
        assert_eq!(sent.conn.ordinal, ordinal);
        assert_eq!(sent.conn.accepted_ns != 0, ordinal == 0);
        assert_eq!(sent.conn.established_ns != 0, ordinal == 0);
        assert!(!sent.has(flags::ADOPTED));
    }
}

#[test]
fn a_connection_that_asks_for_its_peer_is_not_accepted_again() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    let accepted = worker.conn(SOCK).accepted_ns;
    worker.accept(SOCK);
    assert_eq!(worker.conn(SOCK).accepted_ns, accepted);
    worker.read(SOCK, HELLO);
    worker.accept(SOCK);
    assert_eq!(worker.conn(SOCK).phase, Phase::Reading as u16);
    let request = worker.enter_new("GET", "/hello", 1);
    worker.accept(SOCK);
    assert_eq!(worker.conn(SOCK).request, request.object);
}

#[test]
fn a_socket_that_is_accepted_again_is_a_new_connection() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    serve(&mut worker, SOCK);
    assert_eq!(worker.only().conn.ordinal, 0);
    worker.accept(SOCK);
    serve(&mut worker, SOCK);
    assert_eq!(worker.only().conn.ordinal, 0);
}

#[test]
fn a_closed_connection_is_forgotten_with_its_object() {
    let mut worker = Worker::new(Family::Async);
    worker.accept(SOCK);
    serve(&mut worker, SOCK);
    worker.only();
    worker.close(SOCK);
    worker.none();
    assert_eq!(worker.kernel.conn_count(), 0);
    // Another connection's object at the same address.
    worker.accept(SOCK + 64);
    worker.read(SOCK + 64, HELLO);
    worker.enter_new("GET", "/hello", SOCK + 1);
    assert_eq!(worker.conn(SOCK + 64).phase, Phase::Entered as u16);
}

#[test]
fn a_connection_that_is_closed_before_its_request_is_complete_sends_nothing() {
    let mut worker = Worker::new(Family::Sync);
    for bytes in [&b""[..], b"GET /hello HTTP/1.1\r\nHos"] {
        worker.accept(SOCK);
        if !bytes.is_empty() {
            worker.read(SOCK, bytes);
        }
        worker.close(SOCK);
        worker.none();
        assert_eq!(worker.kernel.conn_count(), 0);
    }
}

#[test]
fn a_connection_that_was_accepted_before_is_adopted_by_its_port() {
    let mut worker = Worker::new(Family::Gthread);
    worker.kernel.target.ports = [8000, 8001, 0, 0];
    worker
        .kernel
        .ports
        .extend([(SOCK, 8001), (SOCK + 64, 5432)]);
    worker.read(SOCK, b"not even a request");
    worker.read(SOCK + 64, HELLO);
    assert_eq!(worker.kernel.conn_count(), 1);
    let request = worker.enter_new("GET", "/hello", 1);
    worker.write(SOCK, RESPONSE);
    worker.exit(&request);
    let sent = worker.only();
    assert!(sent.has(flags::ADOPTED));
    assert_eq!((sent.conn.accepted_ns, sent.conn.established_ns), (0, 0));
    // Its later requests are like others.
    serve(&mut worker, SOCK);
    assert!(!worker.only().has(flags::ADOPTED));
}

#[test]
fn where_ports_are_unknown_a_connection_is_adopted_by_its_bytes() {
    for (ports, port) in [([0; MAX_PORTS], 8000), ([8000, 0, 0, 0], 0)] {
        let mut worker = Worker::new(Family::Sync);
        worker.kernel.target.ports = ports;
        worker
            .kernel
            .ports
            .extend([(SOCK, port), (SOCK + 64, port)]);
        worker.read(SOCK, b"+PONG\r\n\r\n");
        assert_eq!(worker.kernel.conn_count(), 0);
        worker.read(SOCK + 64, HELLO);
        assert_eq!(worker.kernel.conn_count(), 1);
    }
}

#[test]
fn a_socket_of_the_application_does_not_hide_the_connection() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    let request = worker.enter_new("GET", "/hello", 1);
    worker.read(0xdb00, b"a row of a database");
    worker.write(0xdb00, b"SELECT 1");
    worker.write(SOCK, RESPONSE);
    worker.exit(&request);
    let sent = worker.only();
    assert_eq!(sent.conn.request_bytes, HELLO.len() as u64);
    assert_eq!(sent.conn.response_bytes, RESPONSE.len() as u64);
}

#[test]
fn a_full_table_is_a_loss() {
    let mut worker = Worker::new(Family::Sync);
    for n in 0..64 {
        worker.accept(SOCK + n * 64);
    }
    assert_eq!(worker.count(Stat::ConnsFull), 0);
    worker.read(SOCK - 64, HELLO);
    assert_eq!(worker.count(Stat::ConnsFull), 1);
    // The request is not taken for one of another connection.
    worker.enter_new("GET", "/hello", 1);
    assert_eq!(worker.count(Stat::FlowWithoutConn), 1);
}

#[test]
fn connections_of_an_earlier_process_with_the_same_pid_are_unknown() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    worker.kernel.target.generation += 1;
    worker.write(SOCK, RESPONSE);
    worker.close(SOCK);
    worker.none();
    assert!(worker.kernel.conn_of(SOCK).is_none());
}

/// Where sockets report neither that they are accepted nor that they are closed.
mod without_closes {
    use super::*;

    fn worker() -> Worker {
        let mut worker = Worker::new(Family::Gthread);
        worker.kernel.target.ports = [8000, 0, 0, 0];
        worker.kernel.ports.insert(SOCK, 8000);
        worker
    }

    /// A new connection at the same `struct sock`.
    fn connect(worker: &mut Worker, identity: u32) -> u64 {
        let established = worker.kernel.clock.get();
        worker.kernel.births.insert(SOCK, (identity, established));
        established
    }

    #[test]
    fn a_connection_shows_when_it_was_established() {
        let mut worker = worker();
        let established = connect(&mut worker, 5);
        for ordinal in 0..2 {
            serve(&mut worker, SOCK);
            let sent = worker.only();
            sent.check_times();
            assert_eq!(sent.conn.ordinal, ordinal);
            let expected = if ordinal == 0 { established } else { 0 };
            assert_eq!(sent.conn.established_ns, expected);
            assert!(!sent.has(flags::ADOPTED));
        }
    }

    #[test]
    fn another_connection_at_the_same_address_is_distinguished() {
        let mut worker = worker();
        connect(&mut worker, 5);
        serve(&mut worker, SOCK);
        serve(&mut worker, SOCK);
        let established = connect(&mut worker, 6);
        serve(&mut worker, SOCK);
        let last = worker.sent()[2];
        assert_eq!(last.conn.ordinal, 0);
        assert_eq!(last.conn.established_ns, established);
    }

    #[test]
    fn a_head_that_was_cut_off_is_not_part_of_the_next_connection() {
        let mut worker = worker();
        connect(&mut worker, 5);
        serve(&mut worker, SOCK);
        worker.only();
        worker.read(SOCK, b"GET /cut HTTP/1.1\r\nHos");
        let established = connect(&mut worker, 6);
        serve(&mut worker, SOCK);
        let sent = worker.only();
        sent.check_times();
        assert_eq!(sent.conn.request_bytes, HELLO.len() as u64);
        assert_eq!(sent.conn.ordinal, 0);
        assert_eq!(sent.conn.established_ns, established);
    }

    #[test]
    fn a_request_without_an_answer_ends_when_the_next_connection_reads() {
        let mut worker = worker();
        connect(&mut worker, 5);
        worker.read(SOCK, HELLO);
        worker.enter_new("GET", "/reset", 1);
        connect(&mut worker, 6);
        serve(&mut worker, SOCK);
        let sent = worker.sent();
        assert_eq!(sent.len(), 2);
        assert_eq!(sent[0].line(), "GET /reset");
        assert_eq!(sent[0].conn.request_bytes, HELLO.len() as u64);
        assert_eq!(sent[1].line(), "GET /hello");
        assert_eq!(sent[1].conn.request_bytes, HELLO.len() as u64);
        assert!(!sent[1].has(flags::PIPELINED));
        assert_eq!(sent[1].conn.ordinal, 0);
    }
}

#[test]
fn what_accept_reported_is_kept() {
    let mut worker = Worker::new(Family::Sync);
    worker.kernel.births.insert(SOCK, (9, 0));
    worker.accept(SOCK);
    serve(&mut worker, SOCK);
    let sent = worker.only();
    sent.check_times();
    assert!(sent.conn.established_ns != 0 && sent.conn.accepted_ns != 0);
}

#[test]
fn a_record_names_the_thread_that_served_the_request() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.on(TGID + 3);
    serve(&mut worker, SOCK);
    let sent = worker.only();
    assert_eq!((sent.tid, sent.conn.tid), (TGID + 3, TGID + 3));
    assert_eq!(sent.origin, Origin::Python);
}
