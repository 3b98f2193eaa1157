//! Copies of an interpreter, to replace and remove.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{gunicorn::Builder, venv::Venv};

/// An interpreter in a folder of its own, with its library if it has one.
pub struct Copy {
    folder: TempDir,
    sources: Vec<PathBuf>,
    program: PathBuf,
}

impl Copy {
    /// Copies the interpreter of this environment under this name.
    pub fn new(venv: &Venv, name: &str) -> Result<Self> {
        let python = venv.program("python");
        let python = fs::canonicalize(&python)
            .with_context(|| format!("cannot find {}", python.display()))?;
        let beside = python.with_file_name("../lib");
        let library = fs::read_dir(&beside)
            .with_context(|| format!("cannot read {}", beside.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("libpython3.") && name.contains(".so.")
            });
        let folder = TempDir::new().context("cannot make a folder for an interpreter")?;
        let copy = Self {
            program: folder.path().join(name),
            sources: [python].into_iter().chain(library).collect(),
            folder,
        };
        copy.replace()?;
        Ok(copy)
    }

    /// Replaces its files, as an upgrade does: running processes keep the old ones.
    pub fn replace(&self) -> Result<()> {
        for (at, source) in self.sources.iter().enumerate() {
            let name = source
                .file_name()
                .context("an interpreter without a name")?;
            let place = match at {
                0 => self.program.clone(),
                _ => self.folder.path().join(name),
            };
            let new = place.with_extension("new");
            fs::copy(source, &new).with_context(|| format!("cannot copy {}", source.display()))?;
            fs::rename(&new, &place)
                .with_context(|| format!("cannot replace {}", place.display()))?;
        }
        Ok(())
    }

    /// Removes its files.
    pub fn remove(&self) -> Result<()> {
        for entry in fs::read_dir(self.folder.path())? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// Its path.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A Gunicorn that runs on it.
    #[must_use]
    pub fn gunicorn(&self, builder: Builder) -> Builder {
        let folder = self.folder.path().display().to_string();
        builder
            .interpreter(&self.program)
            .variable("LD_LIBRARY_PATH", &folder)
    }
}
