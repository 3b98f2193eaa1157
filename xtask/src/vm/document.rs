//! The results of all kernels as tables, and the document with them.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use anyhow::{Context as _, Result};
use end_to_end::smoke::Report;

use super::kernels::Kernel;
use crate::workspace::Workspace;

const DOCUMENT: &str = "docs/KERNELS.md";
const BEGIN: &str = "<!-- written by `cargo xtask vm --write`, to the end -->\n";

/// A kernel and its results.
pub struct Row {
    pub kernel: Kernel,
    pub report: Report,
    /// The command that started its guest.
    pub qemu: Option<String>,
}

/// All tables: a column for each kernel.
pub fn tables(rows: &[Row]) -> String {
    let mut text = header("feature", rows);
    for name in names(rows, |report| {
        report.features.iter().map(|it| it.name.clone()).collect()
    }) {
        line(&mut text, &name, rows, |report| {
            let feature = report.features.iter().find(|it| it.name == name)?;
            Some(match (&feature.seen, &feature.without) {
                (Ok(seen), _) => format!("yes: {seen}"),
                (Err(_), Some(without)) => format!("absent: {without}"),
                (Err(_), None) => "WRONG".to_owned(),
            })
        });
    }
    line(
        &mut text,
        "500 requests, eight at a time, on gthread",
        rows,
        |report| Some(report.under_load.clone()),
    );
    text.push('\n');
    text += &header("instructions that the verifier walked", rows);
    for name in names(rows, |report| {
        report.programs.iter().map(|it| it.name.clone()).collect()
    }) {
        line(&mut text, &format!("`{name}`"), rows, |report| {
            let program = report.programs.iter().find(|it| it.name == name)?;
            let walked = program
                .walked
                .map_or_else(|| "?".to_owned(), |it| it.to_string());
            Some(format!("{walked} in {} ms", program.load_us / 1000))
        });
    }
    line(&mut text, "all", rows, |report| {
        let us: u64 = report.programs.iter().map(|it| it.load_us).sum();
        Some(format!("{} ms", us / 1000))
    });
    line(&mut text, "the whole trial", rows, |report| {
        Some(format!("{} s", report.seconds))
    });
    text
}

/// Names in the order of the first kernel that has them.
fn names(rows: &[Row], of: impl Fn(&Report) -> Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let all = rows.iter().flat_map(|row| of(&row.report));
    all.filter(|name| seen.insert(name.clone())).collect()
}

fn header(first: &str, rows: &[Row]) -> String {
    let mut text = format!("| {first} |");
    for row in rows {
        let _ = write!(text, " {} |", row.report.release);
    }
    text += "\n|---|";
    text += &"---|".repeat(rows.len());
    text.push('\n');
    text
}

fn line(text: &mut String, first: &str, rows: &[Row], of: impl Fn(&Report) -> Option<String>) {
    let _ = write!(text, "| {first} |");
    for row in rows {
        let _ = write!(text, " {} |", of(&row.report).unwrap_or_default());
    }
    text.push('\n');
}

/// Writes the tables below the hand-written text.
pub fn write(workspace: &Workspace, rows: &[Row]) -> Result<()> {
    let path = workspace.root.join(DOCUMENT);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (written, _) = text
        .split_once(BEGIN)
        .with_context(|| format!("{} has no line {BEGIN}", path.display()))?;
    let mut text = format!("{written}{BEGIN}\n{}", tables(rows));
    text += "\nThe guests, with the repository in `$PWD`:\n\n```\n";
    let root = workspace.root.display().to_string();
    for qemu in rows.iter().filter_map(|row| row.qemu.as_ref()) {
        text += &qemu.replace(&root, "$PWD");
        text.push('\n');
    }
    text += "```\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
