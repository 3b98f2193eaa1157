//! `cargo xtask manifests`: the plain manifests of deploy/kubernetes, rendered from the chart.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use end_to_end::chart::{MANIFESTS, Tools};

use crate::{parts, step::make_missing, workspace::Workspace};

/// Render the Helm chart to deploy/kubernetes
#[derive(clap::Args)]
pub struct Arguments {
    /// Write nothing; exit with 1 if deploy/kubernetes is out of date
    #[arg(long)]
    check: bool,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    make_missing(parts::CHART, workspace)?;
    let rendered = Tools::in_folder(&workspace.kubernetes_folder()).manifests()?;
    if arguments.check {
        let present = fs::read_to_string(MANIFESTS).unwrap_or_default();
        ensure!(
            present == rendered,
            "deploy/kubernetes is not what the chart renders to: run `cargo xtask manifests`"
        );
        return Ok(());
    }
    fs::write(MANIFESTS, rendered).with_context(|| format!("cannot write {MANIFESTS}"))
}
