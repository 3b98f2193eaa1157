//! `cargo xtask image`: the contents of the container image, as a folder.
//!
//! deploy/Dockerfile runs this command to fill the only layer of the image; the tests run its result
//! without a container engine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{command, workspace::Workspace};

/// The path of the program in the image.
const PROGRAM: &str = "usr/bin/gunicorn-observer";

/// Fill a folder with the contents of the container image
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder to fill; must be empty or not exist
    folder: PathBuf,
    /// Use this program instead of building it
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

/// The loader and the libraries of a program, at the paths where the loader looks for them. Nothing
/// else is loaded later: glibc looks up names by itself since 2.34.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = command::output("ldd", &[&program.to_string_lossy()])
        .with_context(|| format!("ldd prints nothing for {}", program.display()))?;
    let libraries = parse(&output)?;
    ensure!(!libraries.is_empty(), "ldd lists no library:\n{output}");
    Ok(libraries)
}

fn parse(output: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in output.lines() {
        ensure!(!line.contains("not found"), "a library is missing: {line}");
        // `name => path (address)`, `path (address)`, or for the vDSO `name (address)`.
        let path = line.split("=>").last().unwrap_or_default();
        let path = path.rsplit_once(" (").map_or(path, |(path, _)| path).trim();
        if path.starts_with('/') {
            found.push(path.into());
        }
    }
    Ok(found)
}

/// Copies a file, through links, to a path below a root.
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
        let output = "\tlinux-vdso.so.1 (0x00007ffd4a7e4000)\n\
                    \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007fb358126000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007fb358159000)\n";
        let found = parse(output).expect("all are there");
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
