//! The Debian package, which cargo-deb makes from `[package.metadata.deb]` in `observer/Cargo.toml`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    command,
    dist::{NAME, quietly_at},
    workspace::Workspace,
};

/// Makes the package from the stage, and returns its path.
pub fn package(workspace: &Workspace, made_at: u64, output: &Path) -> Result<PathBuf> {
    let mut deb = command::cargo();
    deb.args([
        "deb",
        "--package",
        NAME,
        "--no-build",
        "--no-strip",
        "--no-dbgsym",
    ])
    .arg("--output")
    .arg(output)
    .current_dir(&workspace.root);
    quietly_at(made_at, &mut deb)?;
    let entries =
        fs::read_dir(output).with_context(|| format!("cannot list {}", output.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("cargo-deb made no package")
}
