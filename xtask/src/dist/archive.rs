//! Tarballs with the same bytes for every user and at every time.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::dist::{quietly_at, stage::Stage};

/// Packs the stage in a folder of this name, and its debug information apart; returns the files.
pub fn pack(stage: &Stage, name: &str, made_at: u64, output: &Path) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for (path, name) in [
        (&stage.root, name.to_owned()),
        (&stage.debug, format!("{name}-debug")),
    ] {
        let archive = output.join(format!("{name}.tar.gz"));
        let folder = path.parent().unwrap_or(Path::new("/"));
        let entry = path.file_name().unwrap_or_default();
        let mut tar = Command::new("tar");
        tar.args(["--create", "--format=ustar", "--sort=name"])
            .args(["--owner=root:0", "--group=root:0"])
            .arg(format!("--mtime=@{made_at}"))
            // No time and no name in gzip's header.
            .arg("--use-compress-program=gzip -n6");
        if path.is_dir() {
            let entry = entry.to_string_lossy();
            tar.arg(format!("--transform=flags=r;s,^{entry},{name},"));
        }
        tar.arg("--file")
            .arg(&archive)
            .arg("--directory")
            .arg(folder);
        quietly_at(made_at, tar.arg(entry))?;
        made.push(archive);
    }
    Ok(made)
}
