//! Requests that are answered.

use super::worker::Worker;
use crate::abi::{Phase, Stat, flags};
use crate::gunicorn::Family;
use crate::machine::test_kernel::{GENERATION, TGID};
use crate::machine::{Ended, Origin};

const SOCK: u64 = 0x9000;
const CLIENT: u64 = 0x77_0000;
const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";

#[test]
fn a_request_has_its_line_its_status_and_its_sizes() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    let request = worker.request("GET", "/hello", CLIENT);
    assert!(!worker.enter(&request), "its head came alone");
    worker.write(SOCK, OK);
    worker.write(SOCK, b"hello");
    worker.exit(&request);
    let sent = worker.only();
    sent.check_times();
    assert_eq!(sent.origin, Origin::Python);
    assert_eq!(sent.line(), "GET /hello");
    assert_eq!(sent.conn.status, 200);
    assert_eq!(sent.conn.request_bytes, HELLO.len() as u64);
    assert_eq!(sent.conn.request_head_bytes, HELLO.len() as u32);
    assert_eq!(sent.conn.response_bytes, OK.len() as u64 + 5);
    assert_eq!(sent.conn.response_head_bytes, OK.len() as u32);
    assert_eq!(sent.conn.flags, flags::EXITED);
    assert_eq!(sent.conn.family, Family::Sync as u16);
    worker.close(SOCK);
    worker.none();
}

/// Gunicorn answers in the version of the request, but its error pages are always those of HTTP/1.1.
#[test]
fn the_version_is_that_of_the_response_unless_it_is_an_error_page() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    for fails in [false, true] {
        worker.read(SOCK, b"GET /hello HTTP/1.0\r\n\r\n");
        let request = worker.enter_new("GET", "/hello", CLIENT);
        if fails {
            let version = Ended {
                version: 0x0100,
                ..Ended::default()
            };
            worker.exit_as(&request, version);
            worker.fail(&request, 500);
            worker.write(SOCK, b"HTTP/1.1 500 Internal Server Error\r\n\r\n");
        } else {
            worker.write(SOCK, b"HTTP/1.0 200 OK\r\n\r\n");
            worker.exit(&request);
        }
        assert_eq!(worker.only().conn.version, 0x0100);
    }
}

#[test]
fn a_head_in_pieces_counts_from_its_first_byte() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    for piece in HELLO.chunks(3) {
        worker.read(SOCK, piece);
    }
    let first_read = worker.conn(SOCK).first_read_ns;
    let request = worker.request("GET", "/hello", CLIENT);
    assert!(worker.enter(&request), "the pieces do not show its end");
    worker.measure(&request, 0);
    worker.write(SOCK, OK);
    worker.exit(&request);
    let sent = worker.only();
    sent.check_times();
    assert_eq!(sent.conn.first_read_ns, first_read);
    assert_eq!(sent.conn.request_bytes, HELLO.len() as u64);
    assert_eq!(sent.conn.request_head_bytes, HELLO.len() as u32);
}

#[test]
fn a_body_is_what_gunicorn_has_not_used_and_what_it_reads_later() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    worker.read(SOCK, b"POST /up HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc");
    let request = worker.request("POST", "/up", CLIENT);
    assert!(worker.enter(&request));
    worker.measure(&request, 3);
    worker.read(SOCK, b"defghi");
    worker.write(SOCK, OK);
    worker.exit(&request);
    let sent = worker.only();
    assert_eq!(sent.conn.request_bytes, 40 + 9);
    assert_eq!(sent.conn.request_head_bytes, 40);
}

#[test]
fn a_body_that_ends_like_a_head_is_no_head() {
    let bytes = b"POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.read(SOCK, bytes);
    let request = worker.request("POST", "/up", CLIENT);
    assert!(worker.enter(&request));
    worker.measure(&request, 13);
    worker.write(SOCK, OK);
    worker.exit(&request);
    let sent = worker.only();
    assert_eq!(sent.conn.request_head_bytes as usize, bytes.len() - 13);
    // Nor is the rest of it a request.
    worker.read(SOCK, b"the rest of the body, unread\r\n");
    assert_eq!(worker.conn(SOCK).phase, Phase::Idle as u16);
}

