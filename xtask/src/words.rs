//! `cargo xtask words`: refuses retired words in code and documents.

mod find;
mod retired;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// Refuse retired words in code and documents
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder or file to read [default: the whole repository]
    path: Vec<PathBuf>,
    /// Root of the repository
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Endings of the files that are read.
const ENDINGS: &[&str] = &[
    "Dockerfile",
    ".ci/run",
    ".css",
    ".html",
    ".js",
    ".json",
    ".md",
    ".py",
    ".rs",
    ".service",
    ".sh",
    ".toml",
    ".tpl",
    ".yaml",
    ".yml",
];

/// Parts of paths whose files may have retired words, with the reason.
const EXEMPT: &[(&str, &str)] = &[
    ("xtask/src/words/", "lists them, and tests the search"),
    ("/vendor/", "written by others, kept as it is"),
];

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let root = arguments.root.as_deref().unwrap_or(&workspace.root);
    check(root, &arguments.path)
}

/// Fails if a file under `paths` has a retired word, and prints each; no paths: the whole repository.
pub fn check(root: &Path, paths: &[PathBuf]) -> Result<()> {
    let mut count = 0;
    for path in files(root, paths)? {
        let text = match fs::read_to_string(root.join(&path)) {
            Ok(text) => text,
            // Removed and not yet committed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        };
        for found in find::find(&text) {
            let (line, retired) = (found.line, found.retired);
            println!("{path}:{line}: {} -> {}", retired.phrase, retired.instead);
            count += 1;
        }
    }
    if count > 0 {
        bail!("{count} retired words; write what stands behind each arrow");
    }
    Ok(())
}

/// Files of the repository to read, relative to its root; also those not yet added.
fn files(root: &Path, paths: &[PathBuf]) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
        ])
        .args(paths)
        .current_dir(root)
        .output()
        .context("cannot run `git ls-files`")?;
    if !output.status.success() {
        bail!(
            "`git ls-files` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let listed = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let files = listed.split_terminator('\0').map(str::to_owned);
    Ok(files.filter(|path| is_read(path)).collect())
}

fn is_read(path: &str) -> bool {
    ENDINGS.iter().any(|ending| path.ends_with(ending))
        && !EXEMPT.iter().any(|(exempt, _)| path.contains(exempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_documents_are_read_except_where_exempt() {
        for path in [
            "README.md",
            "deploy/Dockerfile",
            "observer/src/cli.rs",
            ".ci/run",
        ] {
            assert!(is_read(path), "{path}");
        }
        for path in [
            "Cargo.lock",
            "docs/images/top.png",
            "xtask/src/words/retired.rs",
        ] {
            assert!(!is_read(path), "{path}");
        }
    }
}
