//! Any requests on any connections, by turns as each worker class takes them, against an oracle that knows
//! what clients and the application did.

extern crate std;

use std::collections::{BTreeMap, VecDeque};
use std::string::{String, ToString as _};
use std::vec::Vec;
use std::{format, vec};

use proptest::collection::vec as some;
use proptest::prelude::*;

use super::worker::{Request, Worker};
use crate::abi::{Stat, flags};
use crate::gunicorn::Family;
use crate::machine::Origin;
use crate::machine::test_kernel::{Sent, TGID};

const POOL: [u32; 3] = [TGID + 1, TGID + 2, TGID + 3];
const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const PAGE: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\n\r\n<html>";
const FORGED: &[u8] = b"DELETE /forged HTTP/1.1\r\nHost: x\r\n\r\n";

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    /// The client leaves during the response.
    CutShort,
    /// An exception before the response.
    Raised,
    /// The same, before the first byte of the body.
    RaisedInBody,
    /// The client leaves before the error page.
    PageFails,
    /// An exception that nobody answers.
    Silent,
    /// The same, before the first byte of the body.
    SilentInBody,
    /// Gunicorn does not parse it.
    Refused,
}

#[derive(Clone, Debug)]
struct RequestPlan {
    method: &'static str,
    head_pieces: usize,
    /// Reads of its body after it entered.
    body: Vec<u16>,
    /// Reads of its body after its end; 0 for one that looks like a request.
    rest: Vec<u16>,
    /// Whether it comes with the one before, if that has no body.
    is_pipelined: bool,
    has_interim: bool,
    /// Bytes of each write after the head; 0 for one that has to be repeated.
    writes: Vec<u16>,
    outcome: Outcome,
}

#[derive(Clone, Debug)]
struct ConnectionPlan {
    /// Whether it was accepted before the process was observed.
    is_adopted: bool,
    requests: Vec<RequestPlan>,
    /// Whether the client leaves within another head.
    leaves_within_head: bool,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => Just(Outcome::Answered),
        1 => Just(Outcome::CutShort),
        1 => Just(Outcome::Raised),
        1 => Just(Outcome::RaisedInBody),
        1 => Just(Outcome::PageFails),
        1 => Just(Outcome::Silent),
        1 => Just(Outcome::SilentInBody),
        1 => Just(Outcome::Refused),
    ]
}

prop_compose! {
    fn request()(
        method in prop_oneof![Just("GET"), Just("POST"), Just("DELETE")],
        head_pieces in 1..4_usize,
        body in some(1..5000_u16, 0..3),
        rest in some(0..5000_u16, 0..3),
        is_pipelined in any::<bool>(),
        has_interim in any::<bool>(),
        writes in some(0..5000_u16, 0..4),
        outcome in outcome(),
    ) -> RequestPlan {
        let has_body = method == "POST";
        RequestPlan {
            method,
            head_pieces,
            body: if has_body { body } else { vec![] },
            rest: if has_body { rest } else { vec![] },
            is_pipelined,
            has_interim: has_interim && has_body,
            writes,
            outcome,
        }
    }
}

prop_compose! {
    fn connection(requests: usize)(
        is_adopted in prop::bool::weighted(0.2),
        requests in some(request(), 0..=requests),
        leaves_within_head in any::<bool>(),
    ) -> ConnectionPlan {
        ConnectionPlan { is_adopted, requests, leaves_within_head }
    }
}

/// What a worker does, in order.
#[derive(Clone, Debug)]
enum Step {
    Accept,
    /// A thread takes the connection.
    Take,
    Read(Vec<u8>),
    /// A read that completes a head: nothing yields between it and the next step.
    ReadHead(Vec<u8>),
    Enter(usize),
    Write(Vec<u8>),
    WriteFails(i64),
    Exit(usize),
    Fail(usize, u16),
    Refuse(usize),
    /// Gunicorn forgets the request.
    Drop(usize),
    /// The thread leaves the connection.
    Leave,
    Close,
}

/// What an ideal observer would say of a request.
#[derive(Clone, Debug)]
struct Expected {
    line: String,
    ordinal: u32,
    status: u16,
    request_bytes: u64,
    response_bytes: u64,
    flags: u16,
    is_refused: bool,
    /// Only the close of its connection ends it.
    needs_close: bool,
}

