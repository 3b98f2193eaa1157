//! Why requests fail: what the observer tells of each 5xx, of each exception that leaves an
//! application and of each that Gunicorn handles, held against what Python did.

use anyhow::{Result, ensure};
use end_to_end::{
    errors::{framework::STANDS, run},
    matrix::place::Place,
    observer, skip,
};

#[test]
fn each_error_of_each_framework_is_told_with_its_class_and_its_function() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let rows = run::run(&Place::find()?, &observer::binary()?, &STANDS)?;
    ensure!(!rows.is_empty(), "no shop was tried");
    let tried: usize = rows.iter().map(|row| row.cases.len()).sum();
    let wrong: Vec<_> = rows.iter().flat_map(run::Row::all_wrong).collect();
    ensure!(
        wrong.is_empty(),
        "{} of {tried} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}