#[test]
fn an_interim_response_is_not_the_first_write() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.read(SOCK, b"POST /up HTTP/1.1\r\nExpect: 100-continue\r\n\r\n");
    let request = worker.enter_new("POST", "/up", CLIENT);
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    worker.write(SOCK, interim);
    assert_eq!(worker.conn(SOCK).first_write_ns, 0);
    worker.read(SOCK, b"body");
    worker.write(SOCK, OK);
    worker.write(SOCK, b"hello");
    worker.exit(&request);
    let sent = worker.only();
    sent.check_times();
    assert_eq!(sent.conn.status, 200);
    let head = (interim.len() + OK.len()) as u32;
    assert_eq!(sent.conn.response_head_bytes, head);
    assert_eq!(sent.conn.response_bytes, u64::from(head) + 5);
}

#[test]
fn a_connection_that_switches_protocols_has_that_status() {
    let mut worker = Worker::new(Family::Async);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    let request = worker.enter_new("GET", "/ws", CLIENT);
    worker.write(SOCK, b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
    worker.write(SOCK, b"a frame");
    worker.exit(&request);
    assert_eq!(worker.only().conn.status, 101);
}

#[test]
fn a_write_that_must_be_repeated_is_no_failure() {
    let mut worker = Worker::new(Family::Async);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    let request = worker.enter_new("GET", "/hello", CLIENT);
    worker.write_fails(SOCK, 11);
    worker.write_fails(SOCK, 4);
    worker.write(SOCK, OK);
    worker.write_fails(SOCK, 11);
    worker.exit(&request);
    let sent = worker.only();
    sent.check_times();
    assert!(!sent.has(flags::WRITE_FAILED));
}

#[test]
fn a_client_that_left_makes_writes_fail() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    let request = worker.enter_new("GET", "/hello", CLIENT);
    worker.write(SOCK, OK);
    worker.write_fails(SOCK, 32);
    worker.exit(&request);
    let sent = worker.only();
    assert!(sent.has(flags::WRITE_FAILED));
    assert_eq!(sent.conn.status, 200);
    assert_eq!(sent.conn.response_bytes, OK.len() as u64);
}

#[test]
fn requests_of_a_kept_connection_have_their_own_sizes() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    for (ordinal, tid) in [TGID + 1, TGID + 2, TGID + 1].into_iter().enumerate() {
        worker.on(tid);
        let path = ["/a", "/bb", "/ccc"][ordinal];
        let head = [b"GET ", path.as_bytes(), b" HTTP/1.1\r\n\r\n"].concat();
        worker.read(SOCK, &head);
        let request = worker.enter_new("GET", path, CLIENT);
        worker.write(SOCK, OK);
        worker.write(SOCK, path.as_bytes());
        worker.exit(&request);
        let sent = worker.only();
        sent.check_times();
        assert_eq!(sent.line().split_once(' ').unwrap().1, path);
        assert_eq!(sent.conn.ordinal as usize, ordinal);
        assert_eq!(sent.conn.request_bytes, head.len() as u64);
        assert_eq!(sent.conn.response_bytes, (OK.len() + path.len()) as u64);
        assert!(!sent.has(flags::PIPELINED));
    }
}

#[test]
fn a_pipelined_request_enters_without_a_read_in_any_thread() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.on(TGID + 1).read(SOCK, &HELLO.repeat(3));
    for (n, tid) in [TGID + 1, TGID + 2, TGID + 3].into_iter().enumerate() {
        // Another connection is what this thread read last.
        if n > 0 {
            worker.on(tid).accept(SOCK + 64 * n as u64);
            worker.read(SOCK + 64 * n as u64, HELLO);
        }
        let request = worker.on(tid).enter_new("GET", "/hello", CLIENT);
        worker.write(SOCK, OK);
        worker.exit(&request);
        let sent = worker.only();
        sent.check_times();
        assert_eq!(sent.conn.key.address, SOCK);
        assert_eq!(sent.conn.ordinal as usize, n);
        assert_eq!(sent.has(flags::PIPELINED), n > 0);
        assert_eq!(sent.conn.first_read_ns == 0, n > 0);
        let bytes = if n == 0 { 3 * HELLO.len() } else { 0 };
        assert_eq!(sent.conn.request_bytes, bytes as u64);
    }
}

#[test]
fn greenlets_share_a_thread() {
    let mut worker = Worker::new(Family::Async);
    let socks = [0x9000, 0x9040, 0x9080_u64];
    let requests = socks.map(|sock| {
        worker.accept(sock);
        worker.read(sock, HELLO);
        let path = ["/a", "/b", "/c"][(sock - 0x9000) as usize / 64];
        (sock, path, worker.enter_new("GET", path, sock + 1))
    });
    for (sock, _, _) in requests {
        worker.write(sock, OK);
    }
    for (sock, path, request) in requests {
        worker.write(sock, path.as_bytes());
        worker.exit(&request);
        let sent = worker.only();
        assert_eq!(sent.conn.key.address, sock);
        assert_eq!(sent.line().split_once(' ').unwrap().1, path);
        assert_eq!(sent.conn.response_bytes, OK.len() as u64 + 2);
    }
}

