//! The privileged tests: each in a process of its own, some side by side.

pub mod plan;
mod run;

use std::{env, path::PathBuf};

use anyhow::{Result, bail};

use crate::{
    programs::{self, Program},
    tally::Tally,
    workspace::Workspace,
};

use self::plan::Extent;

const PACKAGE: &str = "end-to-end";

/// What the tests run.
pub struct Built {
    observer: PathBuf,
    programs: Vec<Program>,
}

pub fn build(workspace: &Workspace) -> Result<Built> {
    Ok(Built {
        observer: workspace.build_observer()?,
        programs: programs::build(workspace, &["--package", PACKAGE, "--test", "*"])?,
    })
}

/// Runs the tests whose name contains `filter`.
pub fn run(
    workspace: &Workspace,
    built: &Built,
    extent: Extent,
    filter: Option<&str>,
    tally: &mut Tally,
) -> Result<()> {
    let environment = [
        ("GUNICORN_OBSERVER_BIN", built.observer.clone()),
        ("GUNICORN_OBSERVER_VENVS", workspace.venvs()),
        ("GUNICORN_OBSERVER_MATRIX", workspace.matrix_folder()),
        ("GUNICORN_OBSERVER_PROMETHEUS", workspace.prometheus()),
        ("GUNICORN_OBSERVER_HELM", workspace.kubernetes_folder()),
        ("GUNICORN_OBSERVER_XTASK", env::current_exe()?),
        ("GUNICORN_OBSERVER_EXTENT", extent.name().into()),
    ];
    let tests = plan::tests(&built.programs, extent, filter)?;
    if let Some(filter) = filter
        && tests.is_empty()
    {
        bail!("no test has `{filter}` in its name");
    }
    if extent == Extent::Quick {
        plan::less().for_each(|line| println!("  {line}"));
    }
    run::all(tests, &environment, tally)
}
