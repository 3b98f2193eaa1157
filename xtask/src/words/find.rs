//! Finds retired words in a text.
//!
//! A text is read as one sequence of words, so that a phrase is found across the end of a line, in
//! `snake_case`, `SCREAMING_CASE` and `CamelCase`.

use super::retired::{RETIRED, Retired};

/// A retired word in a text.
pub struct Found {
    /// Counted from 1.
    pub line: usize,
    pub retired: &'static Retired,
}

struct Word {
    line: usize,
    lower: String,
    /// Only spaces, comment signs and joints of a name separate it from the word before.
    follows: bool,
}

/// Every retired word of `text`, in order. Of two that begin at the same word, the longer one.
pub fn find(text: &str) -> Vec<Found> {
    let words = words(text);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let longest = RETIRED
            .iter()
            .filter_map(|retired| Some((length_if_at(&words[at..], retired.phrase)?, retired)))
            .max_by_key(|(length, _)| *length);
        if let Some((length, retired)) = longest {
            found.push(Found {
                line: word.line,
                retired,
            });
            at += length;
        } else {
            at += 1;
        }
    }
    found
}

/// The number of words in `phrase`, if `words` begin with it.
fn length_if_at(words: &[Word], phrase: &str) -> Option<usize> {
    let mut length = 0;
    for part in phrase.split(' ') {
        let word = words.get(length)?;
        if word.lower != part || (length > 0 && !word.follows) {
            return None;
        }
        length += 1;
    }
    Some(length)
}

fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut line = 1;
    let mut follows = false;
    let mut before = ' ';
    for c in text.chars() {
        if c.is_alphanumeric() {
            let begins = !before.is_alphanumeric() || (c.is_uppercase() && before.is_lowercase());
            match words.last_mut().filter(|_| !begins) {
                Some(word) => word.lower.extend(c.to_lowercase()),
                None => {
                    words.push(Word {
                        line,
                        lower: c.to_lowercase().collect(),
                        follows,
                    });
                    follows = true;
                }
            }
        } else {
            follows &= c.is_whitespace() || "_-/!#*>".contains(c);
        }
        if c == '\n' {
            line += 1;
        }
        before = c;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrases(text: &str) -> Vec<(usize, &'static str)> {
        find(text)
            .iter()
            .map(|found| (found.line, found.retired.phrase))
            .collect()
    }

    #[test]
    fn a_word_is_found_whole_and_in_any_case() {
        assert_eq!(phrases("Likewise the next."), [(1, "likewise")]);
        assert_eq!(phrases("one\ntwo TELLS"), [(2, "tells")]);
        assert_eq!(phrases("a renewed storyteller secures amendments"), []);
    }

    #[test]
    fn a_phrase_is_found_across_lines_and_comment_signs() {
        assert_eq!(
            phrases("/// refused for want\n    /// of room"),
            [(1, "for want of")]
        );
        assert_eq!(phrases("* in\n  vain"), [(1, "in vain")]);
    }

    #[test]
    fn a_phrase_does_not_span_punctuation() {
        assert_eq!(phrases("put it in. vain"), []);
        assert_eq!(phrases("closer, look"), []);
    }

    #[test]
    fn names_in_code_are_read_as_words() {
        assert_eq!(
            phrases("fn is_told() -> CloserLook"),
            [(1, "told"), (1, "closer look")]
        );
        assert_eq!(phrases("const UNWOUND: u8"), [(1, "unwound")]);
    }

    #[test]
    fn the_longer_of_two_phrases_is_reported_once() {
        assert_eq!(phrases("they are told apart"), [(1, "told apart")]);
    }

    #[test]
    fn every_phrase_is_in_the_form_that_is_searched() {
        for Retired { phrase, instead } in RETIRED {
            assert_eq!(phrases(phrase), [(1, *phrase)]);
            assert!(find(instead).is_empty(), "`{instead}` has a retired word");
        }
    }
}
