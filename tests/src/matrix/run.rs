//! Many cells, tried one after the other.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{
    cell::{self, Outcome, Tried},
    place::Place,
    product::{Cell, INTERPRETERS},
};
use crate::{observer::Observer, skip};

/// A cell and its result.
pub struct Row {
    pub cell: Cell,
    /// `Err` has the reason why Gunicorn itself does not run so.
    pub outcome: Result<Outcome, &'static str>,
}

impl Row {
    /// Mistakes, one a line.
    #[must_use]
    pub fn wrong(&self) -> &[String] {
        match &self.outcome {
            Ok(outcome) => &outcome.wrong,
            Err(_) => &[],
        }
    }
}

/// Tries cells: those of an interpreter under one observer of the whole host. `finished` gets the
/// rows of each interpreter. An interpreter that is not on this machine is skipped, and fails under CI.
pub fn run(
    place: &Place,
    binary: &Path,
    cells: &[Cell],
    mut finished: impl FnMut(&[Row]),
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for interpreter in INTERPRETERS {
        let mine = cells.iter().filter(|cell| cell.interpreter == interpreter);
        let mine: Vec<_> = mine.copied().collect();
        if mine.is_empty() {
            continue;
        }
        if !place.has(interpreter) {
            skip::unless_ci(&format!(
                "no interpreter {}: `cargo xtask setup` says how to come by it",
                interpreter.name
            ))?;
            continue;
        }
        let of_one = one_interpreter(place, binary, &mine)
            .with_context(|| format!("under {}", interpreter.name))?;
        finished(&of_one);
        rows.extend(of_one);
    }
    Ok(rows)
}

fn one_interpreter(place: &Place, binary: &Path, cells: &[Cell]) -> Result<Vec<Row>> {
    // What ended is forgotten at once: each scrape has one cell only.
    let observer = Observer::start_with(binary, true, ["--keep-ended", "1s"])?;
    let mut tried: Vec<(Cell, Result<Result<Tried>, &'static str>)> = Vec::new();
    for cell in cells {
        let outcome = match cell.cannot_run() {
            Some(reason) => Err(reason),
            None => Ok(cell::try_one(place, cell, &observer)),
        };
        tried.push((*cell, outcome));
    }
    let stopped = observer.stop()?;
    let facts = stopped.requests()?;
    let judged = |tried: Result<Tried>| match tried {
        Ok(tried) => tried.judge(&facts),
        Err(error) => Outcome {
            wrong: vec![first_lines(&format!("{error:#}"))],
            ..Outcome::default()
        },
    };
    let row = |(cell, tried): (Cell, Result<Result<Tried>, &'static str>)| Row {
        cell,
        outcome: tried.map(judged),
    };
    Ok(tried.into_iter().map(row).collect())
}

/// The first lines of an error that may contain a whole scrape.
fn first_lines(text: &str) -> String {
    const LINES: usize = 30;
    let lines: Vec<_> = text.lines().take(LINES).collect();
    lines.join("\n")
}
