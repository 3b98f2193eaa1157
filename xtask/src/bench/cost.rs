//! The cost of being observed to a Gunicorn: of the observer, and of other monitoring, each against the
//! same Gunicorn bare.

mod beside;
mod observed;
mod tables;

use std::path::Path;

use anyhow::Result;
use end_to_end::gunicorn::Builder;

use super::{
    Effort, Measured, ab,
    hooks::Hooks,
    parts::{Meter, Parts},
    stand::{self, App, CLASSES, Probes, Served},
    traps::Traps,
};
use crate::{step::make_missing, workspace::Workspace};
use observed::Observed;

/// An application under a worker class, served by a Gunicorn that knows of nobody.
pub struct Bare {
    pub app: App,
    pub class: &'static str,
    pub served: Served,
    /// Of one window.
    pub requests: u32,
}

impl Bare {
    /// All of them, side by side.
    fn start_all(workspace: &Workspace, effort: &Effort) -> Result<Vec<Self>> {
        let apps = effort.apps.iter();
        let all = apps.flat_map(|&app| CLASSES.map(|class| (app, class)));
        all.map(|(app, class)| Self::start(workspace, app, class, effort))
            .collect()
    }

    pub fn start(
        workspace: &Workspace,
        app: App,
        class: &'static str,
        effort: &Effort,
    ) -> Result<Self> {
        let venv = stand::venv(workspace)?;
        let builder = stand::quiet(Builder::new(&venv, app.module()), class);
        let served = Served::start(&builder, "/")?;
        let requests = served.requests_in(effort.window_seconds)?;
        Ok(Self {
            app,
            class,
            served,
            requests,
        })
    }
}

/// The cost of the observer with these probes.
struct Cost {
    probes: Probes,
    /// Nanoseconds added to a round of each loop of a process that is not observed.
    loops_ns: Vec<(&'static str, f64)>,
    parts: Vec<Parts>,
    observed: Vec<Observed>,
}

impl Cost {
    fn measure(
        bare: &[Bare],
        binary: &Path,
        probes: Probes,
        (hooks, traps): (&Hooks, &Traps),
        effort: &Effort,
    ) -> Result<Self> {
        let masters: Vec<u32> = bare.iter().map(|bare| bare.served.master).collect();
        let observer = probes.start(binary, &masters)?;
        let meter = Meter::start(&observer, hooks, traps)?;
        let parts = bare.iter().map(|bare| {
            let requests = effort.counted_requests;
            let send = || bare.served.window(requests).map(drop);
            meter.requests(bare.served.worker, requests, send)
        });
        let parts = parts.collect::<Result<_>>()?;
        let loops_ns = meter.loops_ns.clone();
        drop(meter);
        observer.stop()?;
        Ok(Self {
            probes,
            loops_ns,
            parts,
            observed: observed::measure(bare, binary, probes, effort)?,
        })
    }
}

pub fn measure(workspace: &Workspace, effort: &Effort) -> Result<Measured> {
    make_missing(&[ab::AB, stand::ENVIRONMENT], workspace)?;
    let binary = workspace.build_observer()?;
    let hooks = Hooks::build(workspace, &binary)?;
    let traps = Traps::measure(workspace, &hooks, effort)?;
    let mut bare = Bare::start_all(workspace, effort)?;
    let of = |bare: &[Bare], probes| Cost::measure(bare, &binary, probes, (&hooks, &traps), effort);
    let full = of(&bare, Probes::Full)?;
    bare.retain(|bare| bare.app == App::Flask);
    let entry_exit = of(&bare, Probes::EntryExit)?;
    drop(bare);
    let beside = beside::measure(workspace, effort)?;
    let windows = full.observed.iter().chain(&entry_exit.observed);
    let raw = vec![
        ("cost-observed.csv", observed::csv(windows)),
        ("cost-peers.csv", beside::csv(&beside)),
    ];
    Ok(Measured {
        text: format!(
            "{}\n\n{}",
            stand::versions(workspace)?,
            tables::of(&full, &entry_exit, &beside, &traps, effort)
        ),
        raw,
        ..Measured::default()
    })
}
