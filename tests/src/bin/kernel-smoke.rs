//! Tries under the running kernel what the observer reports, and prints what came of it as JSON;
//! fails if something is wrong.

use std::io::{self, Write as _};

use anyhow::{Result, ensure};

fn main() -> Result<()> {
    let report = end_to_end::smoke::run()?;
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &report)?;
    writeln!(out)?;
    ensure!(report.wrong.is_empty(), "{}", report.wrong.join("\n"));
    Ok(())
}
