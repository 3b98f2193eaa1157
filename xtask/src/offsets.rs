//! `cargo xtask offsets`: what the layouts say of CPython, against the debug information of the
//! interpreters at hand.

mod compare;
mod dwarf;
mod fields;
mod interpreters;

use std::env;

use anyhow::{Result, bail};
use probe_ebpf::python::tables;

use self::{
    compare::Derived,
    dwarf::{Sections, Types},
    fields::{FIELDS, Source},
};

/// Holds the layouts of CPython against the debug information of interpreters at hand
#[derive(clap::Args)]
pub struct Arguments {
    /// Show where this member is instead: `PyThreadState.next`, `pyruntimestate.interpreters.main`;
    /// of a structure alone, its size
    #[arg(long = "member", value_name = "STRUCT.PATH")]
    members: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.members.is_empty() {
        check()
    } else {
        show(&arguments.members)
    }
}

/// Compares every table that an interpreter with debug information is at hand for.
///
/// # Errors
/// On a difference, and under CI where a table has no such interpreter.
pub fn check() -> Result<()> {
    let wanted = compare::structures();
    let mut compared = Vec::new();
    let mut differences = 0;
    for interpreter in interpreters::at_hand() {
        let Some(layout) = tables::for_version(3, interpreter.minor) else {
            continue;
        };
        let sections = Sections::read(&interpreter.file)?;
        let types = sections.types(&wanted)?;
        if types.is_empty() {
            println!("  {interpreter}: no debug information");
            continue;
        }
        let found = compare::compare(layout, interpreter.minor, |source| derived(&types, source));
        println!(
            "  {interpreter}: {} of {} fields and what the code takes for granted compared, {} \
             differ",
            compare::derivable(interpreter.minor),
            FIELDS.len(),
            found.len()
        );
        for difference in &found {
            println!("    {difference}");
        }
        differences += found.len();
        compared.push(interpreter.minor);
    }
    say_what_is_not_compared();
    if differences > 0 {
        bail!("{differences} offsets differ from the interpreters'");
    }
    missing(&compared)
}

fn say_what_is_not_compared() {
    for field in FIELDS {
        for (since, source) in field.since {
            if let Source::Elsewhere(why) = source {
                println!(
                    "  not in debug information, from 3.{since} on: {}: {why}",
                    field.name
                );
            }
        }
    }
}

/// Names the tables that nothing was held against.
fn missing(compared: &[u8]) -> Result<()> {
    let missing: Vec<_> = tables::NAMES
        .iter()
        .filter(|name| !compared.iter().any(|minor| **name == format!("3.{minor}")))
        .copied()
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "no interpreter with debug information for CPython {}: `pyenv install` makes one",
        missing.join(", ")
    );
    if env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("{message}");
    }
    println!("  NOT compared: {message}");
    Ok(())
}

/// What the debug information says.
fn derived(types: &Types<'_>, source: Source) -> Result<Derived> {
    Ok(match source {
        Source::Member(structure, path) => {
            let member = types.member(structure, path)?;
            match member.bits {
                Some(bits) => Derived::bits(member.bit, bits),
                None => Derived::byte(member.offset),
            }
        }
        Source::Size(structure) => Derived::byte(types.size(structure)?),
        Source::Lacking | Source::Elsewhere(_) => bail!("not a type"),
    })
}

fn show(members: &[String]) -> Result<()> {
    let wanted: Vec<&str> = members.iter().filter_map(|m| m.split('.').next()).collect();
    for interpreter in interpreters::at_hand() {
        let sections = Sections::read(&interpreter.file)?;
        let types = sections.types(&wanted)?;
        if types.is_empty() {
            continue;
        }
        println!("{interpreter}");
        for member in members {
            match member.split_once('.') {
                Some((structure, path)) => match types.member(structure, path) {
                    Ok(found) => println!("  {member}: {found}"),
                    Err(error) => println!("  {member}: {error}"),
                },
                None => match types.size(member) {
                    Ok(bytes) => println!("  {member}: {bytes} bytes"),
                    Err(error) => println!("  {member}: {error}"),
                },
            }
        }
    }
    Ok(())
}
