//! docs/CONFIGURATION.md against the command line and the keys of the file.

use super::*;
use crate::cli::{Cli, Command};
use clap::builder::ArgAction;
use clap::{Arg, CommandFactory as _, Parser as _};
use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../docs/CONFIGURATION.md");
const VARIABLE: &str = "GUNICORN_OBSERVER_";
const NOTHING: &str = "–";
/// Arguments that a command cannot go without.
const REQUIRED: [(&str, &str); 4] = [
    ("completions", "bash"),
    ("record", "x.rec"),
    ("replay", "x.rec"),
    ("stack", "1"),
];

/// An option of a command.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    heading: String,
    flag: String,
    /// Absent for a switch.
    value: Option<String>,
    variable: String,
}

/// A row of a table of the document.
#[derive(Clone, Debug)]
struct Row {
    entry: Entry,
    key: String,
    default: String,
}

/// Without the quotes of code.
fn bare(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

/// The rows of a command, or those under "Every command".
fn rows_of(command: &str) -> Vec<Row> {
    let (mut is_wanted, mut is_table) = (false, false);
    let mut heading = "";
    let mut rows = Vec::new();
    for line in DOCUMENT.lines() {
        if let Some(commands) = line.strip_prefix("## ") {
            is_wanted = commands.split(", ").any(|name| name == command);
            heading = "";
        } else if let Some(name) = line.strip_prefix("### ") {
            heading = name;
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", "flag", "variable", "key", "default", "meaning", ""] => is_table = true,
            ["", flag, variable, key, default, _, ""] if is_table && is_wanted => {
                let flag = bare(flag);
                if flag.starts_with("--") && !flag.starts_with("---") {
                    let (flag, value) = match flag.split_once(' ') {
                        Some((flag, value)) => (flag, Some(value.to_owned())),
                        None => (flag.as_str(), None),
                    };
                    rows.push(Row {
                        entry: Entry {
                            heading: heading.to_owned(),
                            flag: flag.to_owned(),
                            value,
                            variable: bare(variable),
                        },
                        key: bare(key),
                        default: bare(default),
                    });
                }
            }
            _ => is_table &= line.starts_with('|'),
        }
    }
    rows
}

/// The options of a command, without those of every command.
fn entries_of(command: &clap::Command, is_wanted: impl Fn(&Arg) -> bool) -> Vec<Entry> {
    let options = command.get_arguments().filter(|arg| {
        let is_configured = arg.get_env().is_some() && !arg.is_hide_set();
        is_configured && is_wanted(arg)
    });
    options
        .map(|arg| Entry {
            heading: arg.get_help_heading().unwrap_or_default().to_owned(),
            flag: format!("--{}", arg.get_long().unwrap_or_default()),
            value: value_of(arg),
            variable: arg.get_env().unwrap().to_str().unwrap().to_owned(),
        })
        .collect()
}

fn value_of(arg: &Arg) -> Option<String> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return None;
    }
    let name = arg.get_value_names()?.first()?.to_string();
    (name != "BOOL").then_some(name)
}

fn cli() -> clap::Command {
    let mut cli = Cli::command();
    cli.build();
    cli
}

fn commands(cli: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    cli.get_subcommands()
        .filter(|command| command.get_name() != "help")
}

#[test]
fn the_reference_lists_every_option_in_its_group_and_no_other() {
    let cli = cli();
    let sorted = |entries: Vec<Entry>| entries.into_iter().collect::<BTreeSet<_>>();
    for command in commands(&cli) {
        let name = command.get_name();
        let documented: Vec<_> = rows_of(name).into_iter().map(|row| row.entry).collect();
        let mut offered = entries_of(command, |arg| !arg.is_global_set());
        if documented.iter().all(|entry| entry.heading.is_empty()) {
            for entry in &mut offered {
                entry.heading.clear();
            }
        }
        assert_eq!(sorted(documented), sorted(offered), "{name}");
    }
    let mut documented = rows_of("Every command");
    let offered = entries_of(&cli, Arg::is_global_set);
    for row in &mut documented {
        row.entry.heading = "Global".to_owned();
    }
    let documented = documented.into_iter().map(|row| row.entry).collect();
    assert_eq!(sorted(documented), sorted(offered));
}

