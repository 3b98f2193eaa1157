//! Garbage collections, compared with what the application measures itself by `gc.callbacks`.

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::Request,
    gunicorn::{Builder, GunicornServer},
    metrics::Metrics,
    observer::Observer,
    skip,
    venv::Venv,
};

const FAMILY: &str = "gunicorn_worker_gc_pause_seconds";
/// Collections of one request of `/collect`.
const ASKED: f64 = 10.0;

/// How many, and their seconds in all.
#[derive(Clone, Copy, Debug)]
struct Collections {
    count: f64,
    seconds: f64,
}

impl Collections {
    /// Those in the application's answer to `path`.
    fn measured(server: &GunicornServer, path: &str) -> Result<Self> {
        let response = server.fetch(&Request::get(path))?;
        let body = String::from_utf8(response.body)?;
        let (count, seconds) = body.split_once(' ').context("no two numbers")?;
        Ok(Self {
            count: count.parse()?,
            seconds: seconds.parse()?,
        })
    }

    fn observed(metrics: &Metrics, server: &GunicornServer) -> Self {
        let master = server.pid().to_string();
        let of = |what| metrics.sum(&format!("{FAMILY}_{what}"), &[("master_pid", &master)]);
        Self {
            count: of("count"),
            seconds: of("sum"),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            count: self.count - before.count,
            seconds: self.seconds - before.seconds,
        }
    }
}

#[test]
fn each_garbage_collection_is_counted_with_the_time_it_took() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for venv in Venv::all()? {
        let server = Builder::new(&venv, "waits:app").start()?;
        let observer = Observer::run_for(&[server.pid()])?;
        let before = Collections::measured(&server, "/collected")?;
        let observed_before = Collections::observed(&observer.scrape()?, &server);
        let measured = Collections::measured(&server, "/collect")?.since(before);
        let metrics = observer.wait_for_requests(server.pid(), 2)?;
        let observed = Collections::observed(&metrics, &server).since(observed_before);
        let both = format!(
            "{}: measured {measured:?}, observed {observed:?}",
            venv.name()
        );
        ensure!(measured.count >= ASKED, "{both}");
        ensure!(
            (measured.count..measured.count + ASKED).contains(&observed.count),
            "{both}"
        );
        // What measures from outside is no part of the one or the other.
        let ratio = observed.seconds / measured.seconds;
        ensure!((0.8..1.1).contains(&ratio), "{both}");
        observer.stop()?;
    }
    Ok(())
}

#[test]
fn without_a_collection_there_is_no_series() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let builder = Builder::new(&Venv::debian()?, "waits:app").variable("NO_GC", "1");
    let server = builder.start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    server.fetch(&Request::get("/idle"))?;
    let metrics = observer.wait_for_requests(server.pid(), 1)?;
    let series = format!("{FAMILY}_count");
    ensure!(metrics.all(&series, &[]).next().is_none(), "{metrics:#?}");
    observer.stop()?;
    Ok(())
}
