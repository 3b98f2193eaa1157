//! What the observer counted and timed, against what Gunicorn logged of each request.

mod picture;

use std::{collections::HashMap, fmt::Write as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    access_log::Line,
    client::Request,
    compare,
    facts::Fact,
    gunicorn::{Builder, GunicornServer},
    load::Load,
    observer::Observer,
    venv::Venv,
};

use super::{Effort, Measured, spread::Spread, stand::CLASSES};
use crate::workspace::Workspace;

const WORKERS: usize = 2;
const CONNECTIONS: usize = 4;

/// Of one worker class.
struct Compared {
    class: &'static str,
    requests: usize,
    /// What the observer says a request took beyond what the access log says, in microseconds.
    errors_us: Vec<f64>,
    logged_us: Spread,
}

pub fn measure(workspace: &Workspace, effort: &Effort) -> Result<Measured> {
    let binary = workspace.build_observer()?;
    let venv = Venv::all_in(&workspace.venvs())?.remove(0);
    let compared = CLASSES
        .into_iter()
        .map(|class| compared(&binary, &venv, class, effort.logged_requests))
        .collect::<Result<Vec<_>>>()?;
    Ok(Measured {
        text: table(&compared),
        pictures: vec![("accuracy.svg", picture::drawn(&compared)?)],
        ..Measured::default()
    })
}

fn compared(binary: &Path, venv: &Venv, class: &'static str, requests: usize) -> Result<Compared> {
    let builder = Builder::new(venv, "bench.items:app")
        .class(class)
        .workers(WORKERS);
    let server = builder
        .threads(if class == "gthread" { CONNECTIONS } else { 1 })
        .start()?;
    let observer = Observer::start(binary, true, &[server.pid()])?;
    let load = Load {
        requests,
        concurrency: CONNECTIONS,
        // Each is another path, by which it is known again.
        routes: (0..requests)
            .map(|number| Request::get(&format!("/items/{number}")))
            .collect(),
    };
    let tally = load.run(server.port);
    ensure!(tally.failures.is_empty(), "{:?}", tally.failures.first());
    let logged = server.wait_for_access_log(requests)?;
    counts(&observer, &server, &logged).with_context(|| format!("{class}: counts"))?;
    let facts = observer.stop()?.requests()?;
    let errors_us = errors_us(&facts, &logged).with_context(|| class.to_owned())?;
    println!("  {class}: {requests} requests are counted as they were logged");
    Ok(Compared {
        class,
        requests,
        errors_us,
        logged_us: Spread::of(logged.iter().map(|line| line.duration_us as f64)),
    })
}

/// They must be equal: by worker, and nothing lost.
fn counts(observer: &Observer, server: &GunicornServer, logged: &[Line]) -> Result<()> {
    let metrics = observer.wait_for_requests(server.pid(), logged.len())?;
    compare::workers(&metrics, server, logged)?;
    compare::nothing_lost(&metrics)
}

/// The error of each duration. Each logged request must be recorded once, with its worker and
/// status.
fn errors_us(facts: &[Fact], logged: &[Line]) -> Result<Vec<f64>> {
    let key = |path: &str, pid: u32, status: u16| (path.to_owned(), pid, status);
    let mut recorded: HashMap<_, f64> = HashMap::new();
    for fact in facts {
        let path = fact.path.as_deref().context("a request without a path")?;
        let status = fact.status.context("a request without a status")?;
        let duration_ns = fact.duration_ns.context("a request without a duration")?;
        let earlier = recorded.insert(key(path, fact.pid, status), duration_ns as f64 / 1e3);
        ensure!(earlier.is_none(), "{path} is recorded twice");
    }
    ensure!(
        recorded.len() == logged.len(),
        "{} are recorded, {} logged",
        recorded.len(),
        logged.len()
    );
    let error = |line: &Line| {
        let recorded = recorded.get(&key(&line.path, line.pid, line.status));
        let recorded = recorded.with_context(|| format!("{line:?} is not recorded so"))?;
        Ok(recorded - line.duration_us as f64)
    };
    logged.iter().map(error).collect()
}

fn table(compared: &[Compared]) -> String {
    let requests: usize = compared.iter().map(|of| of.requests).sum();
    let mut text = format!(
        "{requests} requests, each with a path of its own, are counted as the access logs have them: \
         each once, for the right worker, with the right status. What the observer says a request \
         took, less what its line of the log says (`%(D)s`), in microseconds:\n\n\
         | class | requests | logged, µs | error: median | 1 % to 99 % | 0.1 % to 99.9 % | least and most |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for of in compared {
        let mut errors = of.errors_us.clone();
        errors.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let last = errors.len().saturating_sub(1) as f64;
            #[expect(clippy::cast_possible_truncation, reason = "an index of what is there")]
            let index = (last * part).round() as usize;
            errors.get(index).copied().unwrap_or(f64::NAN)
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.1} | {:.1} to {:.1} | {:.1} to {:.1} | {:.1}, {:.1} |",
            of.class,
            of.requests,
            of.logged_us,
            at(0.5),
            at(0.01),
            at(0.99),
            at(0.001),
            at(0.999),
            at(0.0),
            at(1.0),
        );
    }
    text.push_str("\n![How far durations are off, by worker class](images/accuracy.svg)");
    text
}
