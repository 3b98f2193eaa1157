//! The commands that are more than starting the daemon.

pub mod completions;
pub mod doctor;
pub mod list;
pub mod man;
pub mod replay;
pub mod stack;
mod table;

#[cfg(test)]
mod documented_fields;

use anyhow::{Context as _, Result};
use std::io;

/// The name of the program.
const PROGRAM: &str = "gunicorn-observer";

/// What came of writing `what` to stdout: that a reader such as `head` has seen enough is no
/// failure.
fn written(result: io::Result<()>, what: &str) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.with_context(|| format!("{what} cannot be written")),
    }
}
