//! The Python environments that `cargo xtask setup` makes.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::skip;

/// One Python environment with a real Gunicorn.
#[derive(Clone, Debug)]
pub struct Venv {
    folder: PathBuf,
}

/// One interpreter that is a stripped executable, and one that is a shared library.
const SHAPES: [&str; 2] = ["debian", "pyenv"];

impl Venv {
    /// One environment for each shape of interpreter. One that is not on this machine is skipped, and
    /// fails under CI.
    pub fn all() -> Result<Vec<Self>> {
        let all = Self::all_in(&folder()?)?;
        let mut found = Vec::new();
        for shape in SHAPES {
            match of_shape(&all, shape) {
                Some(venv) => found.push(venv),
                None => skip::unless_ci(&format!("no Python environment {shape}-*"))?,
            }
        }
        ensure!(!found.is_empty(), "no Python environment of a known shape");
        Ok(found)
    }

    /// Every environment in `folder`.
    pub fn all_in(folder: &Path) -> Result<Vec<Self>> {
        let fix = "run `cargo xtask setup`";
        let mut found: Vec<_> = fs::read_dir(folder)
            .with_context(|| format!("no Python environments in {}: {fix}", folder.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.join("bin/gunicorn").exists())
            .map(|folder| Self { folder })
            .collect();
        if found.is_empty() {
            bail!(
                "no Python environment in {} has Gunicorn: {fix}",
                folder.display()
            );
        }
        found.sort_by(|a, b| a.folder.cmp(&b.folder));
        Ok(found)
    }

    /// The one under Debian's own interpreter, which every machine that is set up has.
    pub fn debian() -> Result<Self> {
        of_shape(&Self::all_in(&folder()?)?, SHAPES[0])
            .context("no Python environment debian-*: run `cargo xtask setup`")
    }

    /// Its name, as in `debian-3.11`.
    #[must_use]
    pub fn name(&self) -> String {
        self.folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// A program of it.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }
}

impl Venv {
    /// Where its packages are.
    pub fn packages(&self) -> Result<PathBuf> {
        let lib = self.folder.join("lib");
        fs::read_dir(&lib)
            .with_context(|| format!("cannot read {}", lib.display()))?
            .filter_map(|entry| Some(entry.ok()?.path().join("site-packages")))
            .find(|path| path.is_dir())
            .with_context(|| format!("no packages in {}", lib.display()))
    }
}

fn of_shape(all: &[Venv], shape: &str) -> Option<Venv> {
    let is_of_it = |venv: &&Venv| venv.name().split('-').next() == Some(shape);
    all.iter().find(is_of_it).cloned()
}

/// `cargo xtask test` names the folder; without it, it is beside what cargo built.
fn folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("GUNICORN_OBSERVER_VENVS") {
        return Ok(folder.into());
    }
    let test = env::current_exe().context("cannot find the path of this test program")?;
    let target = test
        .ancestors()
        .nth(3)
        .context("this test program is not in a target folder")?;
    Ok(target.join("venvs"))
}
