//! `stack`: the Python stack of each thread and asyncio task of a process; loads no probe, stops
//! nothing.

use super::written;
use crate::cpython::files::Files;
use crate::gunicorn::thread_dump;
use crate::probe::preflight;
use anyhow::Result;
use std::io::Write;

/// Writes the stacks of a process to `out`.
///
/// # Errors
/// When the process cannot be read, or `out` cannot be written to.
pub fn run(pid: u32, json: bool, out: &mut impl Write) -> Result<()> {
    preflight::privileged()?;
    let dump = thread_dump::read(pid, &mut Files::default())?;
    let result = if json {
        thread_dump::write_json(&dump, out)
    } else {
        thread_dump::write_text(&dump, out)
    };
    written(result, "the stacks")
}
