//! Each interpreter with each worker class, and each Gunicorn, at least once: a part of
//! `cargo xtask test matrix`. In a quick run each interpreter, class and Gunicorn at least once.

use anyhow::{Result, ensure};
use end_to_end::{
    extent,
    matrix::{place::Place, product, run},
    observer, skip,
};

#[test]
fn every_interpreter_every_gunicorn_and_every_class_is_observed_in_full() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let all = product::all();
    let cells = extent::of(product::spanning(&all), product::covering(&all));
    let rows = run::run(&Place::find()?, &observer::binary()?, &cells, |_| ())?;
    ensure!(!rows.is_empty(), "no cell was tried");
    let wrong: Vec<_> = rows
        .iter()
        .filter(|row| !row.wrong().is_empty())
        .map(|row| format!("{}: {}", row.cell, row.wrong().join("; ")))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
