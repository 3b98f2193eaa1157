//! A table of text: each column is as wide as its widest cell.

use std::io::{self, Write};

/// Between two columns.
const GAP: &str = "  ";
/// Units of time, the largest first.
const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];

/// Rows with the same number of columns.
#[derive(Debug)]
pub struct Table<const COLUMNS: usize> {
    /// Columns of numbers: aligned to the right.
    numbers: &'static [usize],
    lines: Vec<Line<COLUMNS>>,
}

#[derive(Debug)]
enum Line<const COLUMNS: usize> {
    Cells([String; COLUMNS]),
    /// About the row above, indented to its second column.
    Note(String),
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// An empty table with these columns of numbers.
    #[must_use]
    pub fn new(numbers: &'static [usize]) -> Self {
        let lines = Vec::new();
        Self { numbers, lines }
    }

    /// Adds a row.
    pub fn cells(&mut self, cells: [String; COLUMNS]) {
        self.lines.push(Line::Cells(cells));
    }

    /// Adds a line about the row above.
    pub fn note(&mut self, note: String) {
        self.lines.push(Line::Note(note));
    }

    /// Writes the table.
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

/// An age such as `59s`, `5m2s`, `3h7m` or `12d5h`: in at most two units.
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
    fn an_age_has_at_most_two_units() {
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
    fn an_empty_table_writes_nothing() {
        let mut out = Vec::new();
        Table::<3>::new(&[]).write(&mut out).unwrap();
        assert!(out.is_empty());
    }
}
