//! `cargo xtask test matrix`: every interpreter with every Gunicorn and worker class, as a table.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use end_to_end::matrix::{
    cell,
    product::{self, Cell},
    run::{self, Row},
    table,
};

use crate::workspace::Workspace;

const DOCUMENT: &str = "docs/MATRIX.md";

/// The cells to run, and whether to write the table.
pub struct Choice<'a> {
    /// Only a part that covers each interpreter with each class, and each Gunicorn.
    pub subset: bool,
    /// Only cells with a part that begins with each word.
    pub words: &'a [String],
    /// Write the table to the document.
    pub write: bool,
}

pub fn run(workspace: &Workspace, observer: &Path, choice: &Choice<'_>) -> Result<()> {
    let cells = choice.cells()?;
    if choice.write && cells.len() != product::all().len() {
        bail!(
            "{DOCUMENT} is written of all cells only, not of {}",
            cells.len()
        );
    }
    let rows = run::run(&workspace.matrix(), observer, &cells, print)?;
    println!("\n{}", table::markdown(&rows));
    let tried = rows.iter().filter(|row| row.outcome.is_ok()).count();
    let wrong = rows.iter().filter(|row| !row.wrong().is_empty()).count();
    if wrong > 0 {
        bail!("{wrong} of {tried} cells are wrong");
    }
    if choice.write {
        if rows.len() != cells.len() {
            bail!("{DOCUMENT} is not written: this machine lacks interpreters, named above");
        }
        let path = workspace.root.join(DOCUMENT);
        fs::write(&path, document(&rows))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{tried} cells are right, {} cannot run", rows.len() - tried);
    Ok(())
}

impl Choice<'_> {
    fn cells(&self) -> Result<Vec<Cell>> {
        let all = product::all();
        let part = if self.subset {
            product::spanning(&all)
        } else {
            all
        };
        let chosen: Vec<_> = part
            .into_iter()
            .filter(|cell| cell.matches(self.words))
            .collect();
        if chosen.is_empty() {
            bail!("no cell has all of `{}` in its name", self.words.join(" "));
        }
        Ok(chosen)
    }
}

/// Prints a line for each cell.
fn print(rows: &[Row]) {
    for row in rows {
        match &row.outcome {
            Err(reason) => println!("{}: does not run: {reason}", row.cell),
            Ok(outcome) => {
                let p99 = outcome
                    .p99_us
                    .map_or_else(|| "?".to_owned(), |us| us.to_string());
                println!(
                    "{}: {} {}: {}/{} requests, {p99} µs off at p99, class and age before: {}",
                    row.cell,
                    outcome.level,
                    outcome.reason,
                    outcome.counted,
                    outcome.sent,
                    if outcome.known_before {
                        "right"
                    } else {
                        "NOT right"
                    },
                );
                for wrong in &outcome.wrong {
                    println!("    WRONG: {}", wrong.replace('\n', "\n        "));
                }
            }
        }
    }
}

fn document(rows: &[Row]) -> String {
    format!(
        "\
# Compatibility

Each CPython with each Gunicorn and worker class, as tested: `cargo xtask test matrix --write` runs each of
these Gunicorns with two workers, sends it {} requests, fails if a cell is wrong, and writes this file.

A cell has the observation level, requests counted / sent, the difference between durations and the
access log at the 99th percentile, and whether class and age of each worker were known before its first
request. A dash marks what Gunicorn itself does not run; the number leads to the reason below.

{}",
        cell::REQUESTS,
        table::markdown(rows)
    )
}
