//! The commands that are more than starting the daemon.

pub mod doctor;
pub mod list;
pub mod replay;

/// A text of an observed process, made fit for a terminal: no control characters,
/// and no more than `limit` characters of it.
#[must_use]
pub(crate) fn shown(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == limit {
            shown.push('…');
            break;
        }
        match c {
            // Harmless, and common in prose.
            '"' | '\'' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}
