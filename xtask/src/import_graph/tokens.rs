//! Rust source as tokens: enough of the language to find paths, modules and attributes.

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    Word(String),
    /// A string literal, without its quotes.
    Text(String),
    Sign(char),
}

impl Token {
    pub fn is_word(&self, wanted: &str) -> bool {
        matches!(self, Self::Word(word) if word == wanted)
    }
}

/// The tokens of `source`, without comments and character literals.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let (token, length) = if rest.starts_with("//") {
            (None, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (None, block_comment(rest))
        } else if let Some((text, length)) = raw_string(rest) {
            (Some(Token::Text(text)), length)
        } else if c == '"' {
            let length = quoted(rest, '"');
            let text = rest[1..length].trim_end_matches('"');
            (Some(Token::Text(text.to_owned())), length)
        } else if c == '\'' {
            (None, character_or_lifetime(rest))
        } else if c.is_alphabetic() || c == '_' {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            (Some(Token::Word(rest[..length].to_owned())), length)
        } else if c.is_whitespace() {
            (None, c.len_utf8())
        } else {
            (Some(Token::Sign(c)), c.len_utf8())
        };
        found.extend(token);
        rest = &rest[length..];
    }
    found
}

/// The length of the comment at the start; comments nest.
fn block_comment(source: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < source.len() {
        if source[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if source[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += source[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    source.len()
}

/// The text and length of a raw string at the start: `r"…"`, `r#"…"#`, `br#"…"#`.
fn raw_string(source: &str) -> Option<(String, usize)> {
    let behind = source
        .strip_prefix("br")
        .or_else(|| source.strip_prefix("cr"))
        .or_else(|| source.strip_prefix('r'))?;
    let hashes = behind.len() - behind.trim_start_matches('#').len();
    let body = behind[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end)?;
    let all = source.len() - body.len() + length + end.len();
    Some((body[..length].to_owned(), all))
}

/// The length of the literal in these quotes at the start.
fn quoted(source: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in source.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    source.len()
}

/// The length of `'a'`, `'\n'` or `'a`.
fn character_or_lifetime(source: &str) -> usize {
    let mut characters = source.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), _) => quoted(source, '\''),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str) -> String {
        let shown = |token: &Token| match token {
            Token::Word(word) => word.clone(),
            Token::Text(text) => format!("<{text}>"),
            Token::Sign(sign) => sign.to_string(),
        };
        tokens(source)
            .iter()
            .map(shown)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn comments_and_literals_hide_what_looks_like_code() {
        for (source, expected) in [
            ("a // crate::b\nc", "a c"),
            ("a /* crate /* b */ d */ c", "a c"),
            (r#"a("crate::\"b")"#, r#"a ( <crate::\"b> )"#),
            (r##"r#"x"y"# z"##, r#"<x"y> z"#),
            ("'a' b '\\'' c", "b c"),
            ("&'a str", "& a str"),
            ("'\"' x", "x"),
            ("use crate::a;", "use crate : : a ;"),
        ] {
            assert_eq!(shown(source), expected, "{source}");
        }
    }
}
