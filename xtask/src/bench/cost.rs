//! The cost of being observed to a Gunicorn: the observer and other exporters, each against
//! the same Gunicorn bare.

mod beside;
pub mod observed;
pub mod parts;
mod tables;

use anyhow::Result;
use end_to_end::gunicorn::Builder;

use super::{
    Effort, Measured, ab,
    empty::Empty,
    stand::{self, App, CLASSES, Served},
};
use crate::{step::make_missing, workspace::Workspace};

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
        let all = App::ALL
            .iter()
            .flat_map(|&app| CLASSES.map(|class| (app, class)));
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

pub fn measure(workspace: &Workspace, effort: &Effort) -> Result<Measured> {
    make_missing(&[ab::AB, stand::ENVIRONMENT], workspace)?;
    let binary = workspace.build_observer()?;
    let empty = Empty::build(workspace)?;
    let traps = empty.traps()?;
    let bare = Bare::start_all(workspace, effort)?;
    let parts = parts::measure(&bare, &binary, (&empty, &traps), effort)?;
    let observed = observed::measure(&bare, &binary, effort)?;
    drop(bare);
    let beside = beside::measure(workspace, effort)?;
    Ok(Measured {
        text: format!(
            "{}\n\n{}",
            stand::versions(workspace)?,
            tables::of(&observed, &beside, &parts, &traps, effort)
        ),
        raw: vec![
            ("cost-observed.csv", observed::csv(&observed)),
            ("cost-peers.csv", beside::csv(&beside)),
        ],
        ..Measured::default()
    })
}
