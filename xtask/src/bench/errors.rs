//! What seeing exceptions costs: hits of the probes in a request that is answered well, in one
//! that fails, and during deep capture; and how long the programs run at a hit.

use anyhow::{Context as _, Result};
use end_to_end::{
    client::Request,
    errors::{
        case::STARTS_CAPTURE,
        framework::{FRAMEWORKS, STANDS, Stand},
    },
    kernel::RunTimes,
    load::Load,
    matrix::place::Place,
    metrics::Metrics,
};

use super::{
    Effort, ab,
    hooks::{Hooks, Kind},
    stand::{self, Probes},
    traps::Traps,
};
use crate::{step::make_missing, workspace::Workspace};

/// A program, and what it counts its hits as.
const PROGRAMS: [(&str, &str); 3] = [
    ("datetime_now", "python_hits"),
    ("exception_asked", "exception_hits"),
    ("deep_capture", "deep_capture_hits"),
];

/// Of one stand of each framework, as a table.
pub fn measure(workspace: &Workspace, effort: &Effort) -> Result<String> {
    make_missing(&[ab::AB, stand::ENVIRONMENT], workspace)?;
    let binary = workspace.build_observer()?;
    let traps = Traps::measure(workspace, &Hooks::build(workspace, &binary)?, effort)?;
    let empty_run_ns = traps.of_kind(Kind::Uprobe)?.empty_run_ns;
    let place = workspace.matrix();
    let _run_times = RunTimes::measured()?;
    let mut table = "| framework | a good request: hits of `datetime.now`, asking, going up | \
                     µs a hit of `datetime.now` | a 500: hits, asking | µs a hit | \
                     a 500 under deep capture: hits, going up | µs a hit |\n\
                     |---|---|---|---|---|---|---|\n"
        .to_owned();
    for framework in FRAMEWORKS {
        let mut stands = STANDS.iter().rev();
        let stand = stands.find(|stand| {
            let has = |stand: &Stand| Ok::<_, anyhow::Error>(place.has(stand.cell()?.interpreter));
            stand.framework == framework && has(stand).unwrap_or(false)
        });
        if let Some(stand) = stand {
            let row = row(
                &place,
                &binary,
                stand,
                empty_run_ns,
                effort.counted_requests,
            )
            .with_context(|| stand.to_string())?;
            table.push_str(&row);
        }
    }
    Ok(table.trim_end().to_owned())
}

fn row(
    place: &Place,
    binary: &std::path::Path,
    stand: &Stand,
    empty_run_ns: f64,
    good_requests: u32,
) -> Result<String> {
    let failing_requests = good_requests / 4;
    let installed = tempfile::TempDir::new().context("cannot make a folder for packages")?;
    let server = stand.server(place, installed.path())?.start()?;
    let master = server.pid();
    let observer = Probes::Full.start(binary, &[master])?;
    let mut sent = 0;
    let mut send = |path: &str, requests: u32| {
        let load = Load {
            requests: requests as usize,
            concurrency: 1,
            routes: vec![Request::get(path)],
        };
        let _ = load.run(server.port);
        sent += requests as usize;
        observer.wait_for_requests(master, sent)
    };
    // What is done once only is done before.
    let begin = send("/ok", 50)?;
    let end = send("/ok", good_requests)?;
    let good = Since::of(begin, end, good_requests);
    let (begin, end) = (send("/raises", 5)?, send("/raises", failing_requests)?);
    let failing = Since::of(begin, end, failing_requests);
    send(STARTS_CAPTURE, 1)?;
    let capturing = [("state", "looking")];
    observer.wait_until("deep capture", |metrics| {
        metrics.sum("gunicorn_observer_deep_capture", &capturing) > 0.0
    })?;
    let (begin, end) = (send("/raises", 5)?, send("/raises", failing_requests)?);
    let captured_500 = Since::of(begin, end, failing_requests);
    observer.stop()?;
    let [now, asked, captured] = PROGRAMS;
    let microseconds = |since: &Since, program| since.microseconds(program) - empty_run_ns / 1e3;
    Ok(format!(
        "| {stand} | {:.2}, {:.2}, {:.2} | {:.1} | {:.2} | {:.1} | {:.2} | {:.1} |\n",
        good.hits(now),
        good.hits(asked),
        good.hits(captured),
        microseconds(&good, now),
        failing.hits(asked),
        microseconds(&failing, asked),
        captured_500.hits(captured),
        microseconds(&captured_500, captured),
    ))
}

/// What happened between two scrapes, with so many requests.
struct Since {
    begin: Metrics,
    end: Metrics,
    requests: u32,
}

impl Since {
    fn of(begin: Metrics, end: Metrics, requests: u32) -> Self {
        Self {
            begin,
            end,
            requests,
        }
    }

    fn grown(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        self.end.sum(family, labels) - self.begin.sum(family, labels)
    }

    /// Hits of a program in a request.
    fn hits(&self, (_, kind): (&str, &str)) -> f64 {
        let hits = self.grown("gunicorn_observer_probe_hits_total", &[("kind", kind)]);
        hits / f64::from(self.requests)
    }

    /// How long a program runs at a hit.
    fn microseconds(&self, (program, _): (&str, &str)) -> f64 {
        let labels = [("program", program)];
        let seconds = self.grown("gunicorn_observer_program_run_seconds_total", &labels);
        seconds * 1e6 / self.grown("gunicorn_observer_program_runs_total", &labels)
    }
}
