//! `cargo xtask test cost`: counts the observer's instructions, and compares them with earlier counts.
//!
//! Times vary on a busy machine; instructions are nearly the same each time. They depend on the
//! compiler, and for eBPF programs on the kernel's verifier: each count is compared only with one of
//! the same compiler, or of a kernel of the same series.

mod baseline;
mod count;

use anyhow::{Result, bail};

use crate::{ci::is_ci, workspace::Workspace};
use baseline::Baseline;

/// Beside this crate's manifest.
const FILE: &str = "xtask/cost.toml";

/// Counts, and compares or writes the counts.
pub fn run(workspace: &Workspace, write: bool) -> Result<()> {
    let file = workspace.root.join(FILE);
    let known = Baseline::read(&file)?;
    let mut now = Baseline {
        compiler: count::compiler()?,
        userspace: count::userspace(workspace)?,
        ..Baseline::default()
    };
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        let series = count::kernel_series()?;
        now.kernel.insert(series, count::programs(workspace)?);
    } else if is_ci() {
        bail!("loading programs needs root");
    } else {
        println!("  programs in the kernel NOT counted: loading them needs root");
    }
    if write {
        return known.renewed(now).write(&file);
    }
    let held = known.held(&now);
    for note in &held.notes {
        println!("  {note}");
    }
    if held.differences.is_empty() {
        println!("  {} counts are as in {FILE}", held.same);
        return Ok(());
    }
    for difference in &held.differences {
        println!("  {difference}");
    }
    bail!(
        "{} of {} counts differ from {FILE} by more than is accepted: if that is meant, \
         `cargo xtask test cost --write` accepts them; say in the commit why",
        held.differences.len(),
        held.differences.len() + held.same
    )
}
