//! The release files that `cargo xtask dist` makes of the program under test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::observer;

/// The time of the last commit, for reproducible files.
const MADE_AT: &str = "1700000000";
/// Kept there, as cargo's builds are.
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tested-dist");

pub struct Distribution {
    folder: PathBuf,
    /// Removes the folder if only we use it.
    _owned: Option<TempDir>,
}

impl Distribution {
    /// Files that are made once for all tests of a program.
    pub fn shared() -> Result<&'static Self> {
        static SHARED_ONE: OnceLock<Result<Distribution>> = OnceLock::new();
        let made = SHARED_ONE.get_or_init(|| {
            let folder = Path::new(SHARED);
            if folder.exists() {
                fs::remove_dir_all(folder).context("cannot remove an older distribution")?;
            }
            make(folder)?;
            Ok(Self {
                folder: SHARED.into(),
                _owned: None,
            })
        });
        made.as_ref().map_err(|error| anyhow!("{error:#}"))
    }

    /// Files that are made again.
    pub fn again() -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder for a distribution")?;
        make(folder.path())?;
        Ok(Self {
            folder: folder.path().to_owned(),
            _owned: Some(folder),
        })
    }

    /// The folder of the files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The only file with this ending.
    pub fn file(&self, end: &str) -> Result<PathBuf> {
        let entries = fs::read_dir(self.folder())?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let found: Vec<_> = paths
            .filter(|path| path.to_string_lossy().ends_with(end))
            .collect();
        ensure!(found.len() == 1, "files that end with {end}: {found:?}");
        Ok(found[0].clone())
    }

    /// The checksums beside the files.
    pub fn sums(&self) -> Result<String> {
        fs::read_to_string(self.file("SHA256SUMS")?).context("cannot read the checksums")
    }
}

fn make(folder: &Path) -> Result<()> {
    let xtask = env::var_os("GUNICORN_OBSERVER_XTASK")
        .context("GUNICORN_OBSERVER_XTASK is not set: run `cargo xtask test privileged`")?;
    let output = Command::new(xtask)
        .arg("dist")
        .arg("--binary")
        .arg(observer::binary()?)
        .arg("--output")
        .arg(folder)
        .env("SOURCE_DATE_EPOCH", MADE_AT)
        .stdin(Stdio::null())
        .output()
        .context("cannot start xtask")?;
    ensure!(output.status.success(), "dist: {output:?}");
    Ok(())
}
