//! Text of observed processes and their clients: anybody may have written it.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A text that an observed process, or a client of it, chose.
///
/// It has no `Display`: an output names the place the text goes to, and an output that forgets to
/// clean it does not compile. In JSON it is a plain string, which JSON escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Untrusted(Cow<'static, str>);

impl Untrusted {
    /// The text for a terminal or a log: at most `limit` characters, and escapes in place of control
    /// characters and of letters written from right to left, which would reorder the text beside
    /// them.
    #[must_use]
    pub fn for_terminal(&self, limit: usize) -> String {
        let mut clean = String::new();
        for (at, c) in self.0.chars().enumerate() {
            if at == limit {
                clean.push('…');
                break;
            }
            match c {
                // Harmless, and common in prose.
                '"' | '\'' => clean.push(c),
                c if is_right_to_left(c) => clean.extend(c.escape_unicode()),
                c => clean.extend(c.escape_debug()),
            }
        }
        clean
    }

    /// The text as it is: to compare, to count by, and for label values, which the text formats
    /// escape; never to display.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// Another text, in the memory of this one.
    #[must_use]
    pub fn renewed(self, text: &str) -> Self {
        let mut memory = self.0.into_owned();
        memory.clear();
        memory.push_str(text);
        memory.into()
    }

    /// Whether there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Untrusted {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Untrusted {
    fn from(text: &str) -> Self {
        Self(text.to_owned().into())
    }
}

impl From<Cow<'static, str>> for Untrusted {
    fn from(text: Cow<'static, str>) -> Self {
        Self(text)
    }
}

impl PartialEq<str> for Untrusted {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Untrusted {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

/// Whether a letter is of a block that is written from right to left
/// (Unicode 16, `DerivedBidiClass.txt`).
fn is_right_to_left(c: char) -> bool {
    matches!(u32::from(c),
        0x0590..=0x08ff | 0xfb1d..=0xfdff | 0xfe70..=0xfeff | 0x1_0800..=0x1_0fff | 0x1_e800..=0x1_efff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_a_terminal_has_no_character_that_drives_it() {
        let hostile = Untrusted::from("a\x1b[2J\u{9b}\r\n\u{202e}\u{5d0}\u{200b}\u{301}\"é日'");
        let escaped = r#"a\u{1b}[2J\u{9b}\r\n\u{202e}\u{5d0}\u{200b}\u{301}"é日'"#;
        assert_eq!(hostile.for_terminal(100), escaped);
    }

    #[test]
    fn text_for_a_terminal_is_cut_to_its_limit() {
        let text = Untrusted::from("日本語");
        assert_eq!(text.for_terminal(3), "日本語");
        assert_eq!(text.for_terminal(2), "日本…");
    }

    #[test]
    fn in_json_it_is_a_plain_string() {
        let text = Untrusted::from("a\"\n");
        let json = serde_json::to_string(&text).unwrap();
        assert_eq!(json, r#""a\"\n""#);
        assert_eq!(serde_json::from_str::<Untrusted>(&json).unwrap(), text);
    }
}