#[test]
fn an_unread_body_is_no_request_whatever_it_holds() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.read(
        SOCK,
        b"POST /hello HTTP/1.1\r\nContent-Length: 99\r\n\r\nzzz",
    );
    let request = worker.enter_new("POST", "/hello", CLIENT);
    worker.write(SOCK, OK);
    worker.exit(&request);
    worker.only();
    worker.read(SOCK, b"zzzzzzzzzzzzzzzzz");
    assert_eq!(worker.conn(SOCK).phase, Phase::Idle as u16);
    worker.read(SOCK, b"DELETE /forged HTTP/1.1\r\n\r\n");
    worker.read(SOCK, b"zzzzz");
    worker.read(SOCK, HELLO);
    let before = worker.kernel.clock.get();
    let request = worker.enter_new("GET", "/hello", CLIENT);
    worker.write(SOCK, OK);
    worker.exit(&request);
    let sent = worker.only();
    sent.check_times();
    assert_eq!(sent.line(), "GET /hello");
    assert_eq!(sent.conn.request_bytes, HELLO.len() as u64);
    assert_eq!(sent.conn.first_read_ns, before);
    // Nor where the connection is closed then.
    worker.read(SOCK, b"DELETE /forged HTTP/1.1\r\n\r\n");
    worker.close(SOCK);
    worker.none();
}

#[test]
fn a_request_with_a_rare_method_may_follow_an_unread_body() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.read(
        SOCK,
        b"POST /hello HTTP/1.1\r\nContent-Length: 99\r\n\r\nzzz",
    );
    let request = worker.enter_new("POST", "/hello", CLIENT);
    worker.write(SOCK, OK);
    worker.exit(&request);
    worker.only();
    worker.read(SOCK, b"zzzzzzzzzzzzzzzzz");
    let before = worker.kernel.clock.get();
    let purge = b"PURGE /hello HTTP/1.1\r\nHost: x\r\n\r\n";
    worker.read(SOCK, purge);
    let request = worker.enter_new("PURGE", "/hello", CLIENT);
    worker.write(SOCK, OK);
    worker.exit(&request);
    let sent = worker.only();
    sent.check_times();
    assert!(!sent.has(flags::PIPELINED) && sent.conn.first_read_ns > before);
    assert_eq!(sent.conn.request_bytes, purge.len() as u64);
}

#[test]
fn a_request_that_bypassed_its_end_ends_when_the_next_one_enters() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    worker.enter_new("GET", "/first", CLIENT);
    worker.write(SOCK, OK);
    let second = worker.enter_new("GET", "/second", CLIENT);
    assert_eq!(worker.count(Stat::FlowReplaced), 1);
    let sent = worker.only();
    sent.check_times();
    assert_eq!((&*sent.line(), sent.conn.status), ("GET /first", 200));
    assert!(!sent.has(flags::EXITED));
    worker.write(SOCK, OK);
    worker.exit(&second);
    let sent = worker.only();
    assert_eq!((&*sent.line(), sent.conn.ordinal), ("GET /second", 1));
    assert!(sent.has(flags::PIPELINED));
}

#[test]
fn an_end_without_a_beginning_is_counted() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    let request = worker.request("GET", "/hello", CLIENT);
    worker.exit(&request);
    assert_eq!(worker.count(Stat::ExitUnmatched), 1);
    worker.enter(&request);
    worker.write(SOCK, OK);
    worker.exit(&request);
    worker.exit(&request);
    assert_eq!(worker.count(Stat::ExitUnmatched), 2);
    worker.only();
}

#[test]
fn an_unreadable_request_matches_no_connection() {
    let mut worker = Worker::new(Family::Gthread);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    let mut request = worker.enter_new("GET", "/hello", CLIENT);
    worker.write(SOCK, OK);
    worker.exit(&request);
    worker.only();
    request.object = 0;
    let ended = Ended {
        status: 200,
        sent: 0,
        has_headers_sent: true,
        version: 0x0101,
    };
    worker.exit_as(&request, ended);
    worker.none();
    assert_eq!(worker.count(Stat::ExitUnmatched), 1);
}

