//! What came of all stands, as a table of cases and frameworks.

use std::fmt::Write as _;

use super::{
    case::{CASES, Fate},
    framework::{FRAMEWORKS, Framework, Stand},
    run::{Row, Tried},
};

/// A line for each case, a column for each framework; below, the combinations of each framework.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let names: Vec<_> = FRAMEWORKS
        .iter()
        .map(|framework| framework.name())
        .collect();
    let mut table = format!("| request | {} |\n", names.join(" | "));
    table.push_str(&"|---".repeat(names.len() + 1));
    table.push_str("|\n");
    let mut done = Vec::new();
    for case in CASES {
        if done.contains(&case.path) {
            continue;
        }
        done.push(case.path);
        let cells = FRAMEWORKS.map(|framework| cell(rows, framework, case.path));
        let _ = writeln!(table, "| {} | {} |", case.what, cells.join(" | "));
    }
    table.push_str("\n| framework | packages | interpreter | Gunicorn | worker class |\n");
    table.push_str("|---|---|---|---|---|\n");
    for Row { stand, .. } in rows {
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} |",
            stand.framework.name(),
            packages(stand),
            stand.interpreter,
            stand.gunicorn,
            stand.class
        );
    }
    table
}

fn packages(stand: &Stand) -> String {
    let sets: Vec<_> = stand.packages.into_iter().chain(stand.uvicorn).collect();
    if sets.is_empty() {
        "–".to_owned()
    } else {
        sets.join(", ")
    }
}

fn cell(rows: &[Row], framework: Framework, path: &str) -> String {
    let of_framework = rows.iter().filter(|row| row.stand.framework == framework);
    let cases = of_framework.flat_map(|row| &row.cases);
    let tried: Vec<_> = cases.filter(|tried| tried.case.path == path).collect();
    let Some(first) = tried.first() else {
        return "–".to_owned();
    };
    let right = tried.iter().filter(|tried| tried.wrong.is_empty()).count();
    let wrong = if right == tried.len() {
        ""
    } else {
        ", **wrong**"
    };
    let is_unseen = |tried: &&&Tried| matches!(tried.fate, Fate::Unseen(_));
    let unseen = tried.iter().filter(is_unseen).count();
    // Where only some places hide the exception, the others say what it is.
    let Some(shown) = tried.iter().find(|tried| !is_unseen(tried)) else {
        return format!("{}, {right}/{}{wrong}", words(first.fate), tried.len());
    };
    let hidden = match unseen {
        0 => String::new(),
        _ => format!(", {unseen} unknown"),
    };
    format!(
        "{}, {right}/{}{hidden}{wrong}",
        words(shown.fate),
        tried.len()
    )
}

fn words(fate: Fate) -> String {
    match fate {
        Fate::Well(status) => format!("{status}"),
        Fate::Plain(status) => format!("{status}, no exception"),
        Fate::Unseen(status) => format!("{status}, unknown"),
        Fate::Answered(status, ..) => format!("{status} of its own"),
        Fate::RaisedAgain(..) => "500 of its own".to_owned(),
        Fate::Uncaught(..) | Fate::Leaves(..) => "500 of Gunicorn".to_owned(),
        Fate::LeavesUnanswered(..) => "no answer".to_owned(),
        Fate::Breaks(..) => "200, cut".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::markdown;
    use crate::errors::{
        case::CASES,
        framework::STANDS,
        run::{self, Row, Tried},
    };

    #[test]
    fn a_cell_says_how_many_of_a_framework_are_right() {
        let rows: Vec<_> = STANDS[..2]
            .iter()
            .zip([vec![], vec!["counted: nothing".to_owned()]])
            .map(|(stand, wrong)| Row {
                stand: *stand,
                cases: vec![Tried {
                    case: CASES[1],
                    fate: CASES[1].fate(stand).expect("a fate"),
                    wrong,
                }],
                wrong: Vec::new(),
            })
            .collect();
        let table = markdown(&rows);
        assert!(
            table.contains("| a view raises | 500 of Gunicorn, 1/2, **wrong** | – | – "),
            "{table}"
        );
        assert_eq!(run::wrong(&rows).len(), 1);
    }
}
