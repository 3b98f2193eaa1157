//! Skips what cannot be tested here, with a message; under CI that is a failure.

use std::{
    env,
    io::{self, Write as _},
};

use anyhow::{Result, ensure};

use crate::observer;

/// Prints the reason. Under CI that is an error.
pub fn unless_ci(reason: &str) -> Result<()> {
    let is_ci = env::var("CI").is_ok_and(|ci| ci == "true");
    ensure!(!is_ci, "skipped under CI: {reason}");
    // Not by `eprintln!`, which the test harness shows of failed tests only.
    let _ = writeln!(io::stderr(), "SKIPPED: {reason}");
    Ok(())
}

/// Whether the privileged tests cannot run here.
pub fn privileged() -> Result<bool> {
    let reason = if nix::unistd::geteuid().is_root() {
        match observer::binary() {
            Ok(_) => return Ok(false),
            Err(error) => format!("{error:#}"),
        }
    } else {
        "loading probes needs root: run `cargo xtask test privileged` as root".to_owned()
    };
    unless_ci(&reason).map(|()| true)
}