#[test]
fn a_line_that_cannot_be_read_leaves_the_rest_of_the_request() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    let wide = worker.kernel.user.str_of(2, false, "/…".as_bytes());
    let mut request = worker.request("GET", "/", CLIENT);
    for path in [0, wide] {
        request.fields[1] = path;
        assert!(!worker.enter(&request));
    }
    assert_eq!(worker.count(Stat::LineUnreadable), 2);
    worker.write(SOCK, OK);
    worker.exit(&request);
    let last = *worker.sent().last().unwrap();
    assert_eq!((last.conn.status, last.conn.line_len), (200, 0));
}

#[test]
fn long_names_are_cut() {
    let mut worker = Worker::new(Family::Sync);
    worker.accept(SOCK);
    worker.read(SOCK, HELLO);
    let path = core::str::from_utf8(&[b'/'; 900]).unwrap();
    let request = worker.enter_new("EXTRAORDINARILYLONG", path, CLIENT);
    worker.write(SOCK, OK);
    worker.exit(&request);
    let line = worker.only().line();
    assert_eq!(
        line.split_once(' '),
        Some(("EXTRAORDINARILYL", &path[..240]))
    );
}

/// Requests whose connection is unknown, as where no socket is observed.
mod without_connection {
    use super::*;

    const ANSWERED: Ended = Ended {
        status: 201,
        sent: 12,
        has_headers_sent: true,
        version: 0x0101,
    };

    #[test]
    fn a_request_has_the_times_of_python_and_the_status_of_its_response() {
        for family in [Family::Sync, Family::Gthread, Family::Async] {
            let mut worker = Worker::new(family);
            let request = worker.enter_new("GET", "/hello", CLIENT);
            assert_eq!(worker.count(Stat::FlowWithoutConn), 1);
            worker.exit_as(&request, ANSWERED);
            let sent = worker.only();
            sent.check_times();
            assert!(sent.has(flags::NO_CONNECTION | flags::EXITED));
            assert_eq!((&*sent.line(), sent.conn.status), ("GET /hello", 201));
            assert_eq!(worker.kernel.conn_count(), 0);
        }
    }

    #[test]
    fn an_error_page_is_the_end_once_its_status_is_known() {
        let mut worker = Worker::new(Family::Sync);
        let request = worker.enter_new("GET", "/raises", CLIENT);
        worker.fail(&request, 0);
        worker.none();
        worker.fail(&request, 500);
        let sent = worker.only();
        assert!(sent.has(flags::ERROR_HANDLED));
        assert_eq!(sent.conn.status, 500);
        assert_eq!(worker.kernel.conn_count(), 0);
    }

    #[test]
    fn requests_of_several_threads_and_greenlets_are_distinguished() {
        let mut worker = Worker::new(Family::Async);
        let requests = ["/a", "/b", "/c"].map(|path| worker.enter_new("GET", path, CLIENT));
        for (request, line) in requests.iter().zip(["GET /a", "GET /b", "GET /c"]) {
            worker.exit_as(request, ANSWERED);
            assert_eq!(worker.only().line(), line);
        }
    }

    #[test]
    fn a_request_that_bypassed_its_end_ends_when_its_thread_serves_the_next() {
        for family in [Family::Sync, Family::Gthread] {
            let mut worker = Worker::new(family);
            worker.enter_new("GET", "/reset", CLIENT);
            worker.none();
            let next = worker.enter_new("GET", "/next", CLIENT);
            let sent = worker.only();
            sent.check_times();
            assert_eq!((&*sent.line(), sent.conn.status), ("GET /reset", 0));
            worker.exit_as(&next, ANSWERED);
            assert_eq!(worker.only().line(), "GET /next");
            assert_eq!(worker.kernel.conn_count(), 0);
        }
    }

    #[test]
    fn a_request_at_the_address_of_one_that_bypassed_its_end_is_another() {
        let mut worker = Worker::new(Family::Async);
        let mut request = worker.enter_new("GET", "/reset", CLIENT);
        worker.enter_new("GET", "/other", CLIENT);
        request.fields = worker.request("GET", "/next", CLIENT).fields;
        worker.enter(&request);
        assert_eq!(worker.only().line(), "GET /reset");
        worker.exit_as(&request, ANSWERED);
        assert_eq!(worker.only().line(), "GET /next");
    }

    #[test]
    fn a_request_read_before_the_process_was_a_target_is_left_out() {
        let mut worker = Worker::new(Family::Sync);
        worker.kernel.clock.set(GENERATION + 49_000_000);
        let request = worker.enter_new("GET", "/hello", CLIENT);
        assert_eq!(worker.count(Stat::FlowWithoutConn), 0);
        worker.exit_as(&request, ANSWERED);
        worker.none();
        assert_eq!(worker.count(Stat::ExitUnmatched), 1);
    }
}
