//! `cargo xtask record-calls`: the calls of real workers, for tests of the state machine.

use std::fs;

use anyhow::{Context as _, Result};
use end_to_end::{
    matrix::product::{self, Cell},
    recorded::run,
};

use crate::workspace::Workspace;

const FOLDER: &str = "probe-ebpf/src/machine/recorded";
const INTERPRETER: &str = "debian-3.11";
const GUNICORNS: [&str; 2] = ["23.0.0", "27.0.1"];
const CLASSES: [&str; 3] = ["sync", "gthread", "gevent"];

#[derive(clap::Args)]
pub struct Arguments {
    /// Record only worker classes of this name
    class: Option<String>,
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let interpreter = product::interpreter_named(INTERPRETER)?;
    for gunicorn in GUNICORNS {
        for class in CLASSES {
            if arguments.class.as_ref().is_some_and(|only| only != class) {
                continue;
            }
            let cell = Cell {
                interpreter,
                gunicorn,
                class,
            };
            println!("{cell}");
            let text = run::record(&workspace.matrix(), &cell)?;
            let name = format!("{class}-{gunicorn}.txt");
            let file = workspace.root.join(FOLDER).join(name);
            fs::write(&file, format!("# {cell}\n{text}"))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(())
}
