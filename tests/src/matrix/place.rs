//! Where `cargo xtask setup` has put the interpreters and packages of the matrix.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::product::{Cell, Interpreter, Source};
use crate::python::Python;

/// The folder of interpreters and packages.
#[derive(Clone, Debug)]
pub struct Place {
    folder: PathBuf,
}

impl Place {
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The folder that `cargo xtask test` names; without it, the one beside cargo's builds.
    pub fn find() -> Result<Self> {
        if let Some(folder) = env::var_os("GUNICORN_OBSERVER_MATRIX") {
            return Ok(Self::new(Path::new(&folder)));
        }
        let test = env::current_exe().context("cannot find the path of this test program")?;
        let target = test
            .ancestors()
            .nth(3)
            .context("this test program is not in a target folder")?;
        Ok(Self::new(&target.join("matrix")))
    }

    /// The top folder of an interpreter of this machine: a link to its installation.
    #[must_use]
    pub fn installed(&self, interpreter: Interpreter) -> PathBuf {
        self.folder.join("interpreters").join(interpreter.name)
    }

    /// The root that a suite of Debian is unpacked into.
    #[must_use]
    pub fn root(&self, suite: &str) -> PathBuf {
        self.folder.join("roots").join(suite)
    }

    /// Dependencies of Gunicorns, for a minor version of CPython.
    #[must_use]
    pub fn packages(&self, minor: u8) -> PathBuf {
        self.folder.join(format!("packages/python-3.{minor}"))
    }

    /// A Gunicorn, with packages that only it requires.
    #[must_use]
    pub fn gunicorn(&self, version: &str) -> PathBuf {
        self.folder.join(format!("packages/gunicorn-{version}"))
    }

    /// A set of frameworks.
    #[must_use]
    pub fn frameworks(&self, name: &str) -> PathBuf {
        self.folder.join("packages").join(name)
    }

    /// Whether this machine has it.
    #[must_use]
    pub fn has(&self, interpreter: Interpreter) -> bool {
        self.program(interpreter).is_ok()
    }

    /// The interpreter's file, and the root to run it in.
    fn program(&self, interpreter: Interpreter) -> Result<(PathBuf, Option<PathBuf>)> {
        let name = format!("python3.{}", interpreter.minor);
        let (program, root) = match interpreter.source {
            Source::Pyenv | Source::Host => {
                let installed = self.installed(interpreter);
                let prefix = fs::canonicalize(&installed)
                    .with_context(|| format!("no {}: `cargo xtask setup`", installed.display()))?;
                (prefix.join("bin").join(name), None)
            }
            Source::Suite(suite) => (Path::new("/usr/bin").join(name), Some(self.root(suite))),
        };
        let on_host = match &root {
            Some(root) => root.join(program.strip_prefix("/")?),
            None => program.clone(),
        };
        ensure!(
            on_host.exists(),
            "no {}: `cargo xtask setup`",
            on_host.display()
        );
        Ok((program, root))
    }

    /// The interpreter and Gunicorn of a cell.
    pub fn python(&self, cell: &Cell) -> Result<Python> {
        let (program, root) = self.program(cell.interpreter)?;
        let gunicorn = self.gunicorn(cell.gunicorn);
        let packages = self.packages(cell.interpreter.minor);
        for folder in [&gunicorn, &packages] {
            ensure!(
                folder.exists(),
                "no {}: `cargo xtask setup`",
                folder.display()
            );
        }
        let python = Python::new(program, &gunicorn, &packages);
        Ok(match root {
            Some(root) => python.in_root(&root),
            None => python,
        })
    }
}
