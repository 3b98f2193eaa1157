//! Debian's Prometheus, unpacked below `target`. Installing its package would start a service.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    command, packages,
    step::{Check, Step},
    workspace::Workspace,
};

const PACKAGE: &str = "prometheus";

/// The programs `prometheus` and `promtool`.
pub const PROMETHEUS: Step = Step {
    name: "Prometheus",
    why: "The tests have it scrape the observer, and ask it every query of docs/METRICS.md. 20 MB.",
    check: |workspace| {
        let promtool = workspace.prometheus().join("promtool");
        let version = command::output(&promtool.to_string_lossy(), &["--version"]);
        match version.as_deref().and_then(|text| text.lines().next()) {
            Some(version) => Check::Present(version.to_owned()),
            None => Check::missing(
                format!("{} does not run", promtool.display()),
                "cargo xtask setup",
            ),
        }
    },
    make: Some(make),
};

fn make(workspace: &Workspace) -> Result<()> {
    let root = workspace.prometheus_root();
    let archives = root.with_extension("archives");
    for folder in [&root, &archives] {
        remove(folder)?;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let archive = packages::download(PACKAGE, &archives)?;
    command::quietly(Command::new("dpkg").arg("-x").args([archive, root]))?;
    remove(&archives)
}

fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}
