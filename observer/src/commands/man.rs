//! `man`: the man pages, made from the text of `--help`.

use super::{PROGRAM, written};
use crate::cli::Cli;
use anyhow::{Context as _, Result};
use clap::builder::Resettable;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use roff::{Roff, roman};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

/// Begins the examples below the options of `--help`.
const EXAMPLES: &str = "Examples:\n";

/// Writes the page of the program to `out`, or the pages of program and commands to `folder`.
///
/// # Errors
/// When `out` or `folder` cannot be written to.
pub fn run(folder: Option<&Path>, out: &mut impl Write) -> Result<()> {
    let program = program();
    let Some(folder) = folder else {
        return written(out.write_all(&page(&program)?), "the man page");
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("failed to create the folder {}", folder.display()))?;
    for command in std::iter::once(&program).chain(program.get_subcommands()) {
        let file = folder.join(format!("{}.1", name(command)));
        std::fs::write(&file, page(command)?)
            .with_context(|| format!("failed to write {}", file.display()))?;
    }
    Ok(())
}

/// Every command with all its options.
fn program() -> Command {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    program
}

/// Such as `gunicorn-observer-run`.
fn name(command: &Command) -> &str {
    command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let version = command.get_version().unwrap_or_default();
    // The text below the options gets its own sections.
    let bare = command.clone().after_help(Resettable::Reset);
    let mut page = Vec::new();
    Man::new(bare)
        .source(format!("{PROGRAM} {version}"))
        .manual("Gunicorn")
        // An empty date would be left out, and the source take its place.
        .date(" ")
        .render(&mut page)?;
    let mut page = with_subsections(command, &String::from_utf8_lossy(&page)).into_bytes();
    page.extend(sections(command).to_roff().into_bytes());
    Ok(page)
}

/// Makes the groups of options, which clap_mangen makes sections, subsections of "OPTIONS".
fn with_subsections(command: &Command, page: &str) -> String {
    let groups: BTreeSet<_> = command
        .get_arguments()
        .filter_map(clap::Arg::get_help_heading)
        .collect();
    let mut lines = Vec::new();
    let mut has_options = page.lines().any(|line| line == ".SH OPTIONS");
    for line in page.lines() {
        let title = line.strip_prefix(".SH ").unwrap_or_default();
        match groups.iter().find(|group| group.to_uppercase() == title) {
            Some(group) => {
                if !has_options {
                    lines.push(".SH OPTIONS".to_owned());
                    has_options = true;
                }
                lines.push(format!(".SS {group}"));
            }
            None => lines.push(line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

fn sections(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let text = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let (notes, examples) = text.split_once(EXAMPLES).unwrap_or((&text, ""));
    if !notes.trim().is_empty() {
        roff.control("SH", ["NOTES"]);
        roff.text([roman(notes.trim())]);
    }
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]).control("nf", []);
        for line in examples.lines() {
            roff.text([roman(line.trim())]);
        }
        roff.control("fi", []);
    }
    roff.control("SH", ["EXIT STATUS"]);
    roff.text([roman(
        "0 done, 1 failed (a line on stderr has what failed, why and the fix), 2 wrong usage.",
    )]);
    if name(command) != PROGRAM {
        roff.control("SH", ["SEE ALSO"]);
        roff.control("BR", [PROGRAM, "(1)"]);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_has_the_usual_sections_and_the_examples_line_by_line() {
        let program = program();
        for command in std::iter::once(&program).chain(program.get_subcommands()) {
            let name = name(command);
            let page = String::from_utf8(page(command).unwrap()).unwrap();
            let sections: Vec<_> = page
                .lines()
                .filter_map(|line| line.strip_prefix(".SH "))
                .collect();
            for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES"] {
                assert!(sections.contains(&section), "{name}: {sections:?}");
            }
            let title = format!(".TH {name} 1 ");
            assert!(page.lines().any(|line| line.starts_with(&title)), "{page}");
            let (_, examples) = page.split_once("\n.nf\n").unwrap();
            let (examples, _) = examples.split_once("\n.fi\n").unwrap();
            assert!(examples.contains("gunicorn\\-observer"), "{examples}");
        }
    }

    #[test]
    fn a_page_is_written_for_the_program_and_for_each_command() {
        let folder = tempfile::tempdir().unwrap();
        let pages = folder.path().join("man1");
        run(Some(&pages), &mut Vec::new()).unwrap();
        let commands = Cli::command().get_subcommands().count();
        assert_eq!(std::fs::read_dir(&pages).unwrap().count(), commands + 1);
        for name in ["gunicorn-observer.1", "gunicorn-observer-run.1"] {
            assert!(pages.join(name).exists(), "no {name}");
        }
        let mut out = Vec::new();
        run(None, &mut out).unwrap();
        assert_eq!(
            out,
            std::fs::read(pages.join("gunicorn-observer.1")).unwrap()
        );
        let error = run(Some(Path::new("/dev/null/man1")), &mut out).unwrap_err();
        assert!(format!("{error:#}").contains("/dev/null/man1"), "{error:#}");
    }
}
