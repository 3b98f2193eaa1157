//! `cargo xtask bench`: measurements, printed and written to `docs/BENCHMARKS.md`.

mod errors;
mod loss;
mod replay;
mod report;
mod scale;

use std::{
    process::{Command, Stdio},
    str,
};

use anyhow::{Context as _, Result, bail};
use end_to_end::matrix::product::{INTERPRETERS, Source};

use crate::{command, setup, workspace::Workspace};

/// Measures what the probes cost here, and writes it to docs/BENCHMARKS.md
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(value_enum)]
    part: Part,
    /// Interpreters to measure the placement with, ROOT:PYTHON for one in a root folder of its own;
    /// those of the test matrix where none is named
    #[arg(value_name = "[ROOT:]PYTHON")]
    pythons: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A hit of the probe on `datetime.now` at the place that is chosen, and at one that the
    /// kernel single-steps
    Placement,
    /// What seeing exceptions costs a request: hits of the probes, and time of a hit
    Errors,
    /// How many records the observer decodes and counts a second
    Replay,
    /// How costs grow with what is observed, up to a thousand workers for a day; draws a picture
    Scale,
    /// What is lost at a hundred times the requests that a Gunicorn serves
    Loss,
}

impl Part {
    /// Of its part of the document.
    fn name(self) -> &'static str {
        match self {
            Self::Placement => "placement",
            Self::Errors => "errors",
            Self::Replay => "replay",
            Self::Scale => "scale",
            Self::Loss => "loss",
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
    let measured = match arguments.part {
        Part::Placement if arguments.pythons.is_empty() => {
            printed_by(workspace, name, &interpreters(workspace))?
        }
        Part::Placement => printed_by(workspace, name, &arguments.pythons)?,
        Part::Errors => errors::measure(workspace)?,
        Part::Replay => replay::measure(workspace)?,
        Part::Scale => scale::measure(workspace)?,
        Part::Loss => loss::measure(workspace)?,
    };
    println!("{measured}");
    let file = workspace.root.join("docs/BENCHMARKS.md");
    report::write(&file, name, &measured)
}

/// The interpreters of the test matrix.
fn interpreters(workspace: &Workspace) -> Vec<String> {
    let place = workspace.matrix();
    let present = INTERPRETERS.into_iter().filter(|it| place.has(*it));
    present
        .map(|interpreter| {
            let minor = interpreter.minor;
            match interpreter.source {
                Source::Suite(suite) => {
                    format!("{}:/usr/bin/python3.{minor}", place.root(suite).display())
                }
                Source::Pyenv | Source::Host => {
                    let program = format!("bin/python3.{minor}");
                    place
                        .installed(interpreter)
                        .join(program)
                        .display()
                        .to_string()
                }
            }
        })
        .collect()
}

/// What a bench of the observer's prints.
fn printed_by(workspace: &Workspace, name: &str, arguments: &[String]) -> Result<String> {
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
        .args(arguments)
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
