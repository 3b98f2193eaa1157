//! What a source file declares and imports.

use super::tokens::{Token, tokens};

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Modules in files of their own that are not only for tests, with the `path` attribute.
    pub modules: Vec<(String, Option<String>)>,
    /// Paths that begin with `crate` or `super`.
    pub paths: Vec<Vec<String>>,
}

/// Reads a source file. What only tests have is skipped.
pub fn read(source: &str) -> Source {
    let tokens = tokens(source);
    let mut read = Source::default();
    let mut path = None;
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        if let Some(length) = attribute(rest) {
            let inside = &rest[..length];
            at += length;
            if is_test(inside) {
                at += item(&tokens[at..]);
            } else if inside.get(2).is_some_and(|token| token.is_word("path")) {
                path = inside.iter().find_map(|token| match token {
                    Token::Text(text) => Some(text.clone()),
                    _ => None,
                });
            }
        } else if let [
            Token::Word(keyword),
            Token::Word(name),
            Token::Sign(';'),
            ..,
        ] = rest
            && keyword == "mod"
        {
            read.modules.push((name.clone(), path.take()));
            at += 3;
        } else if rest[0].is_word("crate") || rest[0].is_word("super") {
            at += tree(rest, &[], &mut read.paths);
        } else {
            at += 1;
        }
    }
    read
}

/// The length of the attribute at the start.
fn attribute(tokens: &[Token]) -> Option<usize> {
    match tokens {
        [Token::Sign('#'), Token::Sign('['), ..] => Some(1 + closed(&tokens[1..])),
        _ => None,
    }
}

/// `#[cfg(test)]` or `#[test]`.
fn is_test(attribute: &[Token]) -> bool {
    let words: Vec<_> = attribute
        .iter()
        .filter_map(|token| match token {
            Token::Word(word) => Some(word.as_str()),
            _ => None,
        })
        .collect();
    words == ["cfg", "test"] || words == ["test"]
}

/// The length of the item at the start, with more attributes.
fn item(tokens: &[Token]) -> usize {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            Token::Sign(';') => return at + 1,
            Token::Sign('{') => return at + closed(&tokens[at..]),
            Token::Sign('[' | '(') => at += closed(&tokens[at..]),
            _ => at += 1,
        }
    }
    at
}

/// The length from the bracket at the start to the one that closes it.
fn closed(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('{' | '[' | '(') => depth += 1,
            Token::Sign('}' | ']' | ')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Reads a path or a tree of paths; returns the number of tokens it has.
fn tree(tokens: &[Token], before: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(Token::Word(word)) => path.push(word.clone()),
            Some(Token::Sign('{')) => {
                let end = at + closed(&tokens[at..]);
                at += 1;
                while at + 1 < end {
                    at += tree(&tokens[at..end], &path, paths).max(1);
                }
                return end;
            }
            _ => break,
        }
        at += 1;
        match tokens.get(at..at + 2) {
            Some([Token::Sign(':'), Token::Sign(':')]) => at += 2,
            _ => break,
        }
    }
    if path.len() > before.len() {
        paths.push(path);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        let paths = read(source).paths;
        paths.iter().map(|path| path.join("::")).collect()
    }

    #[test]
    fn paths_are_found_in_imports_and_code() {
        for (source, expected) in [
            ("use crate::a;", vec!["crate::a"]),
            (
                "use crate::{a, b::{c, d}, e};",
                vec!["crate::a", "crate::b::c", "crate::b::d", "crate::e"],
            ),
            ("use crate::a::b as c; d();", vec!["crate::a::b"]),
            ("use crate::a::*;", vec!["crate::a"]),
            (
                "fn f() { crate::a::g::<u8>(super::h) }",
                vec!["crate::a::g", "super::h"],
            ),
            ("pub(crate) fn f() {}", vec!["crate"]),
            ("use std::fs;", vec![]),
            ("// crate::a", vec![]),
        ] {
            assert_eq!(paths(source), expected, "{source}");
        }
    }

    #[test]
    fn what_only_tests_have_is_skipped() {
        for source in [
            "#[cfg(test)] use crate::a;",
            "#[cfg(test)] mod tests { use crate::a; fn f() {} }",
            "#[cfg(test)] #[path = \"a_tests.rs\"] mod tests;",
            "#[test] fn f() { crate::a() }",
        ] {
            assert_eq!(read(source), Source::default(), "{source}");
        }
        assert_eq!(paths("#[cfg(test)] mod a; use crate::b;"), ["crate::b"]);
    }

    #[test]
    fn modules_in_files_are_found() {
        let modules = read("pub mod a; mod b { mod c {} } #[path = \"d/e.rs\"] mod e;").modules;
        assert_eq!(
            modules,
            [("a".into(), None), ("e".into(), Some("d/e.rs".into()))]
        );
    }
}
