//! How many instructions the kernel's verifier walks for each program (needs
//! root): it refuses a program at one million. Kernels differ.
//!
//! `cargo run --release -p gunicorn-observer --example verifier`

use anyhow::Result;
use observer::probe::kernel::Types;
use observer::probe::{load, tracefs};
use std::io::Write as _;

fn main() -> Result<()> {
    tracefs::ensure()?;
    let ebpf = load::load(&Types::read(None)?)?.ebpf;
    let mut out = std::io::stdout().lock();
    let mut programs: Vec<_> = ebpf.programs().collect();
    programs.sort_unstable_by_key(|&(name, _)| name);
    for (name, program) in programs {
        let info = program.info()?;
        let walked = info.verified_instruction_count().unwrap_or_default();
        let size = info.size_jitted();
        writeln!(out, "{name:<20} {walked:>9} walked {size:>7} bytes")?;
    }
    Ok(())
}
