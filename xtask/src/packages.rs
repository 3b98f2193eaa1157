//! Debian packages.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use crate::command;

/// The command that installs `packages`.
pub fn cure(packages: &[&str]) -> String {
    format!("apt-get install {} (as root)", packages.join(" "))
}

/// Installs `packages`, in the newest version there is: what the lists on a new machine know may be
/// older than what is needed.
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
    static UPDATED: AtomicBool = AtomicBool::new(false);
    if !UPDATED.swap(true, Ordering::Relaxed) {
        apt(&["update"], &[])?;
    }
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
