//! What real workers did, event by event: see `machine/recorded/README.md`.

extern crate std;

use std::collections::BTreeMap;
use std::string::{String, ToString as _};
use std::vec::Vec;
use std::{format, println};

use super::worker::{Request, Worker};
use crate::abi::{Stat, flags};
use crate::gunicorn::Family;
use crate::machine::test_kernel::{START, Sent};
use crate::machine::{Ended, Origin};

macro_rules! recordings {
    ($($test:ident: $family:ident $file:literal,)+) => {$(
        #[test]
        fn $test() {
            replay_all(Family::$family, include_str!(concat!("../recorded/", $file, ".txt")));
        }
    )+};
}

recordings! {
    sync_23: Sync "sync-23.0.0",
    sync_27: Sync "sync-27.0.1",
    gthread_23: Gthread "gthread-23.0.0",
    gthread_27: Gthread "gthread-27.0.1",
    gevent_23: Async "gevent-23.0.0",
    gevent_27: Async "gevent-27.0.1",
}

fn replay_all(family: Family, text: &str) {
    let mut conversations = text.split("\n## ");
    conversations.next();
    for conversation in conversations {
        let (name, lines) = conversation.split_once('\n').expect("lines");
        println!("{name}");
        let mut replay = Replay::new(family, name.starts_with("TLS"));
        lines
            .lines()
            .filter(|line| !line.is_empty())
            .for_each(|line| replay.event(line));
        replay.check_end();
    }
}

/// A request, or what Gunicorn refused, as the recording shows it.
#[derive(Debug, Default)]
struct Seen {
    /// Empty if it was refused.
    line: String,
    /// The request's number.
    number: String,
    entered_us: u64,
    is_pipelined: bool,
    is_failed: bool,
    request_bytes: u64,
    response_bytes: u64,
    /// Whether a byte of its response was written.
    is_answered: bool,
    status: u16,
}

/// The bytes read on a connection since the last request ended, or since a request line.
#[derive(Default)]
struct Unused {
    bytes: u64,
    pieces: u32,
}

struct Replay {
    worker: Worker,
    is_tls: bool,
    /// The tests' own view of what is served, by connection.
    serving: BTreeMap<u64, Seen>,
    unused: BTreeMap<u64, Unused>,
    served: BTreeMap<u64, u32>,
    requests: BTreeMap<String, Request>,
}

impl Replay {
    fn new(family: Family, is_tls: bool) -> Self {
        let worker = if is_tls {
            Worker::tls(family)
        } else {
            Worker::new(family)
        };
        Self {
            worker,
            is_tls,
            serving: BTreeMap::new(),
            unused: BTreeMap::new(),
            served: BTreeMap::new(),
            requests: BTreeMap::new(),
        }
    }

    fn event(&mut self, line: &str) {
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().expect("a word");
        let us: u64 = word().parse().expect("a time");
        let thread: u32 = word().parse().expect("a thread");
        let (what, number) = (word(), word());
        let rest = words.next().unwrap_or_default();
        let connection: u64 = number.parse().expect("a connection");
        let sock = connection << 6;
        self.worker.kernel.clock.set(START + us * 1000);
        self.worker.on(thread);
        let ended = match what {
            "accept" => {
                self.worker.accept(sock);
                None
            }
            "read" => {
                self.read(sock, rest);
                None
            }
            "write" => self.write(sock, rest),
            "close" => {
                self.worker.close(sock);
                self.unused.remove(&sock);
                self.served.remove(&sock);
                self.serving.remove(&sock)
            }
            "enter" => {
                self.enter(sock, us, rest);
                None
            }
            "exit" => self.exit(sock, rest),
            "error" => {
                self.error(sock, rest);
                None
            }
            "shutdown" => None,
            _ => unreachable!("{line}"),
        };
        let sent = self.worker.sent();
        match (ended, &sent[..]) {
            (None, []) => {}
            (Some(seen), &[sent]) => self.check(sock, us, &seen, sent),
            (seen, sent) => panic!("{line}: {seen:#?}, {sent:#?}"),
        }
    }

    /// A result, and a first line.
    fn result(rest: &str) -> (i64, &str) {
        let (result, line) = rest.split_once(' ').unwrap_or((rest, ""));
        (result.parse().expect("a result"), line)
    }

    /// Bytes that begin with a line, if it is known.
    fn bytes(&self, len: i64, line: &str) -> Vec<u8> {
        let mut bytes = std::vec![b'u'; len as usize];
        if !line.is_empty() {
            bytes[..line.len()].copy_from_slice(line.as_bytes());
            bytes[line.len()..][..2].copy_from_slice(b"\r\n");
        }
        // The head of a request that has no body came alone, if it came whole.
        if line.starts_with("GET") && len > 30 {
            let at = bytes.len() - 4;
            bytes[at..].copy_from_slice(b"\r\n\r\n");
        }
        bytes
    }

    fn read(&mut self, sock: u64, rest: &str) {
        let (result, line) = Self::result(rest);
        if result <= 0 {
            if result == 0 {
                self.worker.read_end(sock);
            }
            return;
        }
        let bytes = self.bytes(result, line);
        self.worker.read(sock, &bytes);
        if let Some(seen) = self.serving.get_mut(&sock) {
            seen.request_bytes += result as u64;
        } else {
            let unused = self.unused.entry(sock).or_default();
            if !line.is_empty() {
                *unused = Unused::default();
            }
            unused.bytes += result as u64;
            unused.pieces += 1;
        }
    }

