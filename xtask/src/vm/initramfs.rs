//! The initial files of a guest: busybox, its first process, and modules.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::kernels::Image;
use crate::{command, packages, workspace::Workspace};

const INIT: &str = include_str!("init.sh");
const FOLDERS: [&str; 3] = ["bin", "modules", "dev"];
/// The commands of the first process.
const APPLETS: [&str; 10] = [
    "sh", "cat", "mkdir", "mount", "umount", "insmod", "chmod", "chroot", "ip", "poweroff",
];

/// A static busybox from Debian's package. The package is not installed, because it would replace
/// another one.
pub fn busybox(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.vms().join("busybox");
    let find = || {
        // Where `/bin` is a link to `/usr/bin`, and where it is not.
        let mut places = ["usr/bin/busybox", "bin/busybox"].map(|place| folder.join(place));
        places.iter_mut().find(|place| place.exists()).cloned()
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let package = packages::download("busybox-static", &folder)?;
    command::quietly(Command::new("dpkg").arg("-x").args([&package, &folder]))?;
    find().context("the package busybox-static has no busybox")
}

/// Writes the archive that the kernel unpacks, with `cpio`.
pub fn write(image: &Image, busybox: &Path) -> Result<()> {
    let tree = tempfile::tempdir().context("cannot make a folder")?;
    let root = tree.path();
    for folder in FOLDERS {
        fs::create_dir(root.join(folder))?;
    }
    fs::copy(busybox, root.join("bin/busybox")).context("cannot copy busybox")?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let init = root.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let mut names = vec!["init".to_owned()];
    names.extend(FOLDERS.map(str::to_owned));
    names.extend(
        ["busybox"]
            .iter()
            .chain(&APPLETS)
            .map(|it| format!("bin/{it}")),
    );
    for entry in fs::read_dir(image.folder.join("modules"))? {
        let entry = entry?;
        let name = format!("modules/{}", entry.file_name().to_string_lossy());
        fs::copy(entry.path(), root.join(&name))?;
        names.push(name);
    }
    let mut cpio = Command::new(busybox)
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(File::create(image.initramfs())?)
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start busybox")?;
    let mut list = cpio.stdin.take().context("cpio has no standard input")?;
    list.write_all((names.join("\n") + "\n").as_bytes())?;
    drop(list);
    ensure!(cpio.wait()?.success(), "cpio failed");
    Ok(())
}
