//! `doctor`: whether `run` works here, and how each Python found can be observed.

use super::shown;
use crate::app;
use crate::discover::tree::Coverage;
use crate::probe::preflight::{self, Check};
use anyhow::{Result, bail};
use std::collections::HashSet;
use std::io::Write;

/// Characters shown of what a process says of itself.
const TEXT_CHARS: usize = 300;

/// Writes the checks to `out`.
///
/// # Errors
/// When `run` could not work here, or `out` cannot be written to.
pub fn run(out: &mut impl Write) -> Result<()> {
    let checks = preflight::checks();
    for check in &checks {
        write_check(check, out)?;
    }
    if checks.iter().all(|check| check.ok) {
        write_targets(out)?;
        return Ok(());
    }
    let failed: Vec<&str> = checks
        .iter()
        .filter(|check| !check.ok)
        .map(|check| check.name)
        .collect();
    bail!(
        "`run` cannot work here: {}; the cures are above",
        failed.join(", ")
    )
}

fn write_check(check: &Check, out: &mut impl Write) -> std::io::Result<()> {
    let mark = if check.ok { "ok  " } else { "FAIL" };
    writeln!(out, "{mark}  {}: {}", check.name, check.found)?;
    if check.cure.is_empty() {
        return Ok(());
    }
    writeln!(out, "      cure: {}", check.cure)
}

fn write_targets(out: &mut impl Write) -> Result<()> {
    let scan = app::tree()?.scan(HashSet::new())?;
    if scan.masters.is_empty() && scan.refused.is_empty() {
        writeln!(out, "\nno Gunicorn master runs on this host now")?;
        return Ok(());
    }
    writeln!(out, "\nGunicorn masters:")?;
    for found in &scan.masters {
        let master = &found.master;
        let app = shown(&master.app, TEXT_CHARS);
        let (pid, python) = (master.pid, shown(&master.python_version, TEXT_CHARS));
        let (level, reason) = (found.coverage.level().as_str(), found.coverage.reason());
        let reason = match &found.coverage {
            Coverage::Full(_) if reason.is_empty() => format!("CPython {python}"),
            Coverage::Full(_) => format!("CPython {python}; {reason}"),
            Coverage::Socket(_) | Coverage::None(_) => shown(&reason, TEXT_CHARS),
        };
        writeln!(out, "{level:<6}  {pid} {app}: {reason}")?;
    }
    for (pid, reason) in &scan.refused {
        writeln!(out, "none    {pid}: {}", shown(reason, TEXT_CHARS))?;
    }
    Ok(())
}
