//! Sends requests one after the other, and checks the records of each.

use anyhow::{Context as _, Result, ensure};

use crate::{
    client::{self, Request},
    compare,
    facts::Fact,
    gunicorn::{Builder, GunicornServer},
    observer::{self, Observer},
    venv::Venv,
};

/// Requests to this path mark the end of a case.
const FENCE: &str = "/fence";

/// One worker with the bare application, observed while cases are tried on it.
pub struct Session {
    pub server: GunicornServer,
    observer: Observer,
    cases: usize,
}

impl Session {
    /// Starts a worker of this class and the observer.
    pub fn start(class: &str) -> Result<Self> {
        let threads = if class == "gthread" { 2 } else { 1 };
        let server = Builder::new(&Venv::debian()?, "raw:app")
            .class(class)
            .threads(threads)
            .start()?;
        let observer = Observer::record_for(&[server.pid()])?;
        Ok(Self {
            server,
            observer,
            cases: 0,
        })
    }

    /// Ends a case with a request that separates its events from those of the next: Gunicorn logs the
    /// request after its record is made.
    pub fn fence(&mut self) -> Result<()> {
        let logged = self.server.access_log()?.len();
        let fence = Request::get(FENCE).header("Connection", "close");
        let answer = client::fetch(self.server.port, &fence)?;
        ensure!(
            answer.status == 200,
            "the fence was answered {}",
            answer.status
        );
        self.cases += 1;
        self.server.wait_for_access_log(logged + 1)?;
        Ok(())
    }

    /// The records of each case.
    pub fn finish(self) -> Result<Vec<Vec<Fact>>> {
        let labels = [("http_route", FENCE)];
        let metrics = self
            .observer
            .wait_until("the fences to be counted", |metrics| {
                let fences = metrics.sum("http_server_request_duration_seconds_count", &labels);
                fences.to_string() == self.cases.to_string()
            })?;
        compare::nothing_lost(&metrics)?;
        let recording = self.observer.stop()?;
        let facts = observer::replay_requests(&recording.recording())?;
        let ours = self.server.workers();
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

/// Tries cases on one worker of this class. Each returns the expected records of its requests; every
/// failed case is named.
pub fn try_all<'a>(class: &str, cases: impl IntoIterator<Item = (&'a str, Talk)>) -> Result<()> {
    let mut session = Session::start(class)?;
    let mut expected = Vec::new();
    for (name, talk) in cases {
        expected.push((name, talk(&session.server)));
        session
            .fence()
            .with_context(|| format!("{class} worker, after: {name}"))?;
    }
    let recorded = session.finish()?;
    ensure!(
        recorded.len() == expected.len(),
        "{} cases, {} fences recorded",
        expected.len(),
        recorded.len()
    );
    let failed: Vec<_> = expected
        .into_iter()
        .zip(&recorded)
        .filter_map(|((name, expected), facts)| {
            let error = expected
                .and_then(|expected| check(facts, &expected))
                .err()?;
            Some(format!("{class} worker: {name}: {error:#}"))
        })
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Talks to a server, and returns the expected records.
pub type Talk = Box<dyn Fn(&GunicornServer) -> Result<Vec<Expected>>>;

/// An expected record, without the worker and the time, which differ between runs.
pub struct Expected {
    pub fact: Fact,
    /// Whether it entered the application.
    pub entered: bool,
    /// Only the server knows how much of the body it wrote: more than nothing, less than this.
    pub body_below: Option<u64>,
    /// Timing decides how much of the request's body was read: unknown, or less than this.
    pub upload_below: Option<u64>,
}

impl Expected {
    #[must_use]
    pub fn exactly(fact: Fact) -> Self {
        Self {
            fact,
            entered: true,
            body_below: None,
            upload_below: None,
        }
    }
}

fn check(facts: &[Fact], expected: &[Expected]) -> Result<()> {
    ensure!(
        facts.len() == expected.len(),
        "{} records, not {}: {facts:#?}",
        facts.len(),
        expected.len()
    );
    for (fact, expected) in facts.iter().zip(expected) {
        let mut wanted = expected.fact.clone();
        if let Some(below) = expected.body_below {
            let body = fact.response_body_bytes.unwrap_or(0);
            ensure!(body > 0 && body < below, "{body} bytes of the body");
            wanted.response_body_bytes = Some(body);
            wanted.response_bytes = wanted.response_bytes.map(|head| head + body);
        }
        if let Some(below) = expected.upload_below {
            let read = fact.request_body_bytes;
            ensure!(read.is_none_or(|read| read < below), "{read:?} bytes read");
            wanted.request_body_bytes = read;
        }
        let fixed = Fact {
            pid: 0,
            timed_by: String::new(),
            entered_ns: None,
            duration_ns: None,
            ..fact.clone()
        };
        ensure!(fact.timed_by == "python", "timed by the {}", fact.timed_by);
        ensure!(fixed == wanted, "recorded {fixed:#?}\nexpected {wanted:#?}");
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
    }
    Ok(())
}
