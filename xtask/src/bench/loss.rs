//! What is lost when there are more requests than anybody could serve: each that was sent must have
//! been counted, or be counted as lost.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use end_to_end::{
    client::Request,
    compare::{self, Accounted},
    flood,
    gunicorn::Builder,
    load::Load,
    observer::Observer,
    process,
    venv::Venv,
};
use nix::sys::signal::Signal;

use crate::workspace::Workspace;

/// What is sent at a rate takes about this long.
const SECONDS: f64 = 5.0;
/// Times the rate that a Gunicorn serves.
const TIMES: [u32; 3] = [1, 10, 100];
/// While the observer stands still.
const MEANWHILE: usize = 100_000;

/// As a table.
pub fn measure(workspace: &Workspace) -> Result<String> {
    let binary = workspace.build_observer()?;
    let venvs = Venv::all_in(&workspace.venvs())?;
    let venv = venvs
        .first()
        .ok_or_else(|| anyhow::anyhow!("no environment is there"))?;
    let served = served(venv)?;
    let mut table = format!(
        "Two `sync` workers that answer `hello` served {served:.0} requests a second, with a client \
         beside them.\n\n\
         | requests | reached, a second | sent | counted | lost | runs skipped |\n|---|---|---|---|---|---|\n"
    );
    for times in TIMES {
        let rate = served * f64::from(times);
        let row = row(&binary, venv, &format!("{times} × as many"), |_, port| {
            flooded(port, requests(rate), Some(rate))
        })?;
        table.push_str(&row);
    }
    table.push_str(&row(&binary, venv, "as many as it can", |_, port| {
        flooded(port, 10 * MEANWHILE, None)
    })?);
    table.push_str(&row(
        &binary,
        venv,
        "while the observer stands still",
        |observer, port| {
            process::signal(observer, Signal::SIGSTOP)?;
            let sent = flooded(port, MEANWHILE, None);
            process::signal(observer, Signal::SIGCONT)?;
            sent
        },
    )?);
    Ok(table.trim_end().to_owned())
}

/// Requests a second that a Gunicorn serves here.
#[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
fn served(venv: &Venv) -> Result<f64> {
    let server = Builder::new(venv, "raw:app").workers(2).start()?;
    let mut rate = 0.0;
    // What is done once only is done before.
    for requests in [200, 4000] {
        let load = Load {
            requests,
            concurrency: 4,
            routes: vec![Request::get("/hello")],
        };
        let began = std::time::Instant::now();
        let tally = load.run(server.port);
        ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
        rate = requests as f64 / began.elapsed().as_secs_f64();
    }
    Ok(rate)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of requests, rounded down"
)]
fn requests(rate: f64) -> usize {
    (rate * SECONDS) as usize
}

fn flooded(port: u16, requests: usize, rate: Option<f64>) -> Result<(usize, Duration)> {
    Ok((requests, flood::send(port, requests, rate)?))
}

#[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
fn row(
    binary: &Path,
    venv: &Venv,
    what: &str,
    load: impl Fn(u32, u16) -> Result<(usize, Duration)>,
) -> Result<String> {
    let server = flood::server(venv)?;
    let observer = Observer::start(binary, false, &[server.pid()])?;
    let first = 100;
    flooded(server.port, first, None)?;
    observer.wait_for_requests(server.pid(), first)?;
    let (sent, took) = load(observer.pid(), server.port)?;
    let all = first + sent;
    let metrics = observer.wait_until("each request to be counted or lost", |metrics| {
        compare::all_counted_or_lost(metrics, all).is_ok()
    })?;
    let Accounted {
        counted,
        lost,
        skipped,
    } = compare::all_counted_or_lost(&metrics, all)?;
    observer.stop()?;
    let reached = sent as f64 / took.as_secs_f64();
    let counted = counted - first as f64;
    Ok(format!(
        "| {what} | {reached:.0} | {sent} | {counted} | {lost} | {skipped} |\n"
    ))
}
