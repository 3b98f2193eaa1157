//! apt for another suite of Debian, with its own lists, archives and status: the machine's packages stay
//! as they are. It checks signatures.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::command;

/// Debian's own keys, of all its suites (package `debian-archive-keyring`).
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with its own lists, archives and status.
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Prepares apt for a suite, with its files in this folder.
    pub fn new(suite: &str, folder: &Path) -> Result<Self> {
        for part in ["lists/partial", "archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part)
                .with_context(|| format!("cannot create {}", part.display()))?;
        }
        let source = format!("deb [signed-by={KEYS}] {} {} main\n", mirror()?, suite);
        for (name, text) in [("sources.list", source.as_str()), ("status", "")] {
            let file = folder.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Runs `apt-get`.
    pub fn run(&self, arguments: &[&str]) -> Result<()> {
        command::quietly(self.command("apt-get").args(arguments))
    }

    /// The names of a package's dependencies.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let output = self
            .command("apt-cache")
            .args(["depends", "--important", package])
            .stdin(Stdio::null())
            .output()
            .context("cannot start apt-cache")?;
        ensure!(
            output.status.success(),
            "`apt-cache depends {package}` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let names = text.lines().filter_map(|line| {
            let (_, name) = line.split_once("Depends: ")?;
            Some(name.trim().to_owned())
        });
        Ok(names.collect())
    }

    /// Downloads these packages, without dependencies.
    pub fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        let archives = self.folder.join("archives");
        let mut apt = self.command("apt-get");
        apt.arg("download").args(packages).current_dir(archives);
        command::quietly(&mut apt)?;
        self.packages()
    }

    fn command(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
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
        // Without the machine's other sources, preferences and caches, and without a user who
        // cannot read our folder.
        apt.args([
            "-oDir::Etc::SourceParts=-",
            "-oDir::Etc::PreferencesParts=-",
            "-oDir::Cache::PkgCache=",
            "-oDir::Cache::SrcPkgCache=",
            "-oAPT::Sandbox::User=root",
        ]);
        apt
    }

    /// The downloaded archives.
    pub fn packages(&self) -> Result<Vec<PathBuf>> {
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

    /// Removes its files.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("cannot remove {}", self.folder.display()))
    }
}

/// The mirror of Debian's archive in this machine's configuration.
fn mirror() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    if let Some(mirror) = of_release(&index_targets()?, &release) {
        return Ok(mirror);
    }
    // It lists nothing while apt has no lists, as in a fresh container.
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

/// The address of this machine's suite, among lines of suite and address.
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
