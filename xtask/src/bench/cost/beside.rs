//! Other exporters, each in a Gunicorn of its own beside a bare one: both run, and one at a time
//! is asked. Both are started several times.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use end_to_end::gunicorn::Builder;
use tempfile::TempDir;

use crate::{
    bench::{
        Effort, cpu,
        peers::{Peer, Sinks},
        spread::Spread,
        stand::{self, App, CLASSES, Served, Window},
    },
    workspace::Workspace,
};

/// One of them with one application under one worker class.
pub struct Beside {
    pub app: App,
    pub class: &'static str,
    /// None is the bare one.
    pub peer: Option<Peer>,
    /// Each with the one of the bare Gunicorn in the same round.
    windows: Vec<(Window, Window)>,
    pub worker_mib: f64,
}

pub fn measure(workspace: &Workspace, effort: &Effort) -> Result<Vec<Beside>> {
    let sinks = Sinks::open()?;
    let mut all = Vec::new();
    for &app in effort.apps {
        for class in CLASSES {
            println!("  {} under {class}, beside peers", app.name());
            all.extend(group(workspace, &sinks, (app, class), effort)?);
        }
    }
    Ok(all)
}

fn group(
    workspace: &Workspace,
    sinks: &Sinks,
    (app, class): (App, &'static str),
    effort: &Effort,
) -> Result<Vec<Beside>> {
    let venv = stand::venv(workspace)?;
    let peers = Peer::ALL.into_iter().filter(|peer| peer.is_for(app));
    let peers: Vec<Option<Peer>> = [None].into_iter().chain(peers.map(Some)).collect();
    let mut all: Vec<Beside> = peers
        .iter()
        .map(|&peer| Beside {
            app,
            class,
            peer,
            windows: Vec::new(),
            worker_mib: f64::NAN,
        })
        .collect();
    for _ in 0..effort.restarts {
        let folder = TempDir::new().context("no folder for what peers share")?;
        let mut served = Vec::new();
        for &peer in &peers {
            let builder = match peer {
                None => stand::quiet(Builder::new(&venv, app.module()), class),
                Some(peer) => {
                    let builder = peer.builder(&venv, (app, class), &folder, sinks)?;
                    stand::quiet(builder, class).class(peer.class(class))
                }
            };
            let what = || format!("{} with {}", app.name(), peer.map_or("nobody", Peer::name));
            served.push(Served::start(&builder, "/").with_context(what)?);
        }
        let requests = served[0].requests_in(effort.window_seconds)?;
        for round in 0..effort.rounds {
            let mut windows = vec![None; served.len()];
            for number in 0..served.len() {
                let number = (number + round) % served.len();
                windows[number] = Some(served[number].window(requests)?);
            }
            let windows: Vec<Window> = windows.into_iter().flatten().collect();
            for (beside, window) in all.iter_mut().zip(&windows) {
                beside.windows.push((*window, windows[0]));
            }
        }
        for (beside, served) in all.iter_mut().zip(&served) {
            beside.worker_mib = cpu::resident_mib(served.worker)?;
        }
    }
    Ok(all)
}

impl Beside {
    /// In terms of the bare one.
    pub fn ratio(&self, of: impl Fn(&Window) -> f64) -> Spread {
        Spread::of(
            self.windows
                .iter()
                .map(|(window, bare)| of(window) / of(bare)),
        )
    }

    /// How much more it is.
    pub fn added(&self, of: impl Fn(&Window) -> f64) -> Spread {
        Spread::of(
            self.windows
                .iter()
                .map(|(window, bare)| of(window) - of(bare)),
        )
    }
}

/// Every window.
pub fn csv(all: &[Beside]) -> String {
    let mut csv = "application,class,with,requests,requests_per_second,median_ms,p99_ms,\
                   worker_cpu_us_per_request\n"
        .to_owned();
    for beside in all {
        let (app, class) = (beside.app.name(), beside.class);
        let with = beside.peer.map_or("nobody", Peer::name);
        for (window, _) in &beside.windows {
            // Writing to a string cannot fail.
            let _ = writeln!(
                csv,
                "{app},{class},{with},{},{:.1},{:.3},{:.3},{:.2}",
                window.requests, window.per_second, window.median_ms, window.p99_ms, window.cpu_us
            );
        }
    }
    csv
}
