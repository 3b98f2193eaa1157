//! Gunicorn's access log: what it says it served, for comparison.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// The format the server is started with; the path comes last because it may hold spaces.
pub const FORMAT: &str = "%(p)s %(s)s %(m)s %(D)s %(B)s %(U)s";

/// One request, as Gunicorn logged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The worker.
    pub pid: u32,
    pub status: u16,
    pub method: String,
    /// Time in the application. Where the application raised, Gunicorn logs the time its error
    /// handler took instead.
    pub duration_us: u64,
    /// Bytes of the body without chunk framing; nothing for an error's own page.
    pub body_bytes: Option<u64>,
    /// Without the query.
    pub path: String,
}

/// Reads the complete lines there are now.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete
        .lines()
        .map(|line| parse(line).with_context(|| format!("unreadable access log line: {line}")))
        .collect()
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.splitn(6, ' ');
    Some(Line {
        // Gunicorn writes the pid in angle brackets.
        pid: words.next()?.trim_matches(['<', '>']).parse().ok()?,
        status: words.next()?.parse().ok()?,
        method: words.next()?.to_owned(),
        duration_us: words.next()?.parse().ok()?,
        body_bytes: words.next()?.parse().ok(),
        path: words.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Line, parse};

    #[test]
    fn a_line_is_read_with_spaces_in_its_path() {
        let line = parse("<71> 200 GET 153 6 /a b").expect("a good line");
        let expected = Line {
            pid: 71,
            status: 200,
            method: "GET".into(),
            duration_us: 153,
            body_bytes: Some(6),
            path: "/a b".into(),
        };
        assert_eq!(line, expected);
    }

    #[test]
    fn an_error_has_no_body_bytes() {
        assert_eq!(
            parse("<71> 500 GET 153 None /x")
                .expect("a good line")
                .body_bytes,
            None
        );
    }
}
