//! Interpreters of another Debian suite, unpacked into a root of their own.
//!
//! apt resolves their dependencies, see [`crate::apt`]. A suite has one version of a package at a
//! time, so versions cannot be pinned: the root's stamp records them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{apt::Apt, command};

/// Packages beside the interpreters: the library of C++ wheels, and `/etc/protocols`, which older
/// dnspythons read at import.
const OTHERS: [&str; 2] = ["libstdc++6", "netbase"];
/// Folders that Debian keeps in `/usr` and links to from `/` (`base-files`, as of Debian 13).
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Mount points, and a folder for temporary files.
const EMPTY: [&str; 4] = ["dev", "proc", "sys", "tmp"];

/// The part of a Debian suite that the tests use.
pub struct Suite {
    pub name: &'static str,
    /// Minor versions of its interpreters.
    pub minors: Vec<u8>,
    /// Where it is unpacked.
    pub root: PathBuf,
}

impl Suite {
    /// Whether it is unpacked completely.
    pub fn is_made(&self) -> bool {
        let stamp = fs::read_to_string(self.stamp()).unwrap_or_default();
        stamp.lines().next() == Some(&self.wanted().join(" "))
    }

    fn wanted(&self) -> Vec<String> {
        let pythons = self.minors.iter().map(|minor| format!("python3.{minor}"));
        pythons.chain(OTHERS.map(str::to_owned)).collect()
    }

    fn stamp(&self) -> PathBuf {
        self.root.with_extension("made-from")
    }

    /// Downloads and unpacks it.
    pub fn make(&self) -> Result<()> {
        let _ = fs::remove_file(self.stamp());
        let apt = Apt::new(self.name, &self.root.with_extension("apt"))?;
        if self.root.exists() {
            fs::remove_dir_all(&self.root)
                .with_context(|| format!("cannot remove {}", self.root.display()))?;
        }
        fs::create_dir_all(&self.root)
            .with_context(|| format!("cannot create {}", self.root.display()))?;
        apt.run(&["update"])?;
        let mut install = vec![
            "install",
            "-y",
            "--no-install-recommends",
            "--download-only",
        ];
        let wanted = self.wanted();
        install.extend(wanted.iter().map(String::as_str));
        apt.run(&install)?;
        let packages = apt.packages()?;
        for package in &packages {
            command::quietly(Command::new("dpkg").arg("-x").args([package, &self.root]))?;
        }
        self.finish_root()?;
        let names = packages.iter().filter_map(|package| package.file_stem());
        let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
        let stamp = format!("{}\n{}\n", wanted.join(" "), names.join("\n"));
        fs::write(self.stamp(), stamp)
            .with_context(|| format!("cannot write {}", self.stamp().display()))?;
        apt.remove()
    }

    /// The work of maintainer scripts, which do not run here.
    fn finish_root(&self) -> Result<()> {
        for name in MERGED {
            let link = self.root.join(name);
            if !link.exists() {
                symlink(Path::new("usr").join(name), &link)
                    .with_context(|| format!("cannot link {}", link.display()))?;
            }
        }
        for name in EMPTY {
            let folder = self.root.join(name);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        for minor in &self.minors {
            let program = format!("/usr/bin/python3.{minor}");
            command::quietly(Command::new("chroot").arg(&self.root).args([
                &program,
                "-c",
                "import ctypes, datetime, ssl",
            ]))?;
        }
        Ok(())
    }
}
