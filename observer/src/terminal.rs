//! Capabilities of the terminal.

use std::env;

/// Whether to use colours: the terminal has them, and neither `refused` nor `NO_COLOR` forbids them.
#[must_use]
pub fn has_colors(refused: bool) -> bool {
    // https://no-color.org: any value but the empty one.
    let is_refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let term = env::var("TERM").unwrap_or_default();
    let has_none =
        term.is_empty() || term == "dumb" || term.starts_with("vt") || term.ends_with("-m");
    !refused && !is_refused && !has_none
}
