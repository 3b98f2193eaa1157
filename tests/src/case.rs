//! Sends requests one after the other, and checks the records of each.

use anyhow::{Context as _, Result, ensure};

use crate::{
    backend::Backend,
    client::{Client, Place, Request},
    compare,
    facts::Fact,
    gunicorn::{Builder, GunicornServer},
    metrics::Metrics,
    observer::{self, Observer},
    response::Response,
    wait,
};

/// Requests to this path mark the end of a case.
const FENCE: &str = "/fence";

/// One worker with the bare application that cases are tried on, and the way to it.
pub struct Stand {
    name: String,
    builder: Builder,
    place: Box<dyn Fn(u16) -> Place>,
}

impl Stand {
    #[must_use]
    pub fn new(name: &str, builder: Builder, place: impl Fn(u16) -> Place + 'static) -> Self {
        Self {
            name: name.to_owned(),
            builder,
            place: Box::new(place),
        }
    }

    /// Tries cases with each backend. Each case returns the expected records of its requests; every
    /// failed case is named.
    pub fn try_all(&self, cases: &[(&str, Talk)]) -> Result<()> {
        let mut failed = Vec::new();
        for backend in observer::backends()? {
            let outcomes = self.outcomes(backend, cases);
            let outcomes = outcomes.with_context(|| format!("{}, {backend:?}", self.name))?;
            for ((case, _), outcome) in cases.iter().zip(outcomes) {
                if let Err(error) = outcome {
                    failed.push(format!("{}, {backend:?}: {case}: {error:#}", self.name));
                }
            }
        }
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    }

    fn outcomes(&self, backend: Backend, cases: &[(&str, Talk)]) -> Result<Vec<Result<()>>> {
        let mut session = Session::start(self, backend)?;
        let mut expected = Vec::new();
        for (name, talk) in cases {
            expected.push(talk(&session.at).with_context(|| (*name).to_owned())?);
            session.fence().with_context(|| format!("after: {name}"))?;
        }
        let is_encrypted = session.at.place.is_encrypted();
        let recorded = session.finish()?;
        ensure!(
            recorded.len() == expected.len(),
            "{} cases, {} fences recorded",
            expected.len(),
            recorded.len()
        );
        let pairs = expected.into_iter().zip(&recorded);
        Ok(pairs
            .map(|(expected, facts)| check(facts, &expected, is_encrypted))
            .collect())
    }
}

/// A server, and the way to it.
pub struct At {
    pub server: GunicornServer,
    pub place: Place,
}

impl At {
    pub fn connect(&self) -> Result<Client> {
        self.place.connect()
    }

    /// Reads the response, and waits until the worker is done with the request: until it is logged,
    /// and the connection closed if that was its last.
    pub fn exchange(
        &self,
        request: &Request,
        send: impl Fn(&mut Client) -> Result<()>,
    ) -> Result<Response> {
        let logged = self.server.access_log()?.len();
        let mut client = self.connect()?;
        send(&mut client)?;
        let response = client.response(&request.method)?;
        self.server.wait_for_access_log(logged + 1)?;
        if response.closes {
            client.wait_for_close()?;
        }
        Ok(response)
    }

    pub fn fetch(&self, request: &Request) -> Result<Response> {
        self.exchange(request, |client| client.ask(request))
    }
}

/// A worker, observed while cases are tried on it.
struct Session {
    at: At,
    observer: Observer,
    cases: usize,
}

impl Session {
    fn start(stand: &Stand, backend: Backend) -> Result<Self> {
        let server = stand.builder.start()?;
        let observer = Observer::record_by(backend, &[server.pid()])?;
        let place = (stand.place)(server.port);
        Ok(Self {
            at: At { server, place },
            observer,
            cases: 0,
        })
    }

    /// Ends a case with a request that separates its events from those of the next: Gunicorn logs the
    /// request after its record is made.
    fn fence(&mut self) -> Result<()> {
        let logged = self.at.server.access_log()?.len();
        let fence = Request::get(FENCE).header("Connection", "close");
        let answer = self.at.connect()?.request(&fence)?;
        ensure!(
            answer.status == 200,
            "the fence was answered {}",
            answer.status
        );
        self.cases += 1;
        self.at.server.wait_for_access_log(logged + 1)?;
        Ok(())
    }

