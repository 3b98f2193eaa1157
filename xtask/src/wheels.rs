//! The packages of the test matrix: one folder for each minor version of CPython, and one for each
//! Gunicorn, which is pure Python. A cell takes one of each. The applications of the
//! errors take a set of frameworks as well, a Gunicorn that serves HTTP/2 takes the packages for that, and
//! workers of Uvicorn take one of those.
//!
//! All are wheels, so one pip installs for every interpreter, also for those in other roots.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use end_to_end::{
    errors::framework::PACKAGES,
    matrix::product::{GUNICORNS, HTTP2, INTERPRETERS, UVICORNS},
};

use crate::{
    command,
    step::{Check, Step},
    workspace::Workspace,
};

const FOLDER: &str = "tests/apps/matrix";
/// The pip of the environment that every machine has.
const PIP: &str = "debian-3.11/bin/pip";
/// Tags of platforms that the oldest of the interpreters' C libraries, glibc 2.31, can load
/// (PEP 600), newest first.
const PLATFORMS: [&str; 4] = [
    "manylinux_2_28",
    "manylinux_2_24",
    "manylinux_2_17",
    "manylinux2014",
];

/// Later minor versions have the requirements of this one.
const LAST: u8 = 11;

pub const WHEELS: Step = Step {
    name: "packages of the test matrix",
    why: "The tests run each Gunicorn under each CPython, and each framework under some.",
    check: |workspace| match stale(workspace) {
        Ok(stale) if stale.is_empty() => Check::Present(FOLDER.to_owned()),
        Ok(stale) => {
            let names: Vec<_> = stale.iter().map(|folder| folder.name.as_str()).collect();
            Check::missing(
                format!("not made from {FOLDER} as it is now: {}", names.join(", ")),
                "cargo xtask setup",
            )
        }
        Err(error) => Check::missing(format!("{error:#}"), "restore it from git"),
    },
    make: Some(|workspace| {
        stale(workspace)?
            .iter()
            .try_for_each(|folder| folder.make(workspace))
    }),
};

/// A folder of packages that should exist.
struct Folder {
    name: String,
    path: PathBuf,
    requirements: PathBuf,
    /// The minor version of CPython that its packages are compiled for; none for pure ones.
    minor: Option<u8>,
    /// Whether pip compiles the packages. It does so for its own Python alone: a waste of time where
    /// other Pythons run them.
    is_compiled: bool,
}

fn wanted(workspace: &Workspace) -> Vec<Folder> {
    let place = workspace.matrix();
    let requirements = |name: &str| workspace.root.join(FOLDER).join(name);
    let mut minors: Vec<u8> = INTERPRETERS.iter().map(|of| of.minor).collect();
    minors.dedup();
    let pythons = minors.into_iter().map(|minor| Folder {
        name: format!("python-3.{minor}"),
        path: place.packages(minor),
        requirements: requirements(&format!("python-3.{}.txt", minor.min(LAST))),
        minor: Some(minor),
        is_compiled: true,
    });
    let gunicorns = GUNICORNS.into_iter().map(|version| Folder {
        name: format!("gunicorn-{version}"),
        path: place.gunicorn(version),
        requirements: requirements(&format!("gunicorn-{version}.txt")),
        minor: None,
        is_compiled: true,
    });
    let uvicorns = UVICORNS
        .into_iter()
        .map(|(name, minor)| (name, Some(minor)));
    let sets = PACKAGES.into_iter().chain(uvicorns);
    let frameworks = sets.map(|(name, minor)| Folder {
        name: name.to_owned(),
        path: place.frameworks(name),
        requirements: requirements(&format!("{name}.txt")),
        minor,
        is_compiled: false,
    });
    let http2 = Folder {
        name: HTTP2.to_owned(),
        path: place.frameworks(HTTP2),
        requirements: requirements(&format!("{HTTP2}.txt")),
        minor: None,
        is_compiled: false,
    };
    let all = pythons.chain(gunicorns).chain(frameworks);
    all.chain([http2]).collect()
}

fn stale(workspace: &Workspace) -> Result<Vec<Folder>> {
    let mut stale = Vec::new();
    for folder in wanted(workspace) {
        let stamp = fs::read_to_string(folder.stamp());
        if stamp.ok() != Some(folder.made_from()?) {
            stale.push(folder);
        }
    }
    Ok(stale)
}

impl Folder {
    /// Everything it depends on.
    fn made_from(&self) -> Result<String> {
        fs::read_to_string(&self.requirements)
            .with_context(|| format!("cannot read {}", self.requirements.display()))
    }

    /// Beside the folder, whose contents are importable; written last, so that an incomplete folder is
    /// made again.
    fn stamp(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".made-from");
        name.into()
    }

    fn make(&self, workspace: &Workspace) -> Result<()> {
        remove(&self.path)?;
        let mut pip = Command::new(workspace.venvs().join(PIP));
        pip.args(["install", "--quiet", "--disable-pip-version-check"])
            // The requirements name every package. Gunicorns also run on Pythons they do not list.
            .args(["--no-deps", "--ignore-requires-python"])
            .args(["--only-binary", ":all:"]);
        if !self.is_compiled {
            pip.arg("--no-compile");
        }
        if let Some(minor) = self.minor {
            pip.args(["--implementation", "cp", "--python-version"])
                .arg(format!("3.{minor}"));
            for platform in PLATFORMS {
                pip.arg("--platform")
                    .arg(format!("{platform}_{}", std::env::consts::ARCH));
            }
        }
        command::run(
            pip.arg("--target")
                .arg(&self.path)
                .arg("--requirement")
                .arg(&self.requirements),
        )?;
        let stamp = self.stamp();
        fs::write(&stamp, self.made_from()?)
            .with_context(|| format!("cannot write {}", stamp.display()))
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
