//! Text of observed processes: anybody may have written it.

/// A text of an observed process, made fit for a terminal: no control characters,
/// nothing that is written from right to left, which would turn what is beside it,
/// and no more than `limit` characters of it.
#[must_use]
pub fn shown(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == limit {
            shown.push('…');
            break;
        }
        match c {
            // Harmless, and common in prose.
            '"' | '\'' => shown.push(c),
            c if is_right_to_left(c) => shown.extend(c.escape_unicode()),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// Whether it is of a block of letters written from right to left
/// (Unicode 16, `DerivedBidiClass.txt`).
fn is_right_to_left(c: char) -> bool {
    matches!(u32::from(c),
        0x0590..=0x08ff | 0xfb1d..=0xfdff | 0xfe70..=0xfeff | 0x1_0800..=0x1_0fff | 0x1_e800..=0x1_efff)
}
