//! How many instructions the kernel's verifier walks for each program (needs
//! root): it refuses a program at one million. Kernels differ.
//!
//! `cargo run --release -p gunicorn-observer --example verifier`

use anyhow::{Context as _, Result};
use observer::options::Probes;
use observer::probe::kernel::Types;
use observer::probe::{load, tracefs};
use std::io::Write as _;

fn main() -> Result<()> {
    tracefs::ensure()?;
    let mut programs = load::load(&Types::read(None)?, Probes::Full)?;
    programs.load_all();
    let mut out = std::io::stdout().lock();
    let mut names: Vec<_> = programs.loads().iter().map(|load| load.program).collect();
    names.sort_unstable();
    for name in names {
        let info = programs.info(name);
        let info = info.with_context(|| format!("the kernel rejected {name}"))?;
        let walked = info.walked().unwrap_or_default();
        writeln!(out, "{name:<20} {walked:>9} walked")?;
    }
    Ok(())
}
