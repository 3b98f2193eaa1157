//! `cargo xtask dist`: the release files, the same bytes each time.

mod archive;
mod binary;
mod debian;
mod stage;
mod sums;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{command, dist::stage::Stage, parts, step::make_missing, workspace::Workspace};

const NAME: &str = "gunicorn-observer";

/// Build the release files: tarball, Debian package, checksums
#[derive(clap::Args)]
pub struct Arguments {
    /// Package this program instead of building one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Empty folder for the files [default: target/dist, which is emptied]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    make_missing(parts::PACKAGE, workspace)?;
    let built = match &arguments.binary {
        Some(path) => path.clone(),
        None => {
            make_missing(parts::BUILD, workspace)?;
            workspace.build_observer()?
        }
    };
    let output = match &arguments.output {
        Some(folder) => {
            // The contents of a named folder are not ours to remove.
            let is_empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
            ensure!(
                is_empty || !folder.exists(),
                "{} is not an empty folder: name another with --output",
                folder.display()
            );
            folder.clone()
        }
        None => workspace.target.join("dist"),
    };
    emptied(&output)?;
    let made_at = made_at(workspace)?;
    let name = format!(
        "{NAME}-{}-{}-linux",
        env!("CARGO_PKG_VERSION"),
        env::consts::ARCH
    );
    let stage = Stage::make(workspace, &built)?;
    let mut made = archive::pack(&stage, &name, made_at, &output)?;
    made.push(debian::package(workspace, made_at, &output)?);
    made.push(sums::write(&output, &made)?);
    for path in made {
        println!("{}", path.display());
    }
    Ok(())
}

/// The time of all files, in Unix seconds (reproducible-builds.org): that of the last commit.
fn made_at(workspace: &Workspace) -> Result<u64> {
    let said = match env::var("SOURCE_DATE_EPOCH") {
        Ok(said) => said,
        Err(_) => {
            let output = Command::new("git")
                .args(["log", "-1", "--format=%ct"])
                .current_dir(&workspace.root)
                .output()
                .context("cannot ask git for the time of the last commit")?;
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
    };
    said.trim().parse().context(
        "no time to give to files: SOURCE_DATE_EPOCH is not a number of seconds, \
         or is not set where git has no commit",
    )
}

/// Makes an empty folder there.
fn emptied(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Runs a command that gives this time to its files.
fn quietly_at(made_at: u64, command: &mut Command) -> Result<()> {
    command::quietly(command.env("SOURCE_DATE_EPOCH", made_at.to_string()))
}