/// The steps of a connection, and the records of its requests.
fn script(number: usize, plan: &ConnectionPlan) -> (VecDeque<Step>, Vec<Expected>) {
    let mut steps = VecDeque::from([Step::Accept]);
    let mut all: Vec<Expected> = Vec::new();
    let is_with_last = |n: usize| {
        n > 0 && plan.requests[n].is_pipelined && {
            let last = &plan.requests[n - 1];
            last.body.is_empty() && last.rest.is_empty() && !last.has_interim
        }
    };
    let head = |n: usize| {
        let RequestPlan {
            method, outcome, ..
        } = plan.requests[n];
        let version = if outcome == Outcome::Refused {
            "?"
        } else {
            "HTTP/1.1"
        };
        format!("{method} /{number}/{n} {version}\r\nHost: example.org\r\n\r\n").into_bytes()
    };
    for (n, request) in plan.requests.iter().enumerate() {
        let is_pipelined = is_with_last(n);
        let is_refused = request.outcome == Outcome::Refused;
        let mut expected = Expected {
            line: format!("{} /{number}/{n}", request.method),
            ordinal: n as u32,
            status: 0,
            request_bytes: 0,
            response_bytes: 0,
            flags: if is_pipelined && !is_refused {
                flags::PIPELINED
            } else {
                0
            },
            is_refused,
            needs_close: false,
        };
        steps.push_back(Step::Take);
        if !is_pipelined {
            let mut bytes = head(n);
            let mut pieces: Vec<Vec<u8>> = bytes
                .chunks(bytes.len().div_ceil(request.head_pieces))
                .map(<[u8]>::to_vec)
                .collect();
            let mut last = pieces.pop().expect("a head");
            for next in n + 1..plan.requests.len() {
                if !is_with_last(next) {
                    break;
                }
                last.extend(head(next));
                bytes.extend(head(next));
            }
            expected.request_bytes = bytes.len() as u64;
            steps.extend(pieces.into_iter().map(Step::Read));
            steps.push_back(Step::ReadHead(last));
        }
        let is_last = serve(&mut steps, &mut expected, n, request);
        steps.push_back(Step::Drop(n));
        steps.push_back(Step::Leave);
        all.push(expected);
        if is_last {
            steps.push_back(Step::Close);
            return (steps, all);
        }
    }
    if plan.leaves_within_head {
        let cut = b"GET /cut HTTP/1.1\r\nHos".to_vec();
        steps.extend([Step::Take, Step::Read(cut), Step::Leave]);
    }
    steps.push_back(Step::Close);
    (steps, all)
}

/// The steps from the entry of a request to its end; whether its connection ends with it.
fn serve(
    steps: &mut VecDeque<Step>,
    expected: &mut Expected,
    n: usize,
    request: &RequestPlan,
) -> bool {
    let page = |steps: &mut VecDeque<Step>, expected: &mut Expected| {
        steps.push_back(Step::Write(PAGE.to_vec()));
        expected.status = 500;
        expected.response_bytes += PAGE.len() as u64;
    };
    if request.outcome == Outcome::Refused {
        steps.push_back(Step::Refuse(n));
        page(steps, expected);
        return true;
    }
    steps.push_back(Step::Enter(n));
    if request.has_interim {
        steps.push_back(Step::Write(INTERIM.to_vec()));
        expected.response_bytes += INTERIM.len() as u64;
    }
    for &len in &request.body {
        steps.push_back(Step::Read(vec![b'b'; len.into()]));
        expected.request_bytes += u64::from(len);
    }
    let failures = [Step::Fail(n, 0), Step::Fail(n, 500)];
    match request.outcome {
        Outcome::Answered | Outcome::CutShort => {
            let head = b"HTTP/1.1 200 OK\r\nServer: gunicorn\r\n\r\n".to_vec();
            expected.response_bytes += head.len() as u64;
            expected.status = 200;
            expected.flags |= flags::EXITED;
            steps.push_back(Step::Write(head));
            for &len in &request.writes {
                expected.response_bytes += u64::from(len);
                steps.push_back(match len {
                    0 => Step::WriteFails(11),
                    _ => Step::Write(vec![b'r'; len.into()]),
                });
            }
            let is_cut = request.outcome == Outcome::CutShort;
            if is_cut {
                steps.push_back(Step::WriteFails(32));
                expected.flags |= flags::WRITE_FAILED;
            }
            steps.push_back(Step::Exit(n));
            for &len in request.rest.iter().filter(|_| !is_cut) {
                steps.push_back(Step::Read(match len {
                    0 => FORGED.to_vec(),
                    _ => vec![b'b'; len.into()],
                }));
            }
            return is_cut;
        }
        Outcome::Raised => {
            steps.extend(failures);
            page(steps, expected);
            expected.flags |= flags::ERROR_HANDLED;
        }
        Outcome::RaisedInBody => {
            steps.push_back(Step::Exit(n));
            steps.extend(failures);
            page(steps, expected);
            expected.flags |= flags::ERROR_HANDLED | flags::EXITED;
        }
        Outcome::PageFails => {
            steps.extend(failures);
            steps.push_back(Step::WriteFails(104));
            expected.flags |= flags::ERROR_HANDLED | flags::WRITE_FAILED;
        }
        Outcome::Silent | Outcome::SilentInBody => {
            expected.flags |= flags::CLOSED;
            expected.needs_close = true;
            if request.outcome == Outcome::SilentInBody {
                steps.push_back(Step::Exit(n));
                expected.flags |= flags::EXITED;
            }
        }
        Outcome::Refused => unreachable!("handled above"),
    }
    true
}

