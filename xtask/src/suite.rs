//! The interpreters of another Debian, unpacked into a root of their own beside this one.
//!
//! apt resolves what they need and checks the signatures, with files of its own in the place of
//! the machine's; the machine's packages stay as they are. A suite has one version of a package at
//! a time, so versions cannot be pinned: those that came are written down in the root's stamp.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::command;

/// Debian's own keys, of all its suites (package `debian-archive-keyring`).
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Beside the interpreters: the library that wheels of C++ need, and `/etc/protocols`, which older
/// dnspythons read when they are imported.
const OTHERS: [&str; 2] = ["libstdc++6", "netbase"];
/// What Debian keeps in `/usr` and links to from `/` (`base-files`, as of Debian 13).
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Mount points, and a folder for what is temporary.
const EMPTY: [&str; 4] = ["dev", "proc", "sys", "tmp"];

/// A suite of Debian, as far as the tests want it.
pub struct Suite {
    pub name: &'static str,
    /// Minor versions of its interpreters.
    pub minors: Vec<u8>,
    /// Where it is unpacked.
    pub root: PathBuf,
}

impl Suite {
    /// Whether it has been unpacked to the end.
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
        let apt = Apt::new(self)?;
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

    /// What scripts of packages do that are not run here.
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

/// apt with lists, archives and a status of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(suite: &Suite) -> Result<Self> {
        let folder = suite.root.with_extension("apt");
        for part in ["lists/partial", "archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part)
                .with_context(|| format!("cannot create {}", part.display()))?;
        }
        let source = format!("deb [signed-by={KEYS}] {} {} main\n", mirror()?, suite.name);
        for (name, text) in [("sources.list", source.as_str()), ("status", "")] {
            let file = folder.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(Self { folder })
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        for (option, name) in [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::Status", "status"),
            ("Dir::Cache::Archives", "archives"),
        ] {
            let file = self.folder.join(name);
            apt.arg(format!("-o{option}={}", file.display()));
        }
        // Neither the machine's other sources and preferences, nor its caches, nor a user that
        // cannot read our folder.
        apt.args([
            "-oDir::Etc::SourceParts=-",
            "-oDir::Etc::PreferencesParts=-",
            "-oDir::Cache::PkgCache=",
            "-oDir::Cache::SrcPkgCache=",
            "-oAPT::Sandbox::User=root",
        ]);
        command::quietly(apt.args(arguments))
    }

    /// What it downloaded.
    fn packages(&self) -> Result<Vec<PathBuf>> {
        let archives = self.folder.join("archives");
        let entries = fs::read_dir(&archives)
            .with_context(|| format!("cannot list {}", archives.display()))?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut packages: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        packages.sort_unstable();
        ensure!(!packages.is_empty(), "apt-get downloaded nothing");
        Ok(packages)
    }

    fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("cannot remove {}", self.folder.display()))
    }
}

/// The mirror of Debian's archive that this machine is set up with.
fn mirror() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    if let Some(mirror) = of_release(&index_targets()?, &release) {
        return Ok(mirror);
    }
    // Nothing is told while apt has no lists, as in a fresh container.
    command::run(Command::new("apt-get").args(["update", "--quiet"]))?;
    of_release(&index_targets()?, &release).context(
        "apt has no source for this Debian's own suite (`apt-get indextargets`), \
         so the mirror to take others from is not known",
    )
}

fn index_targets() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)"])
        .stdin(Stdio::null())
        .output()
        .context("cannot ask apt-get for this machine's mirror")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The address beside the suite that this machine has, among lines of suite and address.
fn of_release(targets: &str, os_release: &str) -> Option<String> {
    let codename = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    targets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(suite, _)| *suite == codename)
        .map(|(_, address)| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::of_release;

    #[test]
    fn the_mirror_is_that_of_the_machines_own_suite() {
        let targets = "nodistro https://other.test/\n\
                       bookworm-security http://mirror.test/security/\n\
                       bookworm http://mirror.test/debian/\n";
        let os_release = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(
            of_release(targets, os_release).as_deref(),
            Some("http://mirror.test/debian/")
        );
        assert_eq!(of_release(targets, "ID=other\n"), None);
    }
}
