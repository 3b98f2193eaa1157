//! The programs that `cargo test` builds, and the tests in each.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{command, workspace::Workspace};

/// A built program of tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Of its crate, or of its file in `tests/`.
    pub name: String,
    pub path: PathBuf,
    /// The folder of its crate, where it runs.
    pub folder: PathBuf,
}

/// Builds the tests that `cargo test` runs with these arguments.
pub fn build(workspace: &Workspace, arguments: &[&str]) -> Result<Vec<Program>> {
    let mut cargo = command::cargo();
    cargo
        .args([
            "test",
            "--no-run",
            "--message-format",
            "json-render-diagnostics",
        ])
        .args(arguments)
        .current_dir(&workspace.root)
        .env("AYA_BUILD_SKIP", "1");
    println!("  $ {}", command::shown(&cargo));
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`{}` failed: {}", command::shown(&cargo), output.status);
    }
    listed(&output.stdout)
}

fn listed(messages: &[u8]) -> Result<Vec<Program>> {
    let messages = serde_json::Deserializer::from_slice(messages).into_iter::<Value>();
    let mut programs = Vec::new();
    for message in messages {
        let message = message.context("a message of cargo is not JSON")?;
        let is_test = message["profile"]["test"].as_bool() == Some(true);
        let (Some(path), Some(name), Some(manifest)) = (
            message["executable"].as_str().filter(|_| is_test),
            message["target"]["name"].as_str(),
            message["manifest_path"].as_str(),
        ) else {
            continue;
        };
        programs.push(Program {
            name: name.to_owned(),
            path: path.into(),
            folder: Path::new(manifest)
                .parent()
                .unwrap_or(Path::new("/"))
                .to_owned(),
        });
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

impl Program {
    /// The names of its tests.
    pub fn tests(&self) -> Result<Vec<String>> {
        let output = Command::new(&self.path)
            .args(["--list", "--format", "terse"])
            .current_dir(&self.folder)
            .output()
            .with_context(|| format!("cannot start {}", self.path.display()))?;
        if !output.status.success() {
            bail!("{} does not list its tests", self.path.display());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(names.map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_tests_are_found_among_the_messages_of_cargo() {
        let messages = r#"
            {"reason":"compiler-artifact","target":{"name":"lib"},"profile":{"test":false},
             "executable":null,"manifest_path":"/w/a/Cargo.toml"}
            {"reason":"compiler-artifact","target":{"name":"tool"},"profile":{"test":false},
             "executable":"/t/tool","manifest_path":"/w/a/Cargo.toml"}
            {"reason":"compiler-artifact","target":{"name":"usage"},"profile":{"test":true},
             "executable":"/t/usage-1","manifest_path":"/w/a/Cargo.toml"}
            {"reason":"build-finished","success":true}"#;
        let expected = Program {
            name: "usage".into(),
            path: "/t/usage-1".into(),
            folder: "/w/a".into(),
        };
        assert_eq!(listed(messages.as_bytes()).expect("JSON"), [expected]);
    }
}
