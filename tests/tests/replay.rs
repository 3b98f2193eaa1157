//! A replayed recording gives the exposition that the observer served.

use anyhow::{Result, ensure};
use end_to_end::{
    client::Request,
    gunicorn::Builder,
    load::Load,
    observer::{self, Observer},
    skip,
    venv::Venv,
};

#[test]
fn a_replay_is_the_exposition_that_was_served_last_byte_for_byte() -> Result<()> {
    if skip::privileged()? {
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
    ensure!(
        served.contains("gunicorn_worker_requests_total"),
        "nothing was served"
    );
    for (served, replayed) in served.lines().zip(replayed.lines()) {
        ensure!(served == replayed, "served   {served}\nreplayed {replayed}");
    }
    ensure!(served == replayed, "one is longer");
    Ok(())
}
