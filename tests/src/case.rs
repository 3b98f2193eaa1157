//! One request, alone, and the record made of it.

use anyhow::{Context as _, Result, ensure};

use crate::{
    client::{self, Request},
    facts::Fact,
    gunicorn::{Builder, GunicornServer},
    observer::{self, Observer},
    venv::Venv,
    wait,
};

/// Requests to this path mark the end of a case.
const FENCE: &str = "/fence";

/// Starts one worker of this class with the bare application, observes it while `talk` talks to
/// it, and returns what `talk` returned and the records of the requests it made.
pub fn observe<T>(
    class: &str,
    talk: impl FnOnce(&GunicornServer) -> Result<T>,
) -> Result<(T, Vec<Fact>)> {
    observed(class, talk).with_context(|| format!("{class} worker"))
}

fn observed<T>(
    class: &str,
    talk: impl FnOnce(&GunicornServer) -> Result<T>,
) -> Result<(T, Vec<Fact>)> {
    let threads = if class == "gthread" { 2 } else { 1 };
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .class(class)
        .threads(threads)
        .start()?;
    let observer = Observer::record_for(&[server.pid()])?;
    let seen = talk(&server)?;

    // The fence comes after the case in the stream of events, so all before it has been told.
    let fence = client::fetch(
        server.port,
        &Request::get(FENCE).header("Connection", "close"),
    )?;
    ensure!(
        fence.status == 200,
        "the fence was answered {}",
        fence.status
    );
    observer.wait_until("the fence to be counted", |metrics| {
        metrics.sum(
            "http_server_request_duration_seconds_count",
            &[("http_route", FENCE)],
        ) > 0.0
    })?;
    let recording = observer.stop()?;
    let mut facts = observer::replay_requests(&recording.recording())?;
    facts.retain(|fact| fact.path.as_deref() != Some(FENCE));
    let workers: Vec<_> = facts.iter().map(|fact| fact.pid).collect();
    let ours = server.workers();
    ensure!(
        workers.iter().all(|pid| ours.contains(pid)),
        "workers {workers:?}, not {ours:?}"
    );
    Ok((seen, facts))
}

/// Waits until Gunicorn has logged a request to this path: it is done with it.
pub fn wait_until_logged(server: &GunicornServer, path: &str) -> Result<()> {
    wait::until(format!("{path} in the access log"), || {
        Ok(server
            .access_log()?
            .iter()
            .any(|line| line.path == path)
            .then_some(()))
    })
}

/// The one record of a case.
pub fn only(facts: &[Fact]) -> Result<&Fact> {
    ensure!(
        facts.len() == 1,
        "{} records, not one: {facts:#?}",
        facts.len()
    );
    Ok(&facts[0])
}
