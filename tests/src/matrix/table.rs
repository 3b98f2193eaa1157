//! What came of the cells, as one table in Markdown.

use std::fmt::Write as _;

use super::{product::CLASSES, run::Row};

/// One line for each interpreter and Gunicorn, one column for each class. A cell that does not run has
/// the number of a note with the reason.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut notes: Vec<String> = Vec::new();
    let mut lines: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for row in rows {
        let (interpreter, gunicorn) = (row.cell.interpreter.name, row.cell.gunicorn);
        if lines
            .last()
            .is_none_or(|line| (line.0, line.1) != (interpreter, gunicorn))
        {
            lines.push((interpreter, gunicorn, vec![String::new(); CLASSES.len()]));
        }
        let column = CLASSES.iter().position(|class| *class == row.cell.class);
        if let (Some(line), Some(column)) = (lines.last_mut(), column) {
            line.2[column] = text(row, &mut notes);
        }
    }
    let mut table = format!("| interpreter | Gunicorn | {} |\n", CLASSES.join(" | "));
    table.push_str(&"|---".repeat(CLASSES.len() + 2));
    table.push_str("|\n");
    for (interpreter, gunicorn, cells) in lines {
        let cells = cells.join(" | ");
        let _ = writeln!(table, "| {interpreter} | {gunicorn} | {cells} |");
    }
    for (number, note) in (1..).zip(notes) {
        let _ = write!(table, "\n{number}. {note}");
    }
    table.push('\n');
    table
}

fn text(row: &Row, notes: &mut Vec<String>) -> String {
    let outcome = match &row.outcome {
        Ok(outcome) => outcome,
        Err(reason) => return format!("– ({})", number((*reason).to_owned(), notes)),
    };
    let mut text = if outcome.level.is_empty() {
        "not tried".to_owned()
    } else {
        outcome.level.clone()
    };
    if !outcome.reason.is_empty() {
        let _ = write!(text, " ({})", number(outcome.reason.clone(), notes));
    }
    let _ = write!(text, ", {}/{}", outcome.counted, outcome.sent);
    if let Some(p99_us) = outcome.p99_us {
        let _ = write!(text, ", {p99_us} µs");
    }
    text.push_str(if outcome.known_before {
        ", known"
    } else {
        ", not known"
    });
    if !outcome.wrong.is_empty() {
        text.push_str(", **wrong**");
    }
    text
}

/// The number of a note, which is added if it is new.
fn number(note: String, notes: &mut Vec<String>) -> usize {
    let known = notes.iter().position(|other| *other == note);
    1 + known.unwrap_or_else(|| {
        notes.push(note);
        notes.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::{super::product, Row, markdown};
    use crate::matrix::cell::Outcome;

    #[test]
    fn a_line_has_all_classes_and_reasons_are_below() {
        let cells = product::all();
        let of = |words: &[&str]| -> Vec<_> {
            let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
            cells
                .iter()
                .filter(|cell| cell.matches(&words))
                .copied()
                .collect()
        };
        let good = Outcome {
            level: "full".into(),
            known_before: true,
            counted: 300.0,
            sent: 300,
            p99_us: Some(40),
            ..Outcome::default()
        };
        let rows: Vec<_> = of(&["pyenv-3.11", "26"])
            .into_iter()
            .map(|cell| Row {
                cell,
                outcome: cell.cannot_run().map_or_else(|| Ok(good.clone()), Err),
            })
            .collect();
        let full = "full, 300/300, 40 µs, known";
        assert_eq!(
            markdown(&rows),
            format!(
                "| interpreter | Gunicorn | sync | gthread | gevent | eventlet |\n\
                 |---|---|---|---|---|---|\n\
                 | pyenv-3.11 | 26.2.0 | {full} | {full} | {full} | – (1) |\n\n\
                 1. Gunicorn 26 and later have no eventlet worker\n"
            )
        );
    }
}
