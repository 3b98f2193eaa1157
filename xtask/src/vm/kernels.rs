//! The kernels to try: Debian's, and this machine's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{initramfs, modules};
use crate::{apt::Apt, command, workspace::Workspace};

/// A kernel to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its Debian suite; `None` for this machine's kernel.
    pub suite: Option<&'static str>,
    /// Whether `cargo xtask test all` tries it.
    pub in_gate: bool,
}

/// This machine's kernel, and Debian's from the oldest on. That of sid changes.
pub const KERNELS: [Kernel; 5] = [
    Kernel {
        name: "host",
        suite: None,
        in_gate: false,
    },
    debian("5.10", "bullseye", true),
    debian("6.1", "bookworm", true),
    debian("6.12", "trixie", false),
    debian("sid", "sid", false),
];

const fn debian(name: &'static str, suite: &'static str, in_gate: bool) -> Kernel {
    Kernel {
        name,
        suite: Some(suite),
        in_gate,
    }
}

/// The files that qemu boots.
pub struct Image {
    pub folder: PathBuf,
}

impl Image {
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub fn initramfs(&self) -> PathBuf {
        self.folder.join("initramfs")
    }

    /// Its source, written last.
    fn stamp(&self) -> PathBuf {
        self.folder.join("made-from")
    }
}

/// Fetches and unpacks the kernel of a suite, unless it is there.
pub fn image(workspace: &Workspace, suite: &str) -> Result<Image> {
    let folder = workspace.vms().join(suite);
    let image = Image { folder };
    let busybox = initramfs::busybox(workspace)?;
    if !image.stamp().exists() {
        println!("  fetching the kernel of Debian {suite}");
        make(workspace, suite, &image, &busybox)?;
    }
    // Made each time: quick, and never older than this command.
    initramfs::write(&image, &busybox)?;
    Ok(image)
}

fn make(workspace: &Workspace, suite: &str, image: &Image, busybox: &Path) -> Result<()> {
    let folder = &image.folder;
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let apt = Apt::new(suite, &workspace.vms().join(format!("{suite}.apt")))?;
    apt.run(&["update"])?;
    let packages = apt.download(&packages(&apt)?)?;
    let root = folder.join("root");
    for package in &packages {
        command::quietly(Command::new("dpkg").arg("-x").args([package, &root]))?;
    }
    // Up to Debian 12 below `/lib`, and `vmlinuz` in `/boot`; in sid all of it is below `/usr/lib`.
    let modules = only_child(&root.join("usr/lib/modules"))
        .or_else(|_| only_child(&root.join("lib/modules")))?;
    let vmlinuz = vmlinuz(&root, &modules)?;
    fs::copy(&vmlinuz, image.kernel())
        .with_context(|| format!("cannot copy {}", vmlinuz.display()))?;
    modules::copy(&modules, &folder.join("modules"), busybox)?;
    // Hundreds of MiB of drivers.
    fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    apt.remove()?;
    let names = packages.iter().filter_map(|package| package.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    fs::write(image.stamp(), names.join("\n") + "\n")
        .with_context(|| format!("cannot write {}", image.stamp().display()))
}

/// The packages of a suite's newest kernel: one, or in sid one each for the kernel, its modules and
/// their lists.
fn packages(apt: &Apt) -> Result<Vec<String>> {
    let mut packages: Vec<String> = apt.depends("linux-image-amd64")?;
    packages.retain(|name| name.starts_with("linux-image-"));
    ensure!(
        packages.len() == 1,
        "linux-image-amd64 depends on {packages:?}"
    );
    let parts = ["linux-binary-", "linux-modules-", "linux-base-"];
    let is_part = |name: &String| parts.iter().any(|part| name.starts_with(part));
    packages.extend(apt.depends(&packages[0])?.into_iter().filter(is_part));
    Ok(packages)
}

fn vmlinuz(root: &Path, modules: &Path) -> Result<PathBuf> {
    let beside = modules.join("vmlinuz");
    if beside.exists() {
        return Ok(beside);
    }
    let release = modules.file_name().unwrap_or_default().to_string_lossy();
    let boot = root.join("boot").join(format!("vmlinuz-{release}"));
    ensure!(boot.exists(), "the package has no {}", boot.display());
    Ok(boot)
}

fn only_child(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let first = paths.next();
    ensure!(paths.next().is_none(), "several in {}", folder.display());
    first.with_context(|| format!("nothing in {}", folder.display()))
}
