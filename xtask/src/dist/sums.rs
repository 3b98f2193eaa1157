//! `SHA256SUMS`, as `sha256sum --check` reads it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// Writes the checksums of these files of `folder` there.
pub fn write(folder: &Path, files: &[PathBuf]) -> Result<PathBuf> {
    let mut names: Vec<_> = files.iter().filter_map(|file| file.file_name()).collect();
    names.sort_unstable();
    let output = Command::new("sha256sum")
        .args(names)
        .current_dir(folder)
        .output()
        .context("cannot start sha256sum")?;
    ensure!(output.status.success(), "sha256sum: {output:?}");
    let sums = folder.join("SHA256SUMS");
    fs::write(&sums, output.stdout).with_context(|| format!("cannot write {}", sums.display()))?;
    Ok(sums)
}
