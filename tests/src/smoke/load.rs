//! Many requests at once: what the kernel skipped of the programs, and what that cost.

use anyhow::{Result, ensure};

use super::stage::Stage;
use crate::{client::Request, load::Load, metrics::Metrics};

const REQUESTS: usize = 500;
const ALL: f64 = 500.0;
const COUNTED: &str = "http_server_request_duration_seconds_count";
const SKIPPED: &str = "gunicorn_observer_program_recursion_misses_total";

/// The compared metrics at one moment.
struct Seen {
    requests: f64,
    with_status: f64,
    skipped: f64,
    lost: f64,
}

impl Seen {
    fn of(metrics: &Metrics, class: &str) -> Self {
        let class = ("worker_class", class);
        let recursion = [("cause", "recursion")];
        Self {
            requests: metrics.sum(COUNTED, &[class]),
            with_status: metrics.sum(COUNTED, &[class, ("http_response_status_code", "200")]),
            skipped: metrics.sum(SKIPPED, &[]),
            lost: metrics.sum("gunicorn_observer_lost_total", &recursion),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            with_status: self.with_status - before.with_status,
            skipped: self.skipped - before.skipped,
            lost: self.lost - before.lost,
        }
    }
}

/// Sends requests of eight clients to the gthread worker. Every request is counted, and no more lack a
/// status than the observer reports as lost.
pub fn under_load(stage: &Stage) -> Result<String> {
    let class = stage.threads.worker_class();
    let now = || Ok::<_, anyhow::Error>(Seen::of(&stage.observer.scrape()?, class));
    let before = now()?;
    let load = Load {
        requests: REQUESTS,
        concurrency: 8,
        routes: vec![Request::get("/welcome")],
    };
    let tally = load.run(stage.threads.port);
    ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
    stage.expect(&stage.threads, COUNTED, &[], before.requests + ALL)?;
    let seen = now()?.since(&before);
    let missing = seen.requests - seen.with_status;
    let text = format!(
        "{} of {REQUESTS} counted, {missing} of them without a status; {} runs of programs skipped, \
         of which the observer calls {} lost",
        seen.requests, seen.skipped, seen.lost
    );
    ensure!(missing <= seen.lost, "{text}");
    Ok(text)
}
