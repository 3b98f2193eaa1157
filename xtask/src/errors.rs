//! `cargo xtask test errors`: every way a request fails under every framework, as a table.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use end_to_end::errors::{
    framework::{STANDS, Stand},
    run, table,
};

use crate::workspace::Workspace;

const DOCUMENT: &str = "docs/ERRORS.md";

pub fn run(workspace: &Workspace, observer: &Path, words: &[String], write: bool) -> Result<()> {
    let stands: Vec<Stand> = STANDS
        .into_iter()
        .filter(|stand| stand.matches(words))
        .collect();
    if stands.is_empty() {
        bail!(
            "no framework and interpreter has all of `{}` in its name",
            words.join(" ")
        );
    }
    if write && stands.len() != STANDS.len() {
        bail!("{DOCUMENT} is written of all frameworks only");
    }
    let outcome = run::run(&workspace.matrix(), observer, &stands)?;
    let agreement = agreement(&outcome);
    let rows = outcome.rows;
    let table = table::markdown(&rows);
    println!("\n{table}\n{agreement}");
    let wrong = run::wrong(&rows);
    for line in &wrong {
        println!("WRONG: {line}");
    }
    if !wrong.is_empty() {
        let (tried, wrong_cases) = run::counts(&rows);
        bail!("{wrong_cases} of {tried} are wrong");
    }
    if write {
        if rows.len() != STANDS.len() {
            bail!("{DOCUMENT} is not written: this machine lacks interpreters, named above");
        }
        let path = workspace.root.join(DOCUMENT);
        fs::write(&path, document(&table, &agreement))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// How far deep capture can be relied on.
fn agreement(outcome: &run::Outcome) -> String {
    format!(
        "Of {} 5xx whose exception was known anyway while deep capture ran, deep capture alone would have named\n\
         the same class and function for {}.",
        outcome.checked, outcome.agreed
    )
}

const HEAD: &str = "\
# Error attribution accuracy

Does the observer name the right exception? A shop of each framework fails in every way below, under the
interpreters and Gunicorns of the second table. A test compares what the observer reports with what
Python did: status, class and function of the exception behind each 5xx (`gunicorn_http_errors_total`),
exceptions that left the application (`gunicorn_worker_failed_requests_total`), and exceptions that
Gunicorn handled (`gunicorn_worker_error_handling_total`).

A cell has the response, the party that sent it, and in how many of the tested places the observer was
right. A dash means that the framework has no way to do it.
`unknown` means that there was an exception, or none, and the observer cannot know it:
[LIMITATIONS.md](LIMITATIONS.md#event-loops) has the reasons. A cell with `1 unknown` expects that in one
of its places, and the exception in the others.

`cargo xtask test errors --write` writes this file. The shops are in `tests/apps/errors`; the expected
result of each request is data in `tests/src/errors/case.rs`.
";

fn document(table: &str, agreement: &str) -> String {
    format!("{HEAD}\n{table}\n{agreement}\n")
}
