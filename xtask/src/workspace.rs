//! Where this repository and its built files are.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use end_to_end::matrix::place::Place;

use crate::command;

/// The repository this command was built from.
pub struct Workspace {
    /// Its top folder.
    pub root: PathBuf,
    /// Where cargo builds: `target`, or `CARGO_TARGET_DIR`.
    pub target: PathBuf,
}

impl Workspace {
    /// Finds it from where cargo built this command.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the xtask crate has no parent folder")?
            .to_path_buf();
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |dir| root.join(dir));
        Ok(Self { root, target })
    }

    /// The Python environments the tests and the demo run Gunicorn in.
    pub fn venvs(&self) -> PathBuf {
        self.target.join("venvs")
    }

    /// The interpreters and packages of the test matrix.
    pub fn matrix(&self) -> Place {
        Place::new(&self.matrix_folder())
    }

    /// Where those are.
    pub fn matrix_folder(&self) -> PathBuf {
        self.target.join("matrix")
    }

    /// Where the package of Prometheus is unpacked.
    pub fn prometheus_root(&self) -> PathBuf {
        self.target.join("prometheus")
    }

    /// Where its programs are.
    pub fn prometheus(&self) -> PathBuf {
        self.prometheus_root().join("usr/bin")
    }

    /// Where Helm is, and what else the chart is looked at with.
    pub fn kubernetes_folder(&self) -> PathBuf {
        self.target.join("kubernetes")
    }

    /// What the guests boot, and what they leave.
    pub fn vms(&self) -> PathBuf {
        self.target.join("vm")
    }

    /// Builds the observer as users run it, and says where it is.
    pub fn build_observer(&self) -> Result<PathBuf> {
        let build = [
            "build",
            "--release",
            "--package",
            "gunicorn-observer",
            "--features",
            "kubernetes",
            "--bins",
            "--examples",
        ];
        command::run(command::cargo().args(build).current_dir(&self.root))?;
        Ok(self.target.join("release/gunicorn-observer"))
    }
}
