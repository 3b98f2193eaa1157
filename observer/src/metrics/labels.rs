//! Labels of series: their text, and the key that series are sorted by.
//!
//! Label values come from observed processes and their clients, so they are cleaned: control
//! characters are replaced and long values are cut.

use std::cmp::Ordering;

/// Characters of a label value; the rest is cut off.
const MAX_VALUE_CHARS: usize = 256;
/// Ends each name and value of a key. No clean value contains it, and it sorts before all others.
pub const END: char = '\0';

/// Labels that several series share, such as those of a worker.
#[derive(Debug)]
pub struct Labels {
    /// Names and values, each followed by [`END`].
    key: String,
    /// The labels without braces, as every exposition format writes them.
    text: String,
}

/// No labels.
pub static NONE: Labels = Labels {
    key: String::new(),
    text: String::new(),
};

impl Labels {
    #[must_use]
    pub fn of(pairs: &[(&'static str, &str)]) -> Self {
        let (mut key, mut text) = (String::new(), String::new());
        for (name, value) in pairs {
            key.extend([name, "\0"]);
            let begin = key.len();
            push_value(&mut key, value);
            push_label(&mut text, name, key[begin..].trim_end_matches(END));
        }
        Self { key, text }
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Orders labels by name and value, the first label first.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        if std::ptr::eq(self, other) {
            return Ordering::Equal;
        }
        self.key.cmp(&other.key)
    }

    #[cfg(test)]
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut words = self.key.split_terminator(END);
        std::iter::from_fn(move || Some((words.next()?, words.next()?)))
    }
}

/// Appends a cleaned value and [`END`] to a key.
pub fn push_value(key: &mut String, value: &str) {
    let is_clean = |byte: u8| (b' '..=b'~').contains(&byte);
    if value.len() <= MAX_VALUE_CHARS && value.bytes().all(is_clean) {
        key.push_str(value);
    } else {
        let visible = |c: char| match c.is_control() {
            true => char::REPLACEMENT_CHARACTER,
            false => c,
        };
        key.extend(value.chars().take(MAX_VALUE_CHARS).map(visible));
    }
    key.push(END);
}

/// Appends a label with a cleaned value to the text of labels.
pub fn push_label(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    text.extend([name, "=\""]);
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'\\' | b'"')) {
        let (plain, special) = rest.split_at(at);
        let (special, after) = special.split_at(1);
        text.extend([plain, "\\", special]);
        rest = after;
    }
    text.extend([rest, "\""]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced_and_long_values_are_cut() {
        let value = |value: &str| {
            let labels = Labels::of(&[("name", value)]);
            labels.pairs().next().map(|(_, value)| value.to_owned())
        };
        assert_eq!(value("a\nb\0\u{85}").unwrap(), "a\u{fffd}b\u{fffd}\u{fffd}");
        let cut = value(&"é".repeat(1000)).unwrap();
        assert_eq!(cut.chars().count(), MAX_VALUE_CHARS);
    }

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        let labels = Labels::of(&[("a", "1"), ("b", "\\\"x\"")]);
        assert_eq!(labels.text(), r#"a="1",b="\\\"x\"""#);
    }

    #[test]
    fn labels_are_ordered_by_value_whatever_their_text() {
        let of = |value| Labels::of(&[("a", value), ("b", "1")]);
        let ordered = ["", "a", "a b", "a!", "a\"", "a\\", "b"].map(of);
        for pair in ordered.windows(2) {
            assert_eq!(pair[0].order(&pair[1]), Ordering::Less, "{pair:?}");
        }
    }
}