    fn write(&mut self, sock: u64, rest: &str) -> Option<Seen> {
        let (result, line) = Self::result(rest);
        if result > 0 {
            let bytes = self.bytes(result, line);
            self.worker.write(sock, &bytes);
        } else {
            self.worker.write_fails(sock, -result);
        }
        let seen = self.serving.get_mut(&sock)?;
        let is_first = !seen.is_answered;
        if result > 0 {
            seen.response_bytes += result as u64;
            let status = line
                .split(' ')
                .nth(1)
                .map_or(0, |status| status.parse().unwrap());
            if !(100..200).contains(&status) {
                seen.is_answered = true;
                seen.status = if is_first { status } else { seen.status };
            }
        }
        // An error page is one write.
        let is_last = seen.is_failed && is_first && seen.is_answered;
        if self.is_tls && is_last && !seen.line.is_empty() {
            seen.status = 500;
        }
        is_last.then(|| self.serving.remove(&sock))?
    }

    fn enter(&mut self, sock: u64, us: u64, rest: &str) {
        let (number, line) = rest.split_once(' ').expect("a request");
        let (method, path) = line.split_once(' ').expect("a path");
        let request = self.worker.enter_new(method, path, sock + 1);
        self.requests.insert(number.to_string(), request);
        let unused = self.unused.remove(&sock).unwrap_or_default();
        let seen = Seen {
            line: line.to_string(),
            number: number.to_string(),
            entered_us: us,
            is_pipelined: unused.pieces == 0,
            request_bytes: unused.bytes,
            ..Seen::default()
        };
        assert!(self.serving.insert(sock, seen).is_none());
    }

    fn exit(&mut self, sock: u64, rest: &str) -> Option<Seen> {
        let [number, status, sent]: [&str; 3] = rest
            .split(' ')
            .collect::<Vec<_>>()
            .try_into()
            .expect("three words");
        let seen = self.serving.get_mut(&sock).expect("a request");
        assert_eq!(seen.number, number);
        let ended = Ended {
            status: status.parse().unwrap_or(0),
            sent: sent.parse().unwrap_or(0),
            has_headers_sent: seen.is_answered,
            version: 0x0101,
        };
        if self.is_tls && seen.is_answered {
            seen.status = ended.status;
        }
        let is_answered = seen.is_answered;
        self.worker.exit_as(&self.requests[number], ended);
        is_answered.then(|| self.serving.remove(&sock))?
    }

    fn error(&mut self, sock: u64, rest: &str) {
        let (number, _) = rest.split_once(' ').expect("an exception");
        let Some(request) = self.requests.get(number) else {
            let unused = self.unused.remove(&sock).unwrap_or_default();
            self.worker.refuse(sock + 2, 5, 0);
            let seen = Seen {
                request_bytes: unused.bytes,
                is_failed: true,
                ..Seen::default()
            };
            self.serving.insert(sock, seen);
            return;
        };
        let seen = self.serving.get_mut(&sock).expect("a request");
        // Its status is chosen between its two calls.
        let status = if seen.is_failed { 500 } else { 0 };
        seen.is_failed = true;
        self.worker.fail(request, status);
    }

    fn check(&mut self, sock: u64, us: u64, seen: &Seen, sent: Sent) {
        let context = format!("{seen:#?}, {sent:#?}");
        sent.check_times();
        let conn = &sent.conn;
        assert_eq!(conn.key.address, sock, "{context}");
        assert_eq!(conn.status, seen.status, "{context}");
        assert_eq!(conn.request_bytes, seen.request_bytes, "{context}");
        assert_eq!(conn.response_bytes, seen.response_bytes, "{context}");
        assert_eq!(sent.has(flags::PIPELINED), seen.is_pipelined, "{context}");
        let ordinal = self.served.entry(sock).or_default();
        assert_eq!(conn.ordinal, *ordinal, "{context}");
        assert_eq!(conn.accepted_ns != 0, *ordinal == 0, "{context}");
        *ordinal += 1;
        if seen.line.is_empty() {
            assert_eq!(sent.origin, Origin::Refused, "{context}");
            return;
        }
        assert_eq!(sent.origin, Origin::Python, "{context}");
        assert_eq!(sent.line(), seen.line, "{context}");
        assert_eq!(
            (conn.entered_ns - START) / 1000,
            seen.entered_us,
            "{context}"
        );
        assert!((conn.exited_ns - START) / 1000 <= us, "{context}");
        if sent.has(flags::EXITED) && !seen.is_failed {
            assert_eq!((conn.exited_ns - START) / 1000, us, "{context}");
        }
    }

    /// Nothing is left, and nothing was lost.
    fn check_end(&self) {
        assert!(self.serving.is_empty(), "{:#?}", self.serving);
        assert_eq!(self.worker.kernel.conn_count(), 0);
        for &(stat, name, is_loss) in Stat::ALL {
            assert!(!is_loss || self.worker.count(stat) == 0, "{name}");
        }
    }
}
