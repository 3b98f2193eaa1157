//! How much a test does: `cargo xtask test` runs some tests with fewer repetitions than
//! `cargo xtask test all`. docs/TESTING.md lists them.

use std::env;

/// Set to `quick` by `cargo xtask test`.
const VARIABLE: &str = "GUNICORN_OBSERVER_EXTENT";

/// `full`, or `quick` in a quick run.
pub fn of<T>(full: T, quick: T) -> T {
    let is_quick = env::var(VARIABLE).is_ok_and(|extent| extent == "quick");
    if is_quick { quick } else { full }
}
