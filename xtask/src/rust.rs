//! Checks that need Rust and nothing else.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::{
    command,
    programs::{self, Program},
    tally::{Finished, Outcome, Tally},
    words,
    workspace::Workspace,
};

/// Cargo features of the observer to check and test with.
#[derive(Clone, Copy)]
pub enum Features {
    /// Those of a plain `cargo build`.
    Default,
    /// Those of the image and the packages.
    Shipped,
}

impl Features {
    /// The arguments of cargo.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Default => &[],
            Self::Shipped => &["--features", "gunicorn-observer/kubernetes"],
        }
    }
}

/// Format, words, clippy and rustdoc of userspace, warnings as errors.
pub fn lint(workspace: &Workspace, features: Features, tally: &mut Tally) {
    tally.check("format", || {
        run(workspace, &["fmt", "--all", "--check"])?;
        let fuzz = ["fmt", "--manifest-path", "tests/fuzz/Cargo.toml", "--check"];
        run(workspace, &fuzz)
    });
    tally.check("words", || words::check(&workspace.root, &[]));
    tally.check("clippy", || {
        let mut clippy = cargo(workspace, &["clippy", "--workspace", "--all-targets"]);
        clippy.args(features.arguments());
        command::run(clippy.args(["--", "-D", "warnings"]))
    });
    tally.check("rustdoc", || {
        let mut doc = cargo(workspace, &["doc", "--workspace", "--no-deps", "--quiet"]);
        doc.args(features.arguments());
        command::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
}

/// A cargo command over userspace: the observer is built without its eBPF programs.
pub fn cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = command::cargo();
    command
        .args(arguments)
        .current_dir(&workspace.root)
        .env("AYA_BUILD_SKIP", "1");
    command
}

fn run(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    command::run(&mut cargo(workspace, arguments))
}

/// Builds the unit tests.
pub fn build_unit(workspace: &Workspace, features: Features) -> Result<Vec<Program>> {
    let mut programs = programs::build(workspace, features.arguments())?;
    // The library of the privileged tests has unit tests of its own.
    programs.extend(programs::build(
        workspace,
        &["--package", "end-to-end", "--lib"],
    )?);
    Ok(programs)
}

/// Runs the unit tests whose name contains `filter`.
pub fn unit(programs: &[Program], filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let mut count = 0;
    for program in programs {
        let outcomes = run_all(program, filter)?;
        println!("{}: {} tests", program.name, outcomes.len());
        count += outcomes.len();
        for outcome in outcomes {
            tally.add_quietly(outcome);
        }
    }
    // A slip in the filter must not pass for a success.
    match filter {
        Some(filter) if count == 0 => bail!("no unit test has `{filter}` in its name"),
        _ => Ok(()),
    }
}

fn run_all(program: &Program, filter: Option<&str>) -> Result<Vec<Outcome>> {
    let output = Command::new(&program.path)
        .args(filter)
        .args(["-Zunstable-options", "--report-time"])
        .current_dir(&program.folder)
        // Lets the test harness report times.
        .env("RUSTC_BOOTSTRAP", "1")
        .output()
        .with_context(|| format!("cannot start {}", program.path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut outcomes = Vec::new();
    for line in text.lines() {
        let Some((name, took, is_ok)) = finished(line) else {
            continue;
        };
        let result = if is_ok {
            Finished::Passed
        } else {
            Finished::Failed(failure(&text, name).to_owned())
        };
        outcomes.push(Outcome {
            name: format!("{}::{name}", program.name),
            took,
            result,
        });
    }
    let is_failed = |outcome: &Outcome| matches!(outcome.result, Finished::Failed(_));
    if !output.status.success() && !outcomes.iter().any(is_failed) {
        bail!(
            "{} exited with {}:\n{text}{}",
            program.path.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(outcomes)
}

/// Name, time and success of a test, from its line.
fn finished(line: &str) -> Option<(&str, Duration, bool)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    let (word, time) = rest.split_once(" <")?;
    let seconds = time.strip_suffix("s>")?.parse().ok()?;
    Some((name, Duration::from_secs_f64(seconds), word == "ok"))
}

/// The output of a failed test.
fn failure<'a>(text: &'a str, name: &str) -> &'a str {
    let head = format!("---- {name} stdout ----");
    let Some((_, behind)) = text.split_once(&head) else {
        return "";
    };
    let end = behind
        .find("\n---- ")
        .or_else(|| behind.find("\n\nfailures:"));
    behind[..end.unwrap_or(behind.len())].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tests_are_read() {
        for (line, expected) in [
            ("test a::b ... ok <0.250s>", Some(("a::b", 250, true))),
            ("test a ... FAILED <1.000s>", Some(("a", 1000, false))),
            (
                "test a - should panic ... ok <0.000s>",
                Some(("a", 0, true)),
            ),
            ("test a ... ignored", None),
            ("test result: ok. 1 passed; 0 failed", None),
        ] {
            let expected = expected.map(|(name, ms, ok)| (name, Duration::from_millis(ms), ok));
            assert_eq!(finished(line), expected, "{line}");
        }
    }

    #[test]
    fn the_output_of_a_failed_test_is_found() {
        let text = "failures:\n\n---- a stdout ----\nwrong\n\n---- b stdout ----\nbad\n\n\nfailures:\n    a\n";
        assert_eq!(failure(text, "a"), "wrong");
        assert_eq!(failure(text, "b"), "bad");
        assert_eq!(failure(text, "c"), "");
    }
}
