//! `completions`: prints a shell completion script.

use super::{PROGRAM, written};
use crate::cli::Cli;
use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::io::Write;

/// In bash scripts clap_complete 4.6 spells a hyphen in the program's name differently where it
/// names a command and where it matches the typed one, so no command would complete
/// (clap-rs/clap, issue 6421).
const NAMED: &str = "gunicorn__subcmd__observer";
const MATCHED: &str = "gunicorn__observer";

/// Writes the script for a shell to `out`.
///
/// # Errors
/// When `out` cannot be written to.
pub fn run(shell: Shell, out: &mut impl Write) -> Result<()> {
    written(out.write_all(script(shell).as_bytes()), "the script")
}

fn script(shell: Shell) -> String {
    // clap_complete panics if writing fails, which it cannot do in memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
    let script = String::from_utf8_lossy(&script);
    script.replace(NAMED, MATCHED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn the_script_of_every_shell_has_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in Cli::command().get_subcommands() {
                let name = command.get_name();
                assert!(script.contains(name), "{shell} without {name}");
            }
        }
    }
}
