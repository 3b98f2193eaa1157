//! The program without its debug information, and that apart.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::command;

/// Leaves in `program` what runs, and in `debug` what a debugger wants beside it.
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
    // By its name and checksum, so that debuggers find it.
    let mut link = Command::new("objcopy");
    link.arg(format!("--add-gnu-debuglink={}", debug.display()));
    command::quietly(link.arg(program))
}
