//! Text of observed processes: anybody may have written it.

use serde::{Deserialize, Serialize};

/// A text that an observed process, or a client of it, chose.
///
/// It has no `Display`: an output says what it is for, and forgetting to clean it is a compile
/// error. In JSON it is a string as it is, which JSON escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Untrusted(String);

impl Untrusted {
    /// The text for a terminal or a log: no control characters, nothing written from right to left,
    /// which would turn what is beside it, and at most `limit` characters.
    #[must_use]
    pub fn for_terminal(&self, limit: usize) -> String {
        let mut shown = String::new();
        for (at, c) in self.0.chars().enumerate() {
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

    /// The text for the value of a label, which the text formats escape.
    #[must_use]
    pub fn for_label(&self) -> &str {
        &self.0
    }

    /// The text itself, to compare and to count by, never to show.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Untrusted {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Untrusted {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Whether a letter is of a block that is written from right to left
/// (Unicode 16, `DerivedBidiClass.txt`).
fn is_right_to_left(c: char) -> bool {
    matches!(u32::from(c),
        0x0590..=0x08ff | 0xfb1d..=0xfdff | 0xfe70..=0xfeff | 0x1_0800..=0x1_0fff | 0x1_e800..=0x1_efff)
}
