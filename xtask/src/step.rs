//! A step of set-up: one thing that this machine must have.

use anyhow::{Result, bail};

use crate::workspace::Workspace;

pub struct Step {
    pub name: &'static str,
    /// Why it is needed; printed only when it is missing.
    pub why: &'static str,
    pub check: fn(&Workspace) -> Check,
    /// Installs it. A step without one is only checked.
    pub make: Option<fn(&Workspace) -> Result<()>>,
}

/// The result of checking a step.
pub enum Check {
    Present(String),
    Missing { what: String, fix: String },
}

impl Check {
    pub fn missing(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Missing {
            what: what.into(),
            fix: fix.into(),
        }
    }
}

/// Makes those of `steps` that are missing, and prints only these.
pub fn make_missing<'a>(
    steps: impl IntoIterator<Item = &'a Step>,
    workspace: &Workspace,
) -> Result<()> {
    for step in steps {
        let Check::Missing { what, fix } = (step.check)(workspace) else {
            continue;
        };
        println!("setup: {}: {what}\n  {}", step.name, step.why);
        let Some(make) = step.make else {
            bail!("{}: {what}; fix: {fix}", step.name);
        };
        make(workspace)?;
        if let Check::Missing { what, fix } = (step.check)(workspace) {
            bail!(
                "{}: still missing after installing it: {what}; fix: {fix}",
                step.name
            );
        }
    }
    Ok(())
}
