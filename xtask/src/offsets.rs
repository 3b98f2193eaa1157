//! `cargo xtask offsets`: compares the layouts of CPython with the debug information of local
//! interpreters.

mod compare;
mod dwarf;
mod fields;
mod interpreters;

use anyhow::{Context as _, Result, bail};
use probe_ebpf::python::{Layout, debug_offsets, tables};

use self::{
    compare::Derived,
    dwarf::{Sections, Types},
    fields::{FIELDS, Source},
    interpreters::Interpreter,
};
use crate::ci::is_ci;

/// Compare CPython's layouts with the debug information of local interpreters
#[derive(clap::Args)]
pub struct Arguments {
    /// Print the offset of this member instead, such as `PyThreadState.next` or
    /// `pyruntimestate.interpreters.main`; of a structure alone, its size
    #[arg(long = "member", value_name = "STRUCT.PATH")]
    members: Vec<String>,
    /// Interpreters, with the file of their debug information if it is split off [default: pyenv's]
    #[arg(value_name = "python3.N[:DEBUG]")]
    files: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let interpreters = if arguments.files.is_empty() {
        interpreters::at_hand()
    } else {
        let named = arguments.files.iter().map(|file| interpreters::named(file));
        named.collect::<Result<_>>()?
    };
    if !arguments.members.is_empty() {
        return show(&interpreters, &arguments.members);
    }
    let compared = compare_all(&interpreters)?;
    if arguments.files.is_empty() {
        missing(&compared)
    } else {
        Ok(())
    }
}

/// Compares the layout of every interpreter at hand that has debug information.
///
/// # Errors
/// On a difference, and under CI where a table has no such interpreter.
pub fn check() -> Result<()> {
    missing(&compare_all(&interpreters::at_hand())?)
}

/// The minor versions that were compared; an error on a difference.
fn compare_all(interpreters: &[Interpreter]) -> Result<Vec<u8>> {
    let wanted = compare::structures();
    let mut compared = Vec::new();
    let mut differences = 0;
    for interpreter in interpreters {
        let debug = Sections::read(&interpreter.debug)?;
        let types = debug.types(&wanted)?;
        if types.is_empty() {
            println!("  {interpreter}: no debug information");
            continue;
        }
        let Some((layout, from)) = layout(interpreter)? else {
            println!("  {interpreter}: a version that is not supported");
            continue;
        };
        let found = compare::compare(&layout, interpreter.minor, |source| derived(&types, source));
        println!(
            "  {interpreter}: {from}: {} of {} fields and {} constants compared, {} differ",
            compare::derivable(interpreter.minor),
            FIELDS.len(),
            compare::constants(interpreter.minor),
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
    Ok(compared)
}

/// The layout that the observer uses for an interpreter, and its source.
fn layout(interpreter: &Interpreter) -> Result<Option<(Layout, &'static str)>> {
    if debug_offsets::is_known(3, interpreter.minor) {
        let bytes = usize::try_from(debug_offsets::BYTES)?;
        let file = Sections::read(&interpreter.file)?;
        let layout = debug_offsets::layout(file.variable("_PyRuntime", bytes)?)
            .with_context(|| interpreter.to_string())?;
        return Ok(Some((layout, "its own debug offsets")));
    }
    let table = tables::for_version(3, interpreter.minor);
    Ok(table.map(|table| (*table, "the table")))
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

/// Prints the versions without an interpreter to compare with. Versions that publish their offsets may
/// lack one; versions with a table may not under CI.
fn missing(compared: &[u8]) -> Result<()> {
    let lacking = |known: fn(u8) -> bool| {
        let minors = (0..=u8::MAX).filter(|minor| known(*minor) && !compared.contains(minor));
        minors
            .map(|minor| format!("3.{minor}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let published = lacking(|minor| debug_offsets::is_known(3, minor));
    if !published.is_empty() {
        println!("  NOT compared, as no interpreter with debug information is here: {published}");
    }
    let tables = lacking(|minor| tables::for_version(3, minor).is_some());
    if tables.is_empty() {
        return Ok(());
    }
    let message = format!(
        "no interpreter with debug information for the tables of CPython {tables}: `pyenv install` \
         makes one"
    );
    if is_ci() {
        bail!("{message}");
    }
    println!("  NOT compared: {message}");
    Ok(())
}

/// The value in the debug information.
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
        Source::Unused | Source::Elsewhere(_) => bail!("not a type"),
    })
}

fn show(interpreters: &[Interpreter], members: &[String]) -> Result<()> {
    let wanted: Vec<&str> = members.iter().filter_map(|m| m.split('.').next()).collect();
    for interpreter in interpreters {
        let sections = Sections::read(&interpreter.debug)?;
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
