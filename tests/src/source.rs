//! Lines and names in the source of the tests' applications.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::gunicorn::APPS;

/// The one line of a file in `tests/apps` that ends with this comment.
pub fn line_marked(file: &str, marker: &str) -> Result<u64> {
    let path = format!("{APPS}/{file}");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let comment = format!("  # {marker}");
    let marked: Vec<_> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| line.ends_with(&comment))
        .map(|(number, _)| number)
        .collect();
    ensure!(marked.len() == 1, "{path} has {marker} in lines {marked:?}");
    Ok(marked[0])
}

#[cfg(test)]
mod tests {
    use super::line_marked;

    #[test]
    fn a_line_is_found_by_its_comment() {
        let line = line_marked("hangs.py", "stuck: lock").expect("it is marked");
        let text = include_str!("../apps/hangs.py");
        let found = text
            .lines()
            .nth(usize::try_from(line).expect("few lines") - 1);
        assert_eq!(found, Some("    with lock:  # stuck: lock"));
        assert!(line_marked("hangs.py", "stuck: nowhere").is_err());
    }
}
