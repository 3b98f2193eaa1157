//! Splits the program and its debug information.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::command;

/// Leaves the stripped program in `program`, and its debug information in `debug`.
pub fn split(built: &Path, program: &Path, debug: &Path) -> Result<()> {
    let objcopy = |arguments: &[&str], from: &Path, to: &Path| {
        command::quietly(Command::new("objcopy").args(arguments).arg(from).arg(to))
    };
    objcopy(
        &["--only-keep-debug", "--compress-debug-sections"],
        built,
        debug,
    )?;
    objcopy(&["--strip-all"], built, program)?;
    // Debuggers find it by its name and checksum.
    let mut link = Command::new("objcopy");
    link.arg(format!("--add-gnu-debuglink={}", debug.display()));
    command::quietly(link.arg(program))
}
