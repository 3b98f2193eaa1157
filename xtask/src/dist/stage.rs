//! The files of a release, laid out as below `/usr/local`, to be packed.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    command,
    dist::{NAME, binary, emptied},
    workspace::Workspace,
};

/// Shells, and where each looks for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    (
        "bash",
        "share/bash-completion/completions/gunicorn-observer",
    ),
    ("zsh", "share/zsh/site-functions/_gunicorn-observer"),
    (
        "fish",
        "share/fish/vendor_completions.d/gunicorn-observer.fish",
    ),
];
const DOCUMENTS: &str = "share/doc/gunicorn-observer";

pub struct Stage {
    /// The files to pack.
    pub root: PathBuf,
    /// The program's debug information.
    pub debug: PathBuf,
}

impl Stage {
    /// The path in `[package.metadata.deb]`, below cargo-deb's target folder.
    pub fn make(workspace: &Workspace, built: &Path) -> Result<Self> {
        let folder = workspace.target.join("release/dist");
        emptied(&folder)?;
        let stage = Self {
            root: folder.join("files"),
            debug: folder.join(format!("{NAME}.debug")),
        };
        let program = stage.place(&format!("bin/{NAME}"))?;
        binary::split(built, &program, &stage.debug)?;
        stage.pages(&program)?;
        stage.completions(&program)?;
        stage.documents(workspace)?;
        stage.service(workspace)?;
        readable(&folder)?;
        Ok(stage)
    }

    /// A path in the stage, whose folder exists.
    fn place(&self, path: &str) -> Result<PathBuf> {
        let path = self.root.join(path);
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(path)
    }

    fn copy(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.place(to)?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    }

    fn pages(&self, program: &Path) -> Result<()> {
        let folder = self.place("share/man/man1")?;
        let arguments = ["man".as_ref(), "--dir".as_ref(), folder.as_os_str()];
        said(program, &arguments)?;
        // No time and no name in gzip's header.
        command::quietly(Command::new("gzip").arg("-n9").args(files(&folder)?))
    }

    fn completions(&self, program: &Path) -> Result<()> {
        for (shell, path) in COMPLETIONS {
            let script = said(program, &["completions".as_ref(), shell.as_ref()])?;
            let path = self.place(path)?;
            fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Documents, in the repository's folders, so that links between them work.
    fn documents(&self, workspace: &Workspace) -> Result<()> {
        for name in ["README.md", "CHANGELOG.md", "LICENSE"] {
            self.copy(&workspace.root.join(name), &format!("{DOCUMENTS}/{name}"))?;
        }
        for folder in ["docs", "docs/images"] {
            for path in files(&workspace.root.join(folder))? {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                self.copy(&path, &format!("{DOCUMENTS}/{folder}/{name}"))?;
            }
        }
        Ok(())
    }

    /// The systemd unit for a program in `/usr/local`, and its file of options.
    fn service(&self, workspace: &Workspace) -> Result<()> {
        let from = workspace.root.join("deploy/systemd");
        let unit = from.join(format!("{NAME}.service"));
        let text =
            fs::read_to_string(&unit).with_context(|| format!("cannot read {}", unit.display()))?;
        let (packaged, here) = ("ExecStart=/usr/bin/", "ExecStart=/usr/local/bin/");
        ensure!(
            text.contains(packaged),
            "no {packaged} in {}",
            unit.display()
        );
        let to = self.place(&format!("lib/systemd/system/{NAME}.service"))?;
        fs::write(&to, text.replace(packaged, here))
            .with_context(|| format!("cannot write {}", to.display()))?;
        let options = from.join(format!("{NAME}.default"));
        self.copy(&options, &format!("etc/default/{NAME}"))
    }
}

/// The output of the program.
fn said(program: &Path, arguments: &[&OsStr]) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} {arguments:?}: {error}",
        program.display()
    );
    Ok(output.stdout)
}

/// The files of a folder, without those of its subfolders.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.is_file()).collect())
}

/// Gives all below it the modes that installed files have, whatever this user's umask is.
fn readable(folder: &Path) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let is_program = path.parent().is_some_and(|parent| parent.ends_with("bin"));
        let mode = if path.is_dir() || is_program {
            0o755
        } else {
            0o644
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot change the mode of {}", path.display()))?;
        if path.is_dir() {
            readable(&path)?;
        }
    }
    Ok(())
}