#[test]
fn the_reference_sorts_the_options_of_a_group() {
    let cli = cli();
    for command in commands(&cli) {
        for two in rows_of(command.get_name()).windows(2) {
            let [first, second] = [&two[0].entry, &two[1].entry];
            let is_sorted = first.heading != second.heading || first.flag < second.flag;
            assert!(is_sorted, "{}: {second:?}", command.get_name());
        }
    }
}

/// The keys of the file, as the error for an unknown one lists them.
fn keys() -> BTreeSet<String> {
    let error = toml::from_str::<File>("unknown = 1").unwrap_err();
    let (_, known) = error.message().split_once("expected one of ").unwrap();
    let known = known.split('`').skip(1).step_by(2);
    known.map(str::to_owned).collect()
}

#[test]
fn the_reference_has_the_key_of_each_option_and_every_key() {
    let cli = cli();
    let keys = keys();
    let names = commands(&cli).map(clap::Command::get_name);
    let rows: Vec<_> = names.chain(["Every command"]).flat_map(rows_of).collect();
    for row in &rows {
        let variable = row.entry.variable.strip_prefix(VARIABLE).unwrap();
        let key = variable.to_lowercase().replace('_', "-");
        let expected = if keys.contains(&key) { &key } else { NOTHING };
        assert_eq!(row.key, expected, "{:?}", row.entry);
    }
    let documented = rows.into_iter().map(|row| row.key);
    let documented: BTreeSet<_> = documented.filter(|key| key != NOTHING).collect();
    assert_eq!(documented, keys);
}

/// The options in force with these arguments, as text to compare.
fn resolved(arguments: &[String]) -> String {
    let file = File::default();
    let words = std::iter::once("gunicorn-observer").chain(arguments.iter().map(String::as_str));
    let cli = Cli::parse_from(words);
    let command = match &cli.command {
        Command::Run(args) => format!("{:?}", Run::resolve(args, &file)),
        Command::Record(args) => format!("{:?}", Run::resolve(&args.run, &file)),
        Command::Top(args) => format!("{:?}", Observe::top(args, &file)),
        Command::Trace(args) => format!("{:?}", Trace::resolve(args, &file)),
        Command::Doctor(args) => format!("{:?}", Host::resolve(&args.host, &file)),
        Command::Replay(args) => format!("{:?}", Serve::resolve(&args.served, &file)),
        other => format!("{other:?}"),
    };
    format!("{command} {:?}", log_level(&cli.global, &file))
}

#[test]
fn an_option_given_its_documented_default_changes_nothing() {
    let cli = cli();
    for command in commands(&cli) {
        let name = command.get_name();
        let required = REQUIRED.iter().filter(|(of, _)| *of == name);
        let plain: Vec<_> = std::iter::once(name)
            .chain(required.map(|(_, argument)| *argument))
            .map(str::to_owned)
            .collect();
        for row in rows_of(name).iter().chain(&rows_of("Every command")) {
            if matches!(&*row.default, NOTHING | "all" | "as recorded" | "false") {
                continue;
            }
            let given = format!("{}={}", row.entry.flag, row.default);
            let given: Vec<_> = plain.iter().cloned().chain([given]).collect();
            assert_eq!(resolved(&given), resolved(&plain), "{given:?}");
        }
    }
}

#[test]
fn help_and_reference_have_the_same_defaults() {
    let cli = cli();
    for command in commands(&cli) {
        for row in rows_of(command.get_name()) {
            let is_option = |arg: &&Arg| arg.get_long() == row.entry.flag.strip_prefix("--");
            let arg = command.get_arguments().find(is_option).unwrap();
            let expected = match (&row.entry.value, &*row.default) {
                (None, "false") | (Some(_), NOTHING) => None,
                (Some(_), default) => Some(default.to_owned()),
                (None, default) => panic!("a switch with the default {default}"),
            };
            for help in [arg.get_help(), arg.get_long_help()].into_iter().flatten() {
                let help = help.to_string();
                let default = help.split_once("[default: ").map(|(_, default)| default);
                let default = default.and_then(|default| default.split(']').next());
                let default = default.map(str::to_owned);
                assert_eq!(default, expected, "{}: {help}", command.get_name());
            }
        }
    }
}