/// Addresses, the last freed one first, as allocators give them out.
struct Addresses(Vec<u64>);

impl Addresses {
    fn new(start: u64) -> Self {
        Self((0..200).rev().map(|n| start + n * 64).collect())
    }

    fn take(&mut self) -> u64 {
        self.0.pop().expect("enough addresses")
    }

    fn free(&mut self, address: u64) {
        self.0.push(address);
    }
}

struct Connection {
    number: usize,
    steps: VecDeque<Step>,
    is_adopted: bool,
    sock: u64,
    client: u64,
    thread: Option<u32>,
    requests: BTreeMap<usize, Request>,
    plan: ConnectionPlan,
}

struct World {
    worker: Worker,
    family: Family,
    /// Whether sockets report that they are accepted and closed.
    sees_closes: bool,
    connections: Vec<Connection>,
    expected: Vec<Expected>,
    socks: Addresses,
    clients: Addresses,
    objects: Addresses,
    threads: Vec<u32>,
    births: u32,
}

impl World {
    fn new(family: Family, sees_closes: bool, plans: &[ConnectionPlan]) -> Self {
        let mut worker = Worker::new(family);
        worker.kernel.target.ports = [8000, 0, 0, 0];
        let mut expected = Vec::new();
        let scripts = plans.iter().enumerate().map(|(number, plan)| {
            let (mut steps, mut records) = script(number, plan);
            if plan.is_adopted {
                steps.pop_front();
                if let Some(first) = records.first_mut().filter(|_| sees_closes) {
                    first.flags |= flags::ADOPTED;
                }
            }
            expected.extend(records);
            Connection {
                number,
                steps,
                is_adopted: plan.is_adopted,
                sock: 0,
                client: 0,
                thread: None,
                requests: BTreeMap::new(),
                plan: plan.clone(),
            }
        });
        let connections = scripts.collect();
        Self {
            worker,
            family,
            sees_closes,
            connections,
            expected,
            socks: Addresses::new(0x9_0000),
            clients: Addresses::new(0x77_0000),
            objects: Addresses::new(0x88_0000),
            threads: POOL.to_vec(),
            births: 1,
        }
    }

    fn is_runnable(&self, at: usize) -> bool {
        match self.connections[at].steps.front() {
            None => false,
            Some(Step::Take) => self.family != Family::Gthread || !self.threads.is_empty(),
            Some(_) => {
                // A sync worker accepts the next connection when it has closed the last.
                self.family != Family::Sync
                    || self.connections[at].sock != 0
                    || self.connections.iter().all(|other| other.sock == 0)
            }
        }
    }

    fn run(&mut self, picks: &[u8]) {
        let mut picks = picks.iter().copied().cycle();
        loop {
            let runnable: Vec<usize> = (0..self.connections.len())
                .filter(|&at| self.is_runnable(at))
                .collect();
            if runnable.is_empty() {
                break;
            }
            let pick = picks.next().expect("endless");
            let at = runnable[usize::from(pick) % runnable.len()];
            while self.step(at) {}
        }
        assert!(self.connections.iter().all(|one| one.steps.is_empty()));
    }

