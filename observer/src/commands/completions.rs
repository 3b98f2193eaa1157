//! `completions`: what lets a shell complete the command line.

use super::{PROGRAM, written};
use crate::cli::Cli;
use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::io::Write;

/// In scripts for bash, clap_complete 4.6 writes the hyphen of a program's name in one way where it
/// finds out which command was typed, and in another where it tells what may follow, so that nothing
/// would follow any command (clap-rs/clap, issue 6421).
const AS_TOLD: &str = "gunicorn__subcmd__observer";
const AS_FOUND_OUT: &str = "gunicorn__observer";

/// Writes the script for this shell to `out`.
///
/// # Errors
/// When `out` cannot be written to.
pub fn run(shell: Shell, out: &mut impl Write) -> Result<()> {
    written(out.write_all(script(shell).as_bytes()), "the completions")
}

fn script(shell: Shell) -> String {
    // Into memory, where writing cannot fail: clap_complete panics where it does.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
    let script = String::from_utf8_lossy(&script);
    script.replace(AS_TOLD, AS_FOUND_OUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_shell_is_told_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in Cli::command().get_subcommands() {
                let name = command.get_name();
                assert!(script.contains(name), "{shell} without {name}");
            }
        }
    }
}
