//! `cargo xtask bench`: measurements, printed and written to `docs/BENCHMARKS.md`.

mod report;

use std::{
    process::{Command, Stdio},
    str,
};

use anyhow::{Context as _, Result, bail};

use crate::{command, setup, workspace::Workspace};

/// Measures what the probes cost here, and writes it to docs/BENCHMARKS.md
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(value_enum)]
    part: Part,
    /// Interpreters to measure with, ROOT:PYTHON for one in a root folder of its own;
    /// those of target/venvs where none is named
    #[arg(value_name = "[ROOT:]PYTHON")]
    pythons: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A hit of the probe on `datetime.now` at the place that is chosen, and at one that the
    /// kernel single-steps
    Placement,
}

impl Part {
    /// Of the bench target of the observer, and of its part of the document.
    fn name(self) -> &'static str {
        match self {
            Self::Placement => "placement",
        }
    }
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let name = arguments.part.name();
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "loading probes needs root: run `sudo -E env \"PATH=$PATH\" cargo xtask bench {name}`"
        );
    }
    setup::make(workspace)?;
    let pythons = if arguments.pythons.is_empty() {
        environments(workspace)?
    } else {
        arguments.pythons.clone()
    };
    let measured = measure(workspace, name, &pythons)?;
    println!("{measured}");
    let file = workspace.root.join("docs/BENCHMARKS.md");
    report::write(&file, name, &measured)
}

/// The interpreters that set-up provides.
fn environments(workspace: &Workspace) -> Result<Vec<String>> {
    let venvs = end_to_end::venv::Venv::all_in(&workspace.venvs())?;
    let python = |venv: &end_to_end::venv::Venv| venv.program("python").display().to_string();
    Ok(venvs.iter().map(python).collect())
}

fn measure(workspace: &Workspace, name: &str, pythons: &[String]) -> Result<String> {
    let mut bench = Command::new("cargo");
    bench
        .args([
            "bench",
            "--package",
            "gunicorn-observer",
            "--bench",
            name,
            "--",
        ])
        .args(pythons)
        .current_dir(&workspace.root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    println!("  $ {}", command::shown(&bench));
    let output = bench.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`{}` failed: {}", command::shown(&bench), output.status);
    }
    let printed = str::from_utf8(&output.stdout).context("the bench printed no text")?;
    Ok(printed.trim().to_owned())
}
