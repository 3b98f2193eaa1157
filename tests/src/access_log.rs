//! Gunicorn's access log, to compare with.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// The format the server is started with. The request line is used because lines of Gunicorn's
/// error handler have no path of their own (23.0, `workers/base.py`, `default_environ`).
pub const FORMAT: &str = "%(p)s %(s)s %(D)s %(B)s %(r)s";

/// A request in Gunicorn's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Pid of the worker.
    pub pid: u32,
    pub status: u16,
    pub method: String,
    /// Time in the application. Where the application raised, the log has the time of Gunicorn's error
    /// handler instead.
    pub duration_us: u64,
    /// Bytes of the body without chunk framing; none for Gunicorn's error pages.
    pub body_bytes: Option<u64>,
    /// Without the query.
    pub path: String,
}

/// Reads the lines that are complete.
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
    let mut words = line.splitn(5, ' ');
    // Gunicorn writes the pid in angle brackets.
    let pid = words.next()?.trim_matches(['<', '>']).parse().ok()?;
    let status = words.next()?.parse().ok()?;
    let duration_us = words.next()?.parse().ok()?;
    let body_bytes = words.next()?.parse().ok();
    let (method, rest) = words.next()?.split_once(' ')?;
    let (target, _protocol) = rest.rsplit_once(' ')?;
    let path = target.split('?').next()?.to_owned();
    Some(Line {
        pid,
        status,
        method: method.to_owned(),
        duration_us,
        body_bytes,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::{Line, parse};

    #[test]
    fn a_line_is_read_without_its_query() {
        let line = parse("<71> 200 153 6 GET /a/b?c=d HTTP/1.1").expect("a good line");
        let expected = Line {
            pid: 71,
            status: 200,
            method: "GET".into(),
            duration_us: 153,
            body_bytes: Some(6),
            path: "/a/b".into(),
        };
        assert_eq!(line, expected);
    }

    #[test]
    fn an_error_has_no_body_bytes() {
        let line = parse("<71> 500 153 None GET /x HTTP/1.1").expect("a good line");
        assert_eq!(line.body_bytes, None);
    }
}
