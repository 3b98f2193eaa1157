//! Python environments: the same pinned packages under each shape of interpreter.
//!
//! pyenv's interpreters keep CPython in a shared library with symbols; Debian's is one stripped
//! executable. The observer must find its way in both.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    command, interpreters, packages,
    step::{Check, Step},
    workspace::Workspace,
};

const REQUIREMENTS: &str = "tests/apps/requirements.txt";
pub const DEBIAN_PYTHON: &str = "/usr/bin/python3.11";
const DEBIAN_PACKAGES: &[&str] = &["python3.11", "python3.11-venv"];
/// Written last, so that an incomplete environment is made again.
const STAMP: &str = "made-from";

pub const INTERPRETER: Step = Step {
    name: "Debian's Python 3.11",
    why: "The tests observe Gunicorn under the distribution's own stripped interpreter.",
    check: |_| {
        // Debian keeps ensurepip in a package of its own; without it there is no pip in a venv.
        match command::output(
            DEBIAN_PYTHON,
            &["-c", "import ensurepip, sys; print(sys.version)"],
        ) {
            Some(version) => Check::Present(version),
            None => Check::missing(
                format!("{DEBIAN_PYTHON} with venv does not run"),
                packages::fix(DEBIAN_PACKAGES),
            ),
        }
    },
    make: Some(|_| packages::install(DEBIAN_PACKAGES)),
};

pub const ENVIRONMENTS: Step = Step {
    name: "Python environments",
    why: "The tests and the demo run a real Gunicorn with real worker classes.",
    check: |workspace| match stale(workspace) {
        Ok(stale) if stale.is_empty() => Check::Present(workspace.venvs().display().to_string()),
        Ok(stale) => Check::missing(
            format!(
                "not made from {REQUIREMENTS} as it is now: {}",
                names(&stale)
            ),
            "cargo xtask setup",
        ),
        Err(error) => Check::missing(format!("{error:#}"), "restore it from git"),
    },
    make: Some(|workspace| {
        stale(workspace)?
            .iter()
            .try_for_each(|venv| venv.make(workspace))
    }),
};

/// One environment that should exist.
pub struct Environment {
    pub name: &'static str,
    /// Where it is.
    pub folder: PathBuf,
    pub python: PathBuf,
    /// The file that names its packages.
    pub requirements: &'static str,
}

fn names(environments: &[Environment]) -> String {
    environments
        .iter()
        .map(|venv| venv.name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn wanted(workspace: &Workspace) -> Vec<Environment> {
    let environment = |name, python| Environment {
        name,
        folder: workspace.venvs(),
        python,
        requirements: REQUIREMENTS,
    };
    let mut wanted = vec![environment("debian-3.11", DEBIAN_PYTHON.into())];
    wanted.extend(
        interpreters::pyenv(11)
            .map(|installed| environment("pyenv-3.11", installed.join("bin/python3.11"))),
    );
    wanted
}

fn stale(workspace: &Workspace) -> Result<Vec<Environment>> {
    let mut stale = Vec::new();
    for environment in wanted(workspace) {
        if environment.is_stale(workspace)? {
            stale.push(environment);
        }
    }
    Ok(stale)
}

impl Environment {
    /// Everything the environment depends on.
    fn stamp(&self, workspace: &Workspace) -> Result<String> {
        let requirements = fs::read_to_string(workspace.root.join(self.requirements))
            .with_context(|| format!("cannot read {}", self.requirements))?;
        Ok(format!("{}\n{requirements}", self.python.display()))
    }

    /// Whether it is missing or out of date.
    pub fn is_stale(&self, workspace: &Workspace) -> Result<bool> {
        let stamp = fs::read_to_string(self.folder.join(self.name).join(STAMP));
        Ok(stamp.ok() != Some(self.stamp(workspace)?))
    }

    pub fn make(&self, workspace: &Workspace) -> Result<()> {
        let folder = self.folder.join(self.name);
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create {}", self.folder.display()))?;
        command::run(
            Command::new(&self.python)
                .args(["-m", "venv", "--clear"])
                .arg(&folder),
        )?;
        command::run(
            Command::new(folder.join("bin/python"))
                .current_dir(&workspace.root)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                ])
                .args(["--prefer-binary", "--requirement", self.requirements]),
        )?;
        let stamp = folder.join(STAMP);
        fs::write(&stamp, self.stamp(workspace)?)
            .with_context(|| format!("cannot write {}", stamp.display()))
    }
}
