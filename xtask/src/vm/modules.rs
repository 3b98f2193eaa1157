//! The kernel modules of a guest, with their dependencies.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use object::{Object as _, ObjectSection as _};

use crate::command;

/// Modules for the host's files in the guest, and for the observer's socket queries.
const WANTED: [&str; 7] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "tcp_diag",
    "unix_diag",
    "veth",
];

/// Copies the modules from a folder of `/lib/modules`, numbered in the order in which they load.
/// Compressed ones are unpacked by `busybox`.
pub fn copy(from: &Path, to: &Path, busybox: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    let builtin = from.join("modules.builtin");
    let mut set = Set {
        files: HashMap::new(),
        builtin: fs::read_to_string(&builtin)
            .with_context(|| format!("cannot read {}", builtin.display()))?
            .lines()
            .map(|path| name(Path::new(path)))
            .collect(),
        copied: Vec::new(),
        to,
        busybox,
    };
    find(from, &mut set.files)?;
    WANTED.iter().try_for_each(|module| set.add(module))
}

struct Set<'a> {
    /// By name.
    files: HashMap<String, PathBuf>,
    builtin: Vec<String>,
    copied: Vec<String>,
    to: &'a Path,
    busybox: &'a Path,
}

impl Set<'_> {
    /// Copies a module after its dependencies.
    fn add(&mut self, module: &str) -> Result<()> {
        if self
            .builtin
            .iter()
            .chain(&self.copied)
            .any(|it| it == module)
        {
            return Ok(());
        }
        let path = self.files.get(module);
        let path = path.with_context(|| format!("this kernel has no module {module}"))?;
        let data = read(path, self.busybox)?;
        self.copied.push(module.to_owned());
        for needed in needed(&data).with_context(|| format!("module {module}"))? {
            self.add(&needed)?;
        }
        let number = fs::read_dir(self.to)?.count();
        let path = self.to.join(format!("{number:02}-{module}.ko"));
        fs::write(&path, data).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The contents of a module's file.
fn read(path: &Path, busybox: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let mut xz = Command::new(busybox);
    let output = xz.args(["xz", "-d", "-c"]).arg(path).output();
    let output = output.context("cannot start busybox")?;
    ensure!(output.status.success(), "`{}` failed", command::shown(&xz));
    Ok(output.stdout)
}

/// The dependencies in a module's section `.modinfo`.
fn needed(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module).context("no ELF file")?;
    let section = file.section_by_name(".modinfo").context("no .modinfo")?;
    let text = String::from_utf8_lossy(section.data()?).into_owned();
    let depends = text
        .split('\0')
        .find_map(|line| line.strip_prefix("depends="));
    let names = depends.unwrap_or_default().split(',');
    Ok(names
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect())
}

fn find(folder: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.to_string_lossy().contains(".ko") {
            files.insert(name(&path), path);
        }
    }
    Ok(())
}

/// `kernel/fs/9p/9p.ko.xz` is `9p`.
fn name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let name = file.split(".ko").next().unwrap_or_default();
    name.replace('-', "_")
}