    /// The records of each case.
    fn finish(self) -> Result<Vec<Vec<Fact>>> {
        let labels = [("http_route", FENCE)];
        let fences =
            |metrics: &Metrics| metrics.sum("http_server_request_duration_seconds_count", &labels);
        let waited = wait::until("each fence to be counted by its path", || {
            let metrics = self.observer.scrape()?;
            let is_all = fences(&metrics).to_string() == self.cases.to_string();
            Ok(is_all.then_some(metrics))
        });
        let metrics = waited.with_context(|| {
            let counted = self
                .observer
                .scrape()
                .map_or(f64::NAN, |metrics| fences(&metrics));
            format!("{counted} of {} are", self.cases)
        })?;
        compare::nothing_lost(&metrics)?;
        let recording = self.observer.stop()?;
        let facts = observer::replay_requests(&recording.recording())?;
        let ours = self.at.server.workers();
        ensure!(
            facts.iter().all(|fact| ours.contains(&fact.pid)),
            "not all of {ours:?}: {facts:#?}"
        );
        let is_fence = |fact: &Fact| fact.path.as_deref() == Some(FENCE);
        let mut cases: Vec<_> = facts.split(is_fence).map(<[Fact]>::to_vec).collect();
        let after = cases.pop().unwrap_or_default();
        ensure!(after.is_empty(), "records after the last fence: {after:#?}");
        Ok(cases)
    }
}

/// Talks to a server, and returns the expected records.
pub type Talk = Box<dyn Fn(&At) -> Result<Vec<Expected>>>;

/// An expected record, without the worker and the time, which differ between runs.
pub struct Expected {
    pub fact: Fact,
    /// Whether it entered the application.
    pub entered: bool,
    /// Only the server knows how much of the body it wrote: more than nothing, less than this.
    pub body_below: Option<u64>,
    /// Timing decides how much of the request's body was read: unknown, or less than this.
    pub upload_below: Option<u64>,
    /// Bytes of the bodies of request and response without the framing of chunks: what is seen where
    /// the wire is encrypted.
    pub data_bytes: [Option<u64>; 2],
    /// It came with the request before it: its first byte was read before.
    pub is_pipelined: bool,
}

impl Expected {
    #[must_use]
    pub fn exactly(fact: Fact) -> Self {
        Self {
            data_bytes: [fact.request_body_bytes, fact.response_body_bytes],
            fact,
            entered: true,
            body_below: None,
            upload_below: None,
            is_pipelined: false,
        }
    }

    /// The record of a request that went well.
    #[must_use]
    pub fn of(request: &Request, response: &Response) -> Self {
        let fact = Fact {
            method: Some(request.method.clone()),
            path: Some(request.path().to_owned()),
            status: Some(response.status),
            request_body_bytes: u64::try_from(request.body_bytes()).ok(),
            response_bytes: Some(response.bytes()),
            response_body_bytes: Some(response.body_bytes),
            ..Fact::default()
        };
        let data = [request.data_bytes(), response.body.len()];
        Self {
            data_bytes: data.map(|bytes| u64::try_from(bytes).ok()),
            ..Self::exactly(fact)
        }
    }

    /// The names of its phases, in the order of the alphabet.
    fn phases(&self) -> Vec<&'static str> {
        let is_first = self.fact.ordinal == 0;
        let is_answered = self.entered && self.fact.status.is_some();
        let phases = [
            ("app", is_answered),
            ("dispatch", is_first),
            ("queue", is_first),
            ("read", self.entered),
            ("write", self.fact.status.is_some()),
        ];
        let is_there = |(name, is_there): (&'static str, bool)| is_there.then_some(name);
        phases.into_iter().filter_map(is_there).collect()
    }
}

