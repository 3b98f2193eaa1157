//! Counts instructions: valgrind those of userspace, the verifier those that it walks of a program.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::baseline::Counts;
use crate::{command, workspace::Workspace};

/// A short recording of a real Gunicorn, described in docs/TESTING.md.
const RECORDING: &str = "tests/fixtures/shop.rec";
/// Parts of the observer's work, as the example `instructions` names them.
const PARTS: [&str; 4] = ["decode", "model", "scrape", "view"];

/// The compiler of userspace.
pub fn compiler() -> Result<String> {
    command::output("rustc", &["--version"]).context("`rustc` does not run")
}

/// Such as `6.18`.
pub fn kernel_series() -> Result<String> {
    let release = nix::sys::utsname::uname().context("cannot read the version of the kernel")?;
    let release = release.release().to_string_lossy();
    let mut numbers = release.split('.');
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => Ok(format!("{major}.{minor}")),
        _ => Ok(release.into_owned()),
    }
}

/// Instructions of each part of replaying the recording.
pub fn userspace(workspace: &Workspace) -> Result<Counts> {
    let example = workspace.target.join("release/examples/instructions");
    let recording = workspace.root.join(RECORDING);
    let count = |part: &str| Ok((part.to_owned(), instructions(&example, &recording, part)?));
    PARTS.into_iter().map(count).collect()
}

fn instructions(example: &Path, recording: &Path, part: &str) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*only_this_is_counted*")
        .arg(example)
        .arg(recording)
        .arg(part)
        .output()
        .context("cannot start valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed:\n{said}");
    collected(&said).with_context(|| format!("valgrind counted nothing:\n{said}"))
}

/// `==7== Collected : 1234`
fn collected(said: &str) -> Option<u64> {
    let mut counts = said
        .lines()
        .filter_map(|line| line.split_once("Collected : "));
    let (_, count) = counts.next()?;
    count.trim().parse().ok().filter(|&count| count > 0)
}

/// Instructions that the verifier walks, of each program.
pub fn programs(workspace: &Workspace) -> Result<Counts> {
    let example = workspace.target.join("release/examples/verifier");
    let output = Command::new(&example)
        .output()
        .with_context(|| format!("cannot start {}", example.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the verifier refused:\n{said}");
    let counts = walked(&String::from_utf8_lossy(&output.stdout));
    ensure!(!counts.is_empty(), "no program was loaded");
    Ok(counts)
}

/// `name 1234 walked 567 bytes`
fn walked(text: &str) -> Counts {
    let count = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, count) = (words.next()?, words.next()?);
        Some((name.to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(count).collect::<BTreeMap<_, _>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_valgrind_and_the_verifier_print_is_read() {
        let said = "==7== Events    : Ir\n==7== Collected : 12345\n==7==\n";
        assert_eq!(collected(said), Some(12345));
        assert_eq!(
            collected("==7== Collected : 0\n"),
            None,
            "nothing was found"
        );
        assert_eq!(collected("valgrind: no such file\n"), None);
        let walked = walked("datetime_now   1263 walked   812 bytes\n\n");
        assert_eq!(walked, [("datetime_now".to_owned(), 1263)].into());
    }
}
