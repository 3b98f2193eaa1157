//! `cargo xtask image`: all that is in the container image, as a folder.
//!
//! The image is made by deploy/Dockerfile, which has this command fill its only layer; the tests
//! run what it makes without an engine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{command, workspace::Workspace};

/// Where the program is in it.
const PROGRAM: &str = "usr/bin/gunicorn-observer";

/// Puts all that is in the container image into a folder
#[derive(clap::Args)]
pub struct Arguments {
    /// A folder that does not exist yet, or is empty
    folder: PathBuf,
    /// Take this program instead of building it
    #[arg(long)]
    program: Option<PathBuf>,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => workspace.build_observer()?,
    };
    let root = &arguments.folder;
    fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
    let mut entries =
        fs::read_dir(root).with_context(|| format!("cannot list {}", root.display()))?;
    ensure!(entries.next().is_none(), "{} is not empty", root.display());
    for library in libraries(&program)? {
        copy(&library, root, &library)?;
    }
    let copied = copy(&program, root, Path::new(PROGRAM))?;
    // Names of functions stay, for what a panic says.
    command::quietly(Command::new("strip").arg("--strip-debug").arg(copied))
}

/// The libraries a program needs and the loader, where it is asked for. Nothing else is loaded
/// later: glibc has the ways to look up names in itself since 2.34.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let told = command::output("ldd", &[&program.to_string_lossy()])
        .with_context(|| format!("ldd tells nothing of {}", program.display()))?;
    let libraries = parse(&told)?;
    ensure!(!libraries.is_empty(), "ldd tells of no library:\n{told}");
    Ok(libraries)
}

fn parse(told: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in told.lines() {
        ensure!(!line.contains("not found"), "a library is missing: {line}");
        // `name => path (address)`, `path (address)`, or what the kernel has: `name (address)`.
        let path = line.split("=>").last().unwrap_or_default();
        let path = path.rsplit_once(" (").map_or(path, |(path, _)| path).trim();
        if path.starts_with('/') {
            found.push(path.into());
        }
    }
    Ok(found)
}

/// Copies what a path leads to, through links, to a path below a root.
fn copy(from: &Path, root: &Path, to: &Path) -> Result<PathBuf> {
    let to = root.join(to.strip_prefix("/").unwrap_or(to));
    let folder = to.parent().context("a path has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::copy(from, &to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn libraries_and_the_loader_are_found_and_what_the_kernel_has_is_not() {
        let told = "\tlinux-vdso.so.1 (0x00007ffd4a7e4000)\n\
                    \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007fb358126000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007fb358159000)\n";
        let found = parse(told).expect("all are there");
        let found: Vec<_> = found
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(
            found,
            [
                "/lib/x86_64-linux-gnu/libgcc_s.so.1",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
        assert!(parse("\tlibx.so.1 => not found").is_err());
    }
}