    /// Does the next step of a connection; whether the one behind it has to follow at once.
    fn step(&mut self, at: usize) -> bool {
        let connection = &mut self.connections[at];
        if connection.sock == 0 {
            connection.sock = self.socks.take();
            connection.client = self.clients.take();
            self.births += 1;
            let sock = connection.sock;
            self.worker.kernel.ports.insert(sock, 8000);
            if !self.sees_closes {
                let birth = (self.births, self.worker.kernel.clock.get());
                self.worker.kernel.births.insert(sock, birth);
            }
        }
        let Connection {
            sock,
            client,
            number,
            ..
        } = *connection;
        let Some(step) = connection.steps.pop_front() else {
            return false;
        };
        let thread = connection.thread.unwrap_or(TGID);
        let worker = self.worker.on(thread);
        match step {
            Step::Accept if self.sees_closes => worker.accept(sock),
            Step::Accept => {}
            Step::Take => {
                if self.family == Family::Gthread {
                    connection.thread = self.threads.pop();
                }
            }
            Step::Leave => self.threads.extend(connection.thread.take()),
            Step::Read(bytes) => worker.read(sock, &bytes),
            Step::ReadHead(bytes) => {
                worker.read(sock, &bytes);
                return true;
            }
            Step::Enter(n) => {
                let method = connection.plan.requests[n].method;
                let mut request = worker.request(method, &format!("/{number}/{n}"), client);
                request.object = self.objects.take();
                if worker.enter(&request) {
                    worker.measure(&request, 0);
                }
                connection.requests.insert(n, request);
            }
            Step::Write(bytes) => worker.write(sock, &bytes),
            Step::WriteFails(errno) => worker.write_fails(sock, errno),
            Step::Exit(n) => worker.exit(&connection.requests[&n]),
            Step::Fail(n, status) => worker.fail(&connection.requests[&n], status),
            Step::Refuse(n) => {
                // A thread passes the socket, not the connection.
                let object = match self.family {
                    Family::Gthread => worker.socket(number as i32 + 10, sock),
                    _ => client,
                };
                worker.refuse(object, refusal(number, n), 400);
            }
            Step::Drop(n) => {
                if let Some(request) = connection.requests.remove(&n) {
                    self.objects.free(request.object);
                }
            }
            Step::Close => {
                if self.sees_closes {
                    worker.close(sock);
                }
                self.socks.free(sock);
                self.clients.free(client);
                connection.sock = 0;
            }
        }
        false
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let sent = self.worker.sent();
        let mut by_line: BTreeMap<String, Sent> = BTreeMap::new();
        for one in sent {
            one.check_times();
            let line = match one.origin {
                Origin::Refused => one.conn.refused_ns.to_string(),
                _ => one.line(),
            };
            let twice = by_line.insert(line, one);
            prop_assert!(twice.is_none(), "twice: {one:?}");
        }
        for expected in &self.expected {
            let name = if expected.is_refused {
                let mut numbers = expected.line.split('/').skip(1).map(|n| n.parse().unwrap());
                let (number, n) = (numbers.next().unwrap(), numbers.next().unwrap());
                refusal(number, n).to_string()
            } else {
                expected.line.clone()
            };
            match by_line.remove(&name) {
                // No close was seen, and no other connection came.
                None if expected.needs_close && !self.sees_closes => {}
                None => prop_assert!(false, "missing: {expected:?}"),
                Some(sent) => self.compare(expected, &sent)?,
            }
        }
        prop_assert!(by_line.is_empty(), "made up: {by_line:?}");
        for &(stat, name, is_loss) in Stat::ALL {
            prop_assert!(!is_loss || self.worker.count(stat) == 0, "{}", name);
        }
        if self.sees_closes {
            prop_assert_eq!(self.worker.kernel.conn_count(), 0);
        }
        Ok(())
    }

    fn compare(&self, expected: &Expected, sent: &Sent) -> Result<(), TestCaseError> {
        let origin = if expected.is_refused {
            Origin::Refused
        } else {
            Origin::Python
        };
        prop_assert_eq!(sent.origin, origin);
        let found = (
            sent.conn.ordinal,
            sent.conn.status,
            sent.conn.request_bytes,
            sent.conn.response_bytes,
            sent.conn.flags,
        );
        let wanted = (
            expected.ordinal,
            expected.status,
            expected.request_bytes,
            expected.response_bytes,
            expected.flags,
        );
        prop_assert_eq!(found, wanted, "{:?}, {:?}", expected, sent);
        let number = expected
            .line
            .split('/')
            .nth(1)
            .unwrap()
            .parse::<usize>()
            .unwrap();
        let is_adopted = self.connections[number].is_adopted;
        let is_accepted = expected.ordinal == 0 && self.sees_closes && !is_adopted;
        prop_assert_eq!(sent.conn.accepted_ns != 0, is_accepted);
        let is_established = expected.ordinal == 0 && !(self.sees_closes && is_adopted);
        prop_assert_eq!(sent.conn.established_ns != 0, is_established, "{:?}", sent);
        Ok(())
    }
}

/// Key of the exception for which a request is refused.
fn refusal(number: usize, n: usize) -> u64 {
    (number * 1000 + n + 1) as u64
}

fn observe(
    family: Family,
    sees_closes: bool,
    plans: &[ConnectionPlan],
    picks: &[u8],
) -> Result<(), TestCaseError> {
    let mut world = World::new(family, sees_closes, plans);
    world.run(picks);
    world.check()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn sync_workers_serve_a_request_a_connection(
        plans in some(connection(1), 1..6),
        sees_closes in any::<bool>(),
    ) {
        observe(Family::Sync, sees_closes, &plans, &[0])?;
    }

    #[test]
    fn threads_serve_connections_in_any_order(
        plans in some(connection(4), 1..6),
        sees_closes in any::<bool>(),
        picks in some(any::<u8>(), 1..60),
    ) {
        observe(Family::Gthread, sees_closes, &plans, &picks)?;
    }

    #[test]
    fn greenlets_serve_connections_by_turns(
        plans in some(connection(4), 1..6),
        sees_closes in any::<bool>(),
        picks in some(any::<u8>(), 1..60),
    ) {
        observe(Family::Async, sees_closes, &plans, &picks)?;
    }
}
