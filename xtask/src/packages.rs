//! Debian packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};

use crate::command;

/// The command that installs `packages`.
pub fn fix(packages: &[&str]) -> String {
    format!("apt-get install {} (as root)", packages.join(" "))
}

/// Installs the newest version of `packages`: the lists of a new machine may have older ones than
/// required.
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
            fix(packages)
        );
    }
    update()?;
    apt(&["install", "-y", "--no-install-recommends"], packages)
}

/// Downloads the archive of a package to `folder`, and returns its path. Installs nothing.
pub fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    // Other users cannot update the lists.
    if nix::unistd::geteuid().is_root() {
        update()?;
    }
    // As ourselves: apt's own user may not write there.
    let arguments = ["-qq", "-oAPT::Sandbox::User=root", "download", package];
    command::quietly(Command::new("apt-get").args(arguments).current_dir(folder))?;
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get downloaded no {package}"))
}

/// Updates the lists once: those of a new machine may be too old.
fn update() -> Result<()> {
    static UPDATED: AtomicBool = AtomicBool::new(false);
    if UPDATED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    apt(&["update"], &[])
}

fn apt(arguments: &[&str], packages: &[&str]) -> Result<()> {
    command::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg("-qq")
            .args(arguments)
            .args(packages)
            // A page of unpacked packages; errors are on stderr.
            .stdout(Stdio::null()),
    )
}
