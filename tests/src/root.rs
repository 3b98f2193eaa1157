//! A root to install packages in: an overlay over this machine's, gone when dropped.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::process;

/// Makes `$1/root` in a mount namespace, and keeps that for as long as its input is open.
const MAKE: &str = r#"
set -e
cd "$1"
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
for folder in proc sys dev; do
    mount --rbind "/$folder" "$1/root/$folder"
done
echo ready
exec cat
"#;

pub struct Root {
    keeper: Child,
    folder: TempDir,
}

impl Root {
    pub fn new() -> Result<Self> {
        let folder = TempDir::new().context("cannot make a folder for a root")?;
        let mut keeper = process::bound_to_us("unshare")
            .args(["--mount", "sh", "-c", MAKE, "sh"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start unshare")?;
        let said = keeper.stdout.take().context("it has no output")?;
        let root = Self { keeper, folder };
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        ensure!(line == "ready\n", "the root cannot be made");
        Ok(root)
    }

    /// A file of the root, as seen from outside.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        let namespace = PathBuf::from(format!("/proc/{}/root", self.keeper.id()));
        let root = self.folder.path().join("root");
        let inside = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_path_buf();
        namespace.join(inside(&root)).join(inside(Path::new(path)))
    }

    /// Runs a program in the root.
    pub fn output(&self, words: &[impl AsRef<OsStr>]) -> Result<Output> {
        Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id()))
            .args(["--", "chroot"])
            .arg(self.folder.path().join("root"))
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .context("cannot start nsenter")
    }

    /// Runs a program in the root, which must succeed, and returns its output.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let output = self.output(words)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{words:?}: {}: {said}{error}",
            output.status
        );
        Ok(said)
    }

    /// Copies a file to the top of the root, and returns its path there.
    pub fn receive(&self, file: &Path) -> Result<String> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let path = format!("/{name}");
        fs::copy(file, self.path(&path))
            .with_context(|| format!("cannot copy {}", file.display()))?;
        Ok(path)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        process::end(&mut self.keeper, Duration::from_secs(5));
    }
}
