//! The root of the control groups, where programs see the sockets of every process.

#[cfg(test)]
mod looks_only;

use anyhow::{Context as _, Result, anyhow};
use nix::errno::Errno;
use procfs::process::Process;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Opens the root of the control groups, version 2. A container often sees its own control group only:
/// the mounts of the host's first process are tried too.
///
/// # Errors
/// When it is mounted nowhere in sight.
pub(super) fn root() -> Result<File> {
    let host = Process::new(1);
    let places = [
        (Process::myself(), Path::new("/")),
        (host, Path::new("/proc/1/root")),
    ];
    let mounts = places.into_iter().flat_map(|(process, top)| {
        let mounts = process.and_then(|process| process.mountinfo());
        let mounts = mounts.into_iter().flatten();
        let mounts = mounts.filter(|mount| mount.fs_type == "cgroup2");
        mounts.map(move |mount| below(top, &mount.mount_point))
    });
    let mut roots = mounts.filter(|place| is_root(place));
    let root = roots.next().context(
        "no mount of the root of the control groups, version 2, is in sight; \
         run `mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`, or in a container mount the host's \
         /sys/fs/cgroup",
    )?;
    File::open(&root).with_context(|| format!("cannot open {}", root.display()))
}

fn below(top: &Path, place: &Path) -> PathBuf {
    top.join(place.strip_prefix("/").unwrap_or(place))
}

/// Whether this is the root of all control groups, which alone has no type (`cgroup_base_files` in
/// `kernel/cgroup/cgroup.c`).
fn is_root(place: &Path) -> bool {
    place.join("cgroup.controllers").exists() && !place.join("cgroup.type").exists()
}

/// The error of an attachment, with the fix.
pub(super) fn explained(error: io::Error) -> anyhow::Error {
    let is_refused = error.raw_os_error() == Some(Errno::EPERM as i32);
    let error = anyhow!(error);
    if is_refused {
        error.context(
            "the root of the control groups has a program of somebody else that allows no other; \
             attach that one with BPF_F_ALLOW_MULTI",
        )
    } else {
        error
    }
}

#[cfg(test)]
#[path = "control_group_tests.rs"]
mod tests;
