//! What a terminal can show.

use std::env;

/// Whether colours are wanted, and the terminal has any.
#[must_use]
pub fn has_colors(refused: bool) -> bool {
    // https://no-color.org: whatever it is set to, unless to nothing.
    let is_refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let term = env::var("TERM").unwrap_or_default();
    let has_none =
        term.is_empty() || term == "dumb" || term.starts_with("vt") || term.ends_with("-m");
    !refused && !is_refused && !has_none
}
