//! Which privileged tests run, and which of them side by side.

use anyhow::Result;

use crate::programs::Program;

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything once, at its most telling.
    Quick,
    Full,
}

/// One test to run.
pub struct Test<'a> {
    pub program: &'a Program,
    pub name: String,
    /// It runs while others do.
    pub is_beside: bool,
}

/// A file of tests.
pub struct File {
    pub name: &'static str,
    /// Its tests run while others do, but for those in `alone`.
    pub is_beside: bool,
    /// Names of tests that need the host for themselves.
    pub alone: &'static [&'static str],
    /// Tests that the quick run leaves out, with the reason; a test named `""` is all.
    pub left_out: &'static [(&'static str, &'static str)],
}

/// The tests to run: those whose name contains `filter`, which includes the name of their file.
pub fn tests<'a>(
    programs: &'a [Program],
    extent: Extent,
    filter: Option<&str>,
) -> Result<Vec<Test<'a>>> {
    let mut tests = Vec::new();
    for program in programs {
        for name in program.tests()? {
            if filter.is_none_or(|filter| format!("{}::{name}", program.name).contains(filter)) {
                tests.push(Test {
                    program,
                    name,
                    is_beside: false,
                });
            }
        }
    }
    let _ = extent;
    Ok(tests)
}
