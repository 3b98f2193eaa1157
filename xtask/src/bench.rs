//! `cargo xtask bench`: measurements, printed and written to `docs/BENCHMARKS.md`.

mod ab;
mod accuracy;
mod bystander;
mod cost;
mod cpu;
mod daemon;
mod effort;
mod errors;
mod hooks;
mod loops;
mod loss;
mod parts;
mod peers;
mod replay;
mod report;
mod scale;
mod spread;
mod stand;
mod traps;

use std::{process::Stdio, str, time::Instant};

use anyhow::{Context as _, Result, bail};
use end_to_end::matrix::product::{INTERPRETERS, Source};

use self::effort::Effort;
use crate::{command, parts as set_up, step::make_missing, workspace::Workspace};

/// Measure the overhead of the probes, and write docs/BENCHMARKS.md
#[derive(clap::Args)]
pub struct Arguments {
    /// Part to measure [default: all]
    #[arg(value_enum)]
    part: Option<Part>,
    #[command(flatten)]
    effort: effort::Options,
    /// Interpreters for `placement`, ROOT:PYTHON for one in a root of its own [default: the test
    /// matrix]
    #[arg(value_name = "[ROOT:]PYTHON")]
    pythons: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A hit of the probe on `datetime.now` at the chosen instruction, and at one that the kernel
    /// single-steps
    Placement,
    /// The overhead of exceptions to a request: probe hits, and time per hit
    Errors,
    /// Records decoded and counted per second
    Replay,
    /// Growth of costs up to a thousand workers for a day, as a picture
    Scale,
    /// Losses at a hundred times the throughput of a Gunicorn
    Loss,
    /// Overhead to an observed Gunicorn, added up and by turns, compared with other monitoring
    Cost,
    /// Overhead to processes that are not observed
    Bystander,
    /// CPU and memory of the observer's own process
    Daemon,
    /// Counts and durations compared with access logs
    Accuracy,
}

/// The result of a part.
#[derive(Default)]
struct Measured {
    /// Text for the document.
    text: String,
    /// Raw data: files for docs/benchmarks, and their contents.
    raw: Vec<(&'static str, String)>,
    /// Files for docs/images, and their contents.
    pictures: Vec<(&'static str, String)>,
}

impl From<String> for Measured {
    fn from(text: String) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }
}

impl Part {
    const ALL: [Self; 9] = [
        Self::Placement,
        Self::Errors,
        Self::Replay,
        Self::Scale,
        Self::Loss,
        Self::Cost,
        Self::Bystander,
        Self::Daemon,
        Self::Accuracy,
    ];

    /// Its name, also in the document.
    fn name(self) -> &'static str {
        match self {
            Self::Placement => "placement",
            Self::Errors => "errors",
            Self::Replay => "replay",
            Self::Scale => "scale",
            Self::Loss => "loss",
            Self::Cost => "cost",
            Self::Bystander => "bystander",
            Self::Daemon => "daemon",
            Self::Accuracy => "accuracy",
        }
    }
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("loading probes needs root: run `sudo -E env \"PATH=$PATH\" cargo xtask bench`");
    }
    make_missing(
        set_up::once(&[set_up::BUILD, set_up::RUN, set_up::MATRIX]),
        workspace,
    )?;
    let all = match arguments.part {
        Some(part) => vec![part],
        None => Part::ALL.to_vec(),
    };
    for part in all {
        let start = Instant::now();
        let measured = part
            .measure(workspace, arguments)
            .with_context(|| format!("the part {}", part.name()))?;
        println!("{}", measured.text);
        if arguments.effort.is_kept() {
            report::write(workspace, part.name(), &measured)?;
        }
        println!("{} took {} s", part.name(), start.elapsed().as_secs());
    }
    Ok(())
}

impl Part {
    fn measure(self, workspace: &Workspace, arguments: &Arguments) -> Result<Measured> {
        let effort = &arguments.effort.effort();
        Ok(match self {
            Self::Placement if arguments.pythons.is_empty() => {
                printed_by(workspace, self.name(), &interpreters(workspace))?.into()
            }
            Self::Placement => printed_by(workspace, self.name(), &arguments.pythons)?.into(),
            Self::Errors => errors::measure(workspace, effort)?.into(),
            Self::Replay => replay::measure(workspace)?.into(),
            Self::Scale => scale::measure(workspace)?.into(),
            Self::Loss => loss::measure(workspace)?.into(),
            Self::Cost => cost::measure(workspace, effort)?,
            Self::Bystander => bystander::measure(workspace, effort)?,
            Self::Daemon => daemon::measure(workspace, effort)?,
            Self::Accuracy => accuracy::measure(workspace, effort)?,
        })
    }
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

/// The output of one of the observer's benches.
fn printed_by(workspace: &Workspace, name: &str, arguments: &[String]) -> Result<String> {
    let mut bench = command::cargo();
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

#[cfg(test)]
mod tests {
    use super::Part;

    #[test]
    fn every_part_has_a_place_in_the_document() {
        let document = include_str!("../../docs/BENCHMARKS.md");
        for name in Part::ALL.map(Part::name) {
            for mark in [
                format!("<!-- {name} -->\n"),
                format!("<!-- end of {name} -->\n"),
            ] {
                assert!(document.contains(&mark), "{mark}");
            }
        }
    }
}
