//! `cargo xtask setup`: from a fresh Debian 12 with rustup to a machine that builds and tests.

use anyhow::{Result, bail};

use crate::{
    parts,
    step::{Check, Step, make_missing},
    workspace::Workspace,
};

/// Install what is missing
#[derive(clap::Args)]
pub struct Arguments {
    /// Install nothing; print each missing step with its fix, and exit with 1 if there is one
    #[arg(long)]
    check: bool,
    /// Only what building the observer takes
    #[arg(long)]
    build: bool,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let steps = if arguments.build {
        parts::BUILD.iter().collect()
    } else {
        parts::all_steps()
    };
    if arguments.check {
        check(&steps, workspace)
    } else {
        make_missing(steps, workspace)
    }
}

fn check(steps: &[&Step], workspace: &Workspace) -> Result<()> {
    let mut missing = Vec::new();
    for step in steps {
        match (step.check)(workspace) {
            Check::Present(found) => println!("ok       {}: {found}", step.name),
            Check::Missing { what, fix } => {
                println!(
                    "MISSING  {}: {what}\n         {}\n         fix: {fix}",
                    step.name, step.why
                );
                missing.push(step.name);
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "missing: {}; `cargo xtask setup` installs what can be installed",
        missing.join(", ")
    )
}
