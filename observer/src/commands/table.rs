//! Columns of text, each as wide as the widest that is in it.

use std::io::{self, Write};

/// What stands between two columns.
const GAP: &str = "  ";
/// The largest units first.
const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];

/// Rows of as many columns each.
#[derive(Debug)]
pub struct Table<const COLUMNS: usize> {
    /// Columns of numbers: these stand at the right.
    numbers: &'static [usize],
    lines: Vec<Line<COLUMNS>>,
}

#[derive(Debug)]
enum Line<const COLUMNS: usize> {
    Cells([String; COLUMNS]),
    /// About the row above, below its second column.
    Note(String),
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// An empty one, with these columns of numbers.
    #[must_use]
    pub fn new(numbers: &'static [usize]) -> Self {
        let lines = Vec::new();
        Self { numbers, lines }
    }

    /// Adds a row.
    pub fn cells(&mut self, cells: [String; COLUMNS]) {
        self.lines.push(Line::Cells(cells));
    }

    /// Adds a line that says more of the row above.
    pub fn note(&mut self, note: String) {
        self.lines.push(Line::Note(note));
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let widths: [usize; COLUMNS] = std::array::from_fn(|at| self.width(at));
        let indent = widths.first().copied().unwrap_or(0);
        for line in &self.lines {
            let cells = match line {
                Line::Cells(cells) => cells,
                Line::Note(note) => {
                    writeln!(out, "{:indent$}{GAP}{note}", "")?;
                    continue;
                }
            };
            let padded = cells
                .iter()
                .zip(widths)
                .enumerate()
                .map(|(at, (cell, width))| {
                    if self.numbers.contains(&at) {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                });
            let padded: Vec<_> = padded.collect();
            writeln!(out, "{}", padded.join(GAP).trim_end())?;
        }
        Ok(())
    }

    fn width(&self, at: usize) -> usize {
        let cells = self.lines.iter().filter_map(|line| line.cell(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl<const COLUMNS: usize> Line<COLUMNS> {
    fn cell(&self, at: usize) -> Option<&str> {
        match self {
            Self::Cells(cells) => cells.get(at).map(String::as_str),
            Self::Note(_) => None,
        }
    }
}

/// Such as `59s`, `5m2s`, `3h7m` or `12d5h`: in the two largest units there are.
#[must_use]
pub fn age(seconds: u64) -> String {
    let largest = UNITS.iter().position(|(unit, _)| seconds >= *unit);
    let units = UNITS
        .iter()
        .skip(largest.unwrap_or(UNITS.len() - 1))
        .take(2);
    let mut left = seconds;
    let mut text = String::new();
    for (unit, name) in units {
        let count = left / unit;
        left %= unit;
        if count > 0 || text.is_empty() {
            text.push_str(&format!("{count}{name}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_two_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (302, "5m2s"),
            (3600 * 3 + 7 * 60 + 59, "3h7m"),
            (86_400 * 12 + 3600 * 5 + 60, "12d5h"),
            (86_400 + 59, "1d"),
        ] {
            assert_eq!(age(seconds), expected);
        }
    }

    #[test]
    fn an_empty_table_is_no_text() {
        let mut out = Vec::new();
        Table::<3>::new(&[]).write(&mut out).unwrap();
        assert!(out.is_empty());
    }
}
