//! `cargo xtask check`: what needs Rust and nothing else, for every change.

use anyhow::Result;

use crate::{
    rust::{self, Features},
    tally::Tally,
    workspace::Workspace,
};

pub fn run(workspace: &Workspace) -> Result<()> {
    let mut tally = Tally::default();
    tally.lint(|tally| rust::lint(workspace, Features::Default, tally));
    let built = tally.build(|| rust::build_unit(workspace, Features::Default));
    let done =
        built.and_then(|programs| tally.tests("unit", |tally| rust::unit(&programs, None, tally)));
    tally.fail_on_error("unit", done);
    tally.finish()
}
