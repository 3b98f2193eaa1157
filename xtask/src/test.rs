//! `cargo xtask test`: every test, or a part of them.

use anyhow::{Result, bail};

use crate::{
    ci::is_ci,
    cost, errors, fuzz, lint, matrix, offsets,
    parts::Part,
    privileged::{self, plan::Extent},
    rust,
    step::make_missing,
    tally::{Finished, Outcome, Tally},
    vm,
    workspace::Workspace,
};

/// Run the tests, or a part of them
///
/// Without a part: every test once, the longest of them shortened. docs/TESTING.md lists what only
/// `all` runs.
#[derive(clap::Args)]
pub struct Arguments {
    /// Run only this part
    #[arg(value_enum)]
    part: Option<Part>,
    /// Only tests whose name contains this. Of the matrix: only cells with an interpreter, a
    /// Gunicorn version or a class that begins with each word. Of the errors: only frameworks and
    /// interpreters whose name contains each word
    filter: Vec<String>,
    /// Of the matrix: only a part that covers each interpreter with each class, and each Gunicorn
    #[arg(long)]
    subset: bool,
    /// Of `privileged`: as much as `cargo xtask test` runs of it
    #[arg(long)]
    quick: bool,
    /// Write the matrix to docs/MATRIX.md, the errors to docs/ERRORS.md, the counts of `cost` to
    /// xtask/cost.toml
    #[arg(long)]
    write: bool,
}

/// Without a part named.
const QUICK: &[Part] = &[
    Part::Lint,
    Part::Unit,
    Part::Fuzz,
    Part::Cost,
    Part::Privileged,
];

/// In `all`. The matrix and the errors have tests among the privileged ones.
const ALL: &[Part] = &[
    Part::Lint,
    Part::Unit,
    Part::Fuzz,
    Part::Cost,
    Part::Privileged,
    Part::Vm,
];

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let filter = filter(arguments)?;
    let (parts, extent) = match arguments.part {
        None => (QUICK, Extent::Quick),
        Some(Part::All) => (ALL, Extent::Full),
        Some(ref part) if arguments.quick => (std::slice::from_ref(part), Extent::Quick),
        Some(ref part) => (std::slice::from_ref(part), Extent::Full),
    };
    let mut tally = Tally::default();
    let run = Run {
        workspace,
        arguments,
        extent,
        filter,
    };
    let mut chosen = Vec::new();
    for &part in parts {
        match unable(part) {
            None => chosen.push(part),
            // A skip must not pass for a success where nothing else was asked for.
            Some(reason) if arguments.part.is_some() || is_ci() => bail!("{reason}"),
            Some(reason) => tally.add(Outcome {
                name: part.name().to_owned(),
                took: std::time::Duration::ZERO,
                result: Finished::Skipped(reason),
            }),
        }
    }
    println!("== set-up");
    let is_set_up = |part: &Part| {
        let made = tally.setup(|| make_missing(part.steps(), workspace));
        tally.fail_on_error(&format!("set-up of {}", part.name()), made)
    };
    chosen.retain(is_set_up);
    for part in chosen {
        let done = run.part(part, &mut tally);
        tally.fail_on_error(part.name(), done);
    }
    tally.finish()
}

/// The one word that selects tests by their name.
fn filter(arguments: &Arguments) -> Result<Option<&str>> {
    let takes = |parts: &[Part]| arguments.part.is_some_and(|part| parts.contains(&part));
    if arguments.subset && !takes(&[Part::Matrix]) {
        bail!("--subset is an option of `cargo xtask test matrix`");
    }
    if arguments.quick && !takes(&[Part::Privileged]) {
        bail!("--quick is an option of `cargo xtask test privileged`");
    }
    if arguments.write && !takes(&[Part::Matrix, Part::Errors, Part::Cost]) {
        bail!("--write is an option of `cargo xtask test` with `matrix`, `errors` or `cost`");
    }
    match arguments.filter.as_slice() {
        _ if takes(&[Part::Matrix, Part::Errors]) => Ok(None),
        [] => Ok(None),
        [filter] if takes(&[Part::Unit, Part::Fuzz, Part::Privileged]) => Ok(Some(filter)),
        [first] => bail!("`{first}`: this part has no tests to choose by name"),
        [_, more, ..] => bail!("`{more}`: only one part of a test's name can be given"),
    }
}

/// Why a part cannot run here.
fn unable(part: Part) -> Option<String> {
    if !part.needs_root() || nix::unistd::geteuid().is_root() {
        return None;
    }
    Some(format!(
        "loading probes needs root; run `sudo -E env \"PATH=$PATH\" cargo xtask test {}`",
        part.name()
    ))
}

struct Run<'a> {
    workspace: &'a Workspace,
    arguments: &'a Arguments,
    extent: Extent,
    filter: Option<&'a str>,
}

impl Run<'_> {
    fn part(&self, part: Part, tally: &mut Tally) -> Result<()> {
        let workspace = self.workspace;
        match part {
            Part::Lint => {
                tally.lint(|tally| lint::run(workspace, self.extent, tally));
                Ok(())
            }
            Part::Unit => {
                let programs =
                    tally.build(|| rust::build_unit(workspace, rust::Features::Shipped))?;
                tally.tests("unit", |tally| {
                    rust::unit(&programs, self.filter, tally)?;
                    if self.filter.is_none() {
                        tally.check("offsets", offsets::check);
                    }
                    Ok(())
                })
            }
            Part::Fuzz => {
                let targets = tally.build(|| fuzz::build(workspace, self.filter))?;
                tally.tests("fuzz", |tally| {
                    fuzz::run(workspace, &targets, tally);
                    Ok(())
                })
            }
            Part::Cost => {
                tally.build(|| workspace.build_observer())?;
                tally.tests("cost", |tally| {
                    tally.check("cost", || cost::run(workspace, self.arguments.write));
                    Ok(())
                })
            }
            Part::Privileged => {
                let built = tally.build(|| privileged::build(workspace))?;
                tally.tests("privileged", |tally| {
                    privileged::run(workspace, &built, self.extent, self.filter, tally)
                })
            }
            Part::Vm => {
                let built = tally.build(|| vm::build(workspace))?;
                tally.tests("vm", |tally| {
                    vm::gate(workspace, &built, tally);
                    Ok(())
                })
            }
            Part::Matrix => {
                let choice = matrix::Choice {
                    subset: self.arguments.subset,
                    words: &self.arguments.filter,
                    write: self.arguments.write,
                };
                let observer = tally.build(|| workspace.build_observer())?;
                tally.tests("matrix", |tally| {
                    tally.check("matrix", || matrix::run(workspace, &observer, &choice));
                    Ok(())
                })
            }
            Part::Errors => {
                let (words, write) = (&self.arguments.filter, self.arguments.write);
                let observer = tally.build(|| workspace.build_observer())?;
                tally.tests("errors", |tally| {
                    tally.check("errors", || errors::run(workspace, &observer, words, write));
                    Ok(())
                })
            }
            // A list of the others.
            Part::All => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{ALL, QUICK};

    #[test]
    fn the_document_lists_the_parts_that_only_all_runs() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/TESTING.md");
        let document = fs::read_to_string(path).expect("docs/TESTING.md");
        for part in ALL.iter().filter(|part| !QUICK.contains(part)) {
            let row = format!("| `{}` | nothing | ", part.name());
            assert!(document.contains(&row), "not in docs/TESTING.md: {row}");
        }
    }
}
