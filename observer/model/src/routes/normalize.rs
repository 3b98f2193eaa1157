//! Routes: paths reduced to few enough names to label a series with.
//!
//! First the operator's patterns, then a heuristic. [`crate::routes::tree`] makes one of many routes of
//! one level, and [`crate::routes::registry`] limits their number.

use crate::routes::glob;
use crate::routes::glob::Segment;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::str::FromStr;

/// Replaces a segment that names one thing of many.
pub(crate) const ID: &str = "{id}";
/// Replaces the end of a path that is unknown or too deep.
pub(crate) const REST: &str = "{rest}";
/// Segments of a route, at most.
pub(crate) const MAX_SEGMENTS: usize = 12;
/// A longer segment is an id.
const MAX_SEGMENT_CHARS: usize = 64;
/// A shorter part of a file's name is no hash.
const MIN_HASH_CHARS: usize = 8;
/// Length of a pattern, at most.
const MAX_PATTERN_BYTES: usize = 200;

/// An operator's route: `*` and `{name}` match one segment or a part of it, `**`
/// any number of segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

/// Why a text is not a pattern.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("route `{0}` does not begin with `/`; write it as `/users/{{id}}` or `/static/**`")]
    Relative(String),
    #[error("route `{0}` has a `{{` without its `}}`; write it as `/users/{{id}}`")]
    Brace(String),
    #[error("a route is longer than {MAX_PATTERN_BYTES} bytes; shorten it, `**` matches any rest")]
    Long,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::Long);
        }
        let Some(path) = text.strip_prefix('/') else {
            return Err(PatternError::Relative(text.to_owned()));
        };
        let segment = |segment: &str| {
            if segment == "**" {
                return Ok(Segment::Any);
            }
            // Every placeholder becomes a `*`.
            let mut glob = String::new();
            let mut rest = segment;
            while let Some((before, after)) = rest.split_once('{') {
                let brace = || PatternError::Brace(text.to_owned());
                let (_name, after) = after.split_once('}').ok_or_else(brace)?;
                glob.push_str(before);
                glob.push('*');
                rest = after;
            }
            glob.push_str(rest);
            Ok(Segment::Glob(glob))
        };
        let segments = path.split('/').map(segment).collect::<Result<_, _>>()?;
        Ok(Self {
            text: text.to_owned(),
            segments,
        })
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

impl Pattern {
    /// As the operator wrote it: the name of the route.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches `path`. The last segment of a `cut` path and all that follows it
    /// are unknown: only a `**` at the end of the pattern matches them.
    #[must_use]
    pub fn matches(&self, path: &str, cut: bool) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        let mut path: Vec<&str> = path.split('/').collect();
        if cut {
            if self.segments.last() != Some(&Segment::Any) {
                return false;
            }
            path.pop();
        }
        glob::matches(&self.segments, &path)
    }
}

/// The route of a path: the first pattern that matches, or the reduced path. The end of a `cut` path
/// is unknown.
#[must_use]
pub fn reduce<'a>(patterns: &'a [Pattern], path: &'a str, cut: bool) -> Cow<'a, str> {
    if let Some(pattern) = patterns.iter().find(|pattern| pattern.matches(path, cut)) {
        return Cow::Borrowed(pattern.as_str());
    }
    let Some(segments) = path.strip_prefix('/') else {
        // `*` of an OPTIONS request is the only target without a slash.
        return Cow::Borrowed(if path == "*" { "*" } else { "/" });
    };
    let mut route = String::with_capacity(path.len());
    let count = segments.split('/').count();
    for (index, segment) in segments.split('/').enumerate() {
        route.push('/');
        let is_last = index + 1 == count;
        if (index + 1 == MAX_SEGMENTS && !is_last) || (is_last && cut) {
            route.push_str(REST);
            break;
        }
        // Parameters of a segment (`;jsessionid=…`) are ids too.
        let segment = segment.split(';').next().unwrap_or_default();
        match segment.rsplit_once('.') {
            Some((stem, extension)) if is_extension(extension) && is_id(stem) => {
                route.push_str(ID);
                route.push('.');
                route.push_str(extension);
            }
            _ if is_id(segment) => route.push_str(ID),
            Some((stem, extension)) if is_extension(extension) => {
                push_file(&mut route, stem);
                route.push('.');
                route.push_str(extension);
            }
            _ => route.push_str(segment),
        }
    }
    Cow::Owned(route)
}

/// Adds a file's name without the hash that a build put into it: `app.3f2a91bc`, `index-DkX3a9Qz`.
fn push_file(route: &mut String, stem: &str) {
    for part in stem.split_inclusive(['.', '-']) {
        let text = part.trim_end_matches(['.', '-']);
        if is_build_hash(text) {
            route.push_str(ID);
            route.push_str(part.get(text.len()..).unwrap_or_default());
        } else {
            route.push_str(part);
        }
    }
}

/// Whether a part of a file's name is a hash or a date: eight or more hexadecimal digits, or as many
/// letters of both cases and digits.
fn is_build_hash(text: &str) -> bool {
    let any = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
    let all = |is: fn(&u8) -> bool| text.as_bytes().iter().all(is);
    let is_mixed = any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase);
    text.len() >= MIN_HASH_CHARS
        && any(u8::is_ascii_digit)
        && (all(u8::is_ascii_hexdigit) || is_mixed && all(u8::is_ascii_alphanumeric))
}

fn is_extension(text: &str) -> bool {
    (1..=5).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric())
}

/// Whether a segment names one thing of many: a number, a date, a UUID, a hash, a token.
fn is_id(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    if segment.chars().nth(MAX_SEGMENT_CHARS).is_some() {
        return true;
    }
    if digits == 0 {
        return false;
    }
    // 42, -1, 2024-01-31
    if bytes.iter().all(|b| b.is_ascii_digit() || *b == b'-') {
        return true;
    }
    // Hashes and UUIDs
    let hex = bytes.iter().filter(|b| b.is_ascii_hexdigit()).count();
    if hex >= 16 && bytes.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-') {
        return true;
    }
    // Base64, base62, ULID and similar tokens
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"-_=~".contains(b);
    if bytes.len() < 20 || !bytes.iter().all(token) {
        return false;
    }
    let upper = bytes.iter().any(u8::is_ascii_uppercase);
    let lower = bytes.iter().any(u8::is_ascii_lowercase);
    (upper && lower) || (digits >= 4 && bytes.iter().all(u8::is_ascii_alphanumeric))
}

#[cfg(test)]
#[path = "normalize_tests.rs"]
mod tests;
