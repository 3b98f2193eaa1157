//! What `cargo xtask dist` makes of the program under test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::observer;

pub struct Distribution {
    folder: TempDir,
}

impl Distribution {
    /// As if its last commit had been made then.
    pub fn made_at(seconds: u64) -> Result<Self> {
        let xtask = env::var_os("GUNICORN_OBSERVER_XTASK")
            .context("GUNICORN_OBSERVER_XTASK is not set: run `cargo xtask test privileged`")?;
        let folder = TempDir::new().context("cannot make a folder for a distribution")?;
        let output = Command::new(xtask)
            .arg("dist")
            .arg("--binary")
            .arg(observer::binary()?)
            .arg("--output")
            .arg(folder.path())
            .env("SOURCE_DATE_EPOCH", seconds.to_string())
            .stdin(Stdio::null())
            .output()
            .context("cannot start xtask")?;
        ensure!(output.status.success(), "dist: {output:?}");
        Ok(Self { folder })
    }

    /// Where all of it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The one file whose name ends so.
    pub fn file(&self, end: &str) -> Result<PathBuf> {
        let entries = fs::read_dir(self.folder())?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let found: Vec<_> = paths
            .filter(|path| path.to_string_lossy().ends_with(end))
            .collect();
        ensure!(found.len() == 1, "files that end with {end}: {found:?}");
        Ok(found[0].clone())
    }

    /// Checksums of all, as written beside them.
    pub fn sums(&self) -> Result<String> {
        fs::read_to_string(self.file("SHA256SUMS")?).context("cannot read the checksums")
    }
}
