//! `doctor`: whether `run` works here, and how each Python found can be observed.

mod kernel;
mod probes;
mod report;
mod text;

use super::written;
use crate::cli::DoctorArgs;
use crate::gunicorn::tree::Tree;
use crate::probe::preflight;
use anyhow::{Context as _, Result, bail};
use kernel::Kernel;
use report::{Report, Targets};
use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

/// Writes the checks, and what was found, to `out`.
///
/// # Errors
/// When `run` could not work here, or `out` cannot be written to.
pub fn run(args: &DoctorArgs, btf: Option<&Path>, out: &mut impl Write) -> Result<()> {
    let looked = preflight::look(btf);
    let kernel = looked.loaded.as_ref();
    let kernel = kernel.map(|loaded| Kernel::of(loaded, args.verbose));
    // Without, processes of others cannot be looked into.
    let targets = preflight::privileged().is_ok().then(targets).transpose()?;
    let report = Report::new(looked.checks, kernel, targets);
    let result = if args.json {
        write_json(&report, out)
    } else {
        text::write(&report, out)
    };
    written(result, "what was found")?;
    if report.works {
        return Ok(());
    }
    let failed = report.checks.iter().filter(|check| !check.ok);
    let failed: Vec<&str> = failed.map(|check| check.name).collect();
    bail!(
        "`run` cannot work here: {}; the cures are above",
        failed.join(", ")
    )
}

fn targets() -> Result<Targets> {
    let mut tree = Tree::of_host()?;
    let scan = tree
        .scan(HashSet::new())
        .context("cannot list processes; is /proc mounted?")?;
    let path = |pid| tree.interpreter_path(pid);
    Ok(Targets::of(&scan, path))
}

fn write_json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}
