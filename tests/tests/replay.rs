//! A recording, replayed without a probe, says what the observer said.

use anyhow::{Result, ensure};
use end_to_end::{
    client::Request,
    gunicorn::Builder,
    load::Load,
    observer::{self, Observer},
    venv::Venv,
};

#[test]
fn a_replay_ends_with_the_exposition_that_was_served_last() -> Result<()> {
    if observer::skip().is_some() {
        return Ok(());
    }
    let server = Builder::new(&Venv::debian()?, "shop:app")
        .workers(2)
        .start()?;
    let observer = Observer::record_for(&[server.pid()])?;
    let routes = ["/", "/products/7", "/checkout", "/crash", "/export"]
        .map(Request::get)
        .to_vec();
    let tally = Load {
        requests: 100,
        concurrency: 4,
        routes,
    }
    .run(server.port);
    ensure!(
        tally.failures.is_empty(),
        "requests failed: {:?}",
        tally.failures
    );
    observer.wait_for_requests(server.pid(), 100)?;
    let served = observer.scrape_text()?;
    let recording = observer.stop()?;
    let replayed = observer::replay(&recording.recording())?;
    let (served, settled) = (settled(&served), settled(&replayed));
    ensure!(!served.is_empty(), "nothing was served");
    for (served, replayed) in served.iter().zip(&settled) {
        ensure!(served == replayed, "served   {served}\nreplayed {replayed}");
    }
    ensure!(served.len() == settled.len(), "one is longer");
    let again = observer::replay(&recording.recording())?;
    ensure!(again == replayed, "two replays differ");
    Ok(())
}

/// The lines that only a request or a process changes. Stopping takes time, and the recording
/// goes on to the end of it: uptime and what the observer uses go on too.
fn settled(exposition: &str) -> Vec<&str> {
    let goes_on = ["gunicorn_worker_uptime_seconds", "gunicorn_observer_"];
    exposition
        .lines()
        .filter(|line| !goes_on.iter().any(|name| line.contains(name)))
        .collect()
}