fn check(facts: &[Fact], expected: &[Expected], is_encrypted: bool) -> Result<()> {
    ensure!(
        facts.len() == expected.len(),
        "{} records, not {}: {facts:#?}",
        facts.len(),
        expected.len()
    );
    for (fact, expected) in facts.iter().zip(expected) {
        same(fact, expected, is_encrypted)?;
        let times = fact.times_ns();
        ensure!(times.is_sorted(), "not in order: {fact:#?}");
        // An error page is written after the application has failed.
        let is_last = |exit| fact.error_handled || times.last() <= Some(&exit);
        ensure!(fact.exited_ns.is_none_or(is_last), "not its end: {fact:#?}");
        let mut phases = fact.phases();
        let mut wanted = expected.phases();
        if expected.is_pipelined {
            phases.retain(|&phase| phase != "read");
            wanted.retain(|&phase| phase != "read");
        }
        if is_encrypted && fact.client_gone && fact.first_write_ns.is_none() {
            // The first piece was not sent, only that of the plain protocol was.
            wanted.retain(|phase| !["app", "write"].contains(phase));
        }
        ensure!(
            phases == wanted,
            "phases {phases:?}, not {wanted:?}: {fact:#?}"
        );
    }
    Ok(())
}

fn same(fact: &Fact, expected: &Expected, is_encrypted: bool) -> Result<()> {
    let mut wanted = expected.fact.clone();
    if is_encrypted {
        seen_through_tls(fact, expected, &mut wanted);
    }
    if let Some(below) = expected.body_below {
        let body = fact.response_body_bytes.unwrap_or(0);
        ensure!(body > 0 && body < below, "{body} bytes of the body");
        wanted.response_body_bytes = Some(body);
        if !is_encrypted {
            wanted.response_bytes = wanted.response_bytes.map(|head| head + body);
        }
    }
    if let Some(below) = expected.upload_below {
        let read = fact.request_body_bytes;
        // Python knows the length that the head announced.
        let is_known = |read| read < below || is_encrypted && read == below;
        ensure!(read.is_none_or(is_known), "{read:?} bytes read");
        wanted.request_body_bytes = read;
    }
    if wanted.bad_request && fact.method.is_some() {
        // Python has no method and no path of what it refused; the wire has.
        (wanted.method, wanted.path) = (fact.method.clone(), fact.path.clone());
    }
    let fixed = fact.timeless();
    ensure!(fact.timed_by == "python", "timed by the {}", fact.timed_by);
    ensure!(fixed == wanted, "{}", differences(&fixed, &wanted));
    ensure!(
        fact.entered_ns.is_some() == expected.entered,
        "it entered at {:?}",
        fact.entered_ns
    );
    ensure!(
        fact.duration_ns.is_some_and(|ns| ns > 0),
        "its duration is {:?}",
        fact.duration_ns
    );
    Ok(())
}

/// The bytes on the wire are others than those that Gunicorn writes: what remains is what Python has. That
/// is no framing of chunks, no page of an error, no status of a request that was refused, and no size of
/// what was not sent.
fn seen_through_tls(fact: &Fact, expected: &Expected, wanted: &mut Fact) {
    wanted.response_bytes = fact.response_bytes;
    let [upload, body] = expected.data_bytes;
    let is_chunked = wanted.request_body_bytes != upload;
    if fact.request_body_bytes == upload || is_chunked && fact.request_body_bytes.is_none() {
        wanted.request_body_bytes = fact.request_body_bytes;
    }
    let is_unsent = fact.client_gone && wanted.response_body_bytes == Some(0);
    let is_unseen = (fact.error_handled || is_unsent) && fact.response_body_bytes.is_none();
    if fact.response_body_bytes == body || is_unseen {
        wanted.response_body_bytes = fact.response_body_bytes;
    }
    if wanted.bad_request && fact.status.is_none() {
        wanted.status = None;
    }
}

/// The fields that differ, a line each.
fn differences(recorded: &Fact, expected: &Fact) -> String {
    // Options on one line.
    let fields = |fact: &Fact| format!("{fact:?}").replace(", ", "\n");
    let (recorded, expected) = (fields(recorded), fields(expected));
    let pairs = recorded.lines().zip(expected.lines());
    let differ = pairs.filter(|(recorded, expected)| recorded != expected);
    differ
        .map(|(recorded, expected)| format!("recorded {recorded}, expected {expected}"))
        .collect::<Vec<_>>()
        .join("; ")
}
