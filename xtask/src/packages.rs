//! Debian packages.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::command;

/// The command that installs `packages`.
pub fn cure(packages: &[&str]) -> String {
    format!("apt-get install {} (as root)", packages.join(" "))
}

/// Installs `packages`, with fresh package lists if the present ones do not know them.
pub fn install(packages: &[&str]) -> Result<()> {
    if command::output("apt-get", &["--version"]).is_none() {
        bail!(
            "this machine has no apt-get, and only Debian is set up by this command: \
             install what these packages hold by its own means: {}",
            packages.join(" ")
        );
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "installing packages needs root: run `sudo {}`, then this again",
            cure(packages)
        );
    }
    if apt(&["install", "-y", "--no-install-recommends"], packages).is_ok() {
        return Ok(());
    }
    apt(&["update"], &[])?;
    apt(&["install", "-y", "--no-install-recommends"], packages)
}

fn apt(arguments: &[&str], packages: &[&str]) -> Result<()> {
    command::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg("-qq")
            .args(arguments)
            .args(packages)
            // A page of what it unpacks; what goes wrong is on stderr.
            .stdout(Stdio::null()),
    )
}
