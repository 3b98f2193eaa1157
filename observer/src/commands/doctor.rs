//! `doctor`: checks whether `run` works here and how closely each Python can be observed.

mod kernel;
mod probes;
mod report;
mod text;

use super::written;
use crate::cli::DoctorArgs;
use crate::config::Host;
use crate::gunicorn::tree::Tree;
use crate::probe::preflight;
use anyhow::{Context as _, Result, bail};
use kernel::Kernel;
use report::{Report, Targets};
use std::collections::HashSet;
use std::io::{self, Write};

/// Writes the checks, interpreters and masters to `out`.
///
/// # Errors
/// If `run` could not work here, or `out` cannot be written to.
pub fn run(args: &DoctorArgs, host: &Host, out: &mut impl Write) -> Result<()> {
    let preflight = preflight::check(host.btf.as_deref(), host.probes);
    let kernel = preflight.programs.as_ref();
    let kernel = kernel.map(|programs| Kernel::of(programs, args.verbose));
    // Other processes cannot be read without the privilege.
    let targets = preflight::privileged().is_ok().then(targets).transpose()?;
    let report = Report::new(preflight.checks, kernel, targets);
    let result = if args.json {
        write_json(&report, out)
    } else {
        text::write(&report, out)
    };
    written(result, "the report")?;
    if report.works {
        return Ok(());
    }
    let failed = report.checks.iter().filter(|check| !check.ok);
    let failed: Vec<&str> = failed.map(|check| check.name).collect();
    bail!(
        "`run` cannot work here: {}; each failed check has its fix",
        failed.join(", ")
    )
}

fn targets() -> Result<Targets> {
    let mut tree = Tree::of_host()?;
    let scan = tree
        .scan(HashSet::new())
        .context("failed to list processes; check that /proc is mounted")?;
    let path = |pid| tree.interpreter_path(pid);
    Ok(Targets::of(&scan, path))
}

fn write_json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}
