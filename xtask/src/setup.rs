//! `cargo xtask setup`: from a fresh Debian 12 with rustup's stable to one that builds and tests.

use anyhow::{Result, bail};

use crate::{
    interpreters, kubernetes, prometheus, python, toolchain, tools, wheels, workspace::Workspace,
};

/// Installs what is missing, and nothing else
#[derive(clap::Args)]
pub struct Arguments {
    /// Change nothing; name what is missing and its cure, and exit 1 if anything is
    #[arg(long)]
    check: bool,
    /// Only what it takes to build the observer, not to test it or to see it run
    #[arg(long)]
    build: bool,
}

/// One thing this machine must have.
pub struct Step {
    pub name: &'static str,
    /// Why it is needed, said only when it is missing.
    pub why: &'static str,
    pub check: fn(&Workspace) -> Check,
    /// How to come by it; a step without one is only looked at.
    pub make: Option<fn(&Workspace) -> Result<()>>,
}

/// What a look at the machine found.
pub enum Check {
    Present(String),
    Missing { what: String, cure: String },
}

impl Check {
    pub fn missing(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::Missing {
            what: what.into(),
            cure: cure.into(),
        }
    }
}

/// What it takes to build the observer.
const TO_BUILD: &[Step] = &[toolchain::BPF_TOOLCHAIN, tools::BPF_LINKER];

/// What it takes besides to see it at work.
const TO_RUN: &[Step] = &[
    python::INTERPRETER,
    python::ENVIRONMENTS,
    tools::KERNEL_TYPES,
    tools::TRACEFS,
];

/// What it takes to package it.
const TO_DISTRIBUTE: &[Step] = &[tools::CARGO_DEB, tools::PACKAGING];

/// What the tests need besides.
const TO_TEST: &[Step] = &[
    toolchain::HOST_COMPONENTS,
    toolchain::BPF_CLIPPY,
    tools::CARGO_DENY,
    tools::CARGO_FUZZ,
    interpreters::INTERPRETERS_STEP,
    wheels::WHEELS,
    tools::CONTAINERS,
    tools::NGINX,
    tools::BROWSER,
    tools::TMUX,
    tools::PYPY,
    tools::GROFF,
    tools::CROSS_COMPILER,
    tools::CURL,
    tools::SYSTEMD,
    tools::STRACE,
    tools::QEMU,
    tools::VALGRIND,
    prometheus::PROMETHEUS,
    kubernetes::HELM,
];

fn all() -> impl Iterator<Item = &'static Step> {
    let run = TO_BUILD.iter().chain(TO_RUN);
    run.chain(TO_DISTRIBUTE).chain(TO_TEST)
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    match (arguments.check, arguments.build) {
        (true, true) => check(TO_BUILD.iter(), workspace),
        (true, false) => check(all(), workspace),
        (false, true) => take(TO_BUILD.iter(), workspace),
        (false, false) => make(workspace),
    }
}

fn check(steps: impl Iterator<Item = &'static Step>, workspace: &Workspace) -> Result<()> {
    let mut missing = Vec::new();
    for step in steps {
        match (step.check)(workspace) {
            Check::Present(found) => println!("ok       {}: {found}", step.name),
            Check::Missing { what, cure } => {
                println!(
                    "MISSING  {}: {what}\n         {}\n         cure: {cure}",
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

/// Takes every step that is not yet done, and says so only then.
pub fn make(workspace: &Workspace) -> Result<()> {
    take(all(), workspace)
}

/// Likewise, but those that only tests need.
pub fn make_to_run(workspace: &Workspace) -> Result<()> {
    take(TO_BUILD.iter().chain(TO_RUN), workspace)
}

/// Likewise, but those that packaging needs.
pub fn make_to_distribute(workspace: &Workspace) -> Result<()> {
    take(TO_DISTRIBUTE.iter(), workspace)
}

/// Takes these steps, as far as they are not yet done.
pub fn take(steps: impl Iterator<Item = &'static Step>, workspace: &Workspace) -> Result<()> {
    for step in steps {
        let Check::Missing { what, cure } = (step.check)(workspace) else {
            continue;
        };
        println!("setup: {}: {what}\n  {}", step.name, step.why);
        let Some(make) = step.make else {
            bail!("{}: {what}; cure: {cure}", step.name);
        };
        make(workspace)?;
        if let Check::Missing { what, cure } = (step.check)(workspace) {
            bail!(
                "{}: still missing after installing it: {what}; cure: {cure}",
                step.name
            );
        }
    }
    Ok(())
}
