//! `cargo xtask vm`: what the observer reports under each kernel, as a table.

mod document;
mod guest;
mod initramfs;
mod kernels;
mod modules;

use std::{env, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use end_to_end::smoke::Report;

use crate::{
    command, parts::Part, programs, rust, step::make_missing, tally::Tally, workspace::Workspace,
};
use document::Row;
use guest::Guest;
use kernels::{KERNELS, Kernel};

/// Boot kernels, and try what the observer reports under each
#[derive(clap::Args)]
pub struct Arguments {
    /// Kernels of Debian to boot in guests: 5.10, 6.1, 6.12, sid; or `host` [default: all]
    kernels: Vec<String>,
    /// Run the privileged tests with this in their name in the guests instead; `.` for all
    #[arg(long, value_name = "NAME")]
    full: Option<String>,
    /// More words for the guests' kernel command line, such as `lockdown=confidentiality`
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Processors of each guest
    #[arg(long, default_value_t = PROCESSORS)]
    processors: u32,
    /// Write the table to docs/KERNELS.md; needs all kernels
    #[arg(long)]
    write: bool,
}

/// A guest is stopped after this time.
const BOUND: Duration = Duration::from_secs(600);
/// The same for a guest that runs all privileged tests.
const FULL_BOUND: Duration = Duration::from_secs(6 * 3600);
/// The factor by which bounds on waiting are longer in a guest.
const PATIENCE: &str = "4";
/// Processors of a guest: `kernel-smoke` does two things at a time while the verifier runs.
const PROCESSORS: u32 = 2;

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    make_missing(Part::Vm.steps(), workspace)?;
    if arguments.full.is_some() {
        make_missing(Part::Privileged.steps(), workspace)?;
    }
    let chosen = chosen(&arguments.kernels)?;
    if arguments.write && chosen.len() != KERNELS.len() {
        bail!("--write needs all kernels: docs/KERNELS.md has a column for each");
    }
    if let Some(filter) = &arguments.full {
        return full(workspace, &chosen, filter, arguments);
    }
    let rows = smoke(workspace, &build(workspace)?, &chosen, arguments)?;
    if arguments.write {
        document::write(workspace, &rows)?;
    }
    Ok(())
}

/// The programs that run in a guest.
pub struct Built {
    observer: PathBuf,
    smoke: PathBuf,
}

pub fn build(workspace: &Workspace) -> Result<Built> {
    let smoke = ["build", "--package", "end-to-end", "--bin", "kernel-smoke"];
    command::run(&mut rust::cargo(workspace, &smoke))?;
    Ok(Built {
        observer: workspace.build_observer()?,
        smoke: workspace.target.join("debug/kernel-smoke"),
    })
}

/// Tries the kernels that are part of `cargo xtask test all`, each as one test.
pub fn gate(workspace: &Workspace, built: &Built, tally: &mut Tally) {
    let arguments = Arguments {
        kernels: Vec::new(),
        full: None,
        append: String::new(),
        processors: PROCESSORS,
        write: false,
    };
    for kernel in KERNELS.into_iter().filter(|kernel| kernel.in_gate) {
        tally.check(&format!("Linux {}", kernel.name), || {
            smoke(workspace, built, &[kernel], &arguments).map(|_| ())
        });
    }
}

fn chosen(names: &[String]) -> Result<Vec<Kernel>> {
    if let Some(name) = names
        .iter()
        .find(|name| KERNELS.iter().all(|it| it.name != **name))
    {
        let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
        bail!("unknown kernel `{name}`; known are {}", known.join(", "));
    }
    let is_chosen = |kernel: &Kernel| names.is_empty() || names.iter().any(|it| it == kernel.name);
    Ok(KERNELS.into_iter().filter(is_chosen).collect())
}

/// Tries each kernel, and fails at the end if one of them failed.
fn smoke(
    workspace: &Workspace,
    built: &Built,
    chosen: &[Kernel],
    arguments: &Arguments,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kernel in chosen {
        println!("  {}", kernel.name);
        let command = in_environment(workspace, &built.observer, &built.smoke);
        let row = one(workspace, *kernel, command, arguments)
            .with_context(|| format!("kernel {}", kernel.name))?;
        println!(
            "    Linux {} in {} s",
            row.report.release, row.report.seconds
        );
        for denied in &row.report.denied {
            println!("    observing is not possible, as `doctor` reports: {denied}");
        }
        for wrong in &row.report.wrong {
            println!("    WRONG: {}", wrong.replace('\n', "\n        "));
        }
        rows.push(row);
    }
    println!("\n{}", document::tables(&rows));
    let wrong: Vec<_> = rows
        .iter()
        .filter(|row| !row.report.wrong.is_empty())
        .collect();
    if !wrong.is_empty() {
        let names: Vec<_> = wrong.iter().map(|row| row.kernel.name).collect();
        bail!("failed under {}", names.join(", "));
    }
    Ok(rows)
}

fn one(
    workspace: &Workspace,
    kernel: Kernel,
    mut command: Command,
    arguments: &Arguments,
) -> Result<Row> {
    let (output, qemu) = match kernel.suite {
        Some(suite) => {
            let image = kernels::image(workspace, suite)?;
            let guest = Guest {
                image: &image,
                append: &arguments.append,
                processors: arguments.processors,
                bound: BOUND,
            };
            command.env("GUNICORN_OBSERVER_PATIENCE", PATIENCE);
            (guest.run(&command)?, Some(guest.shown()?))
        }
        None => (on_this_machine(&mut command)?, None),
    };
    let start = output
        .find('{')
        .with_context(|| format!("no report:\n{output}"))?;
    // Standard error follows the report.
    let mut reports = serde_json::Deserializer::from_str(&output[start..]).into_iter::<Report>();
    let report = reports.next().context("no report")?;
    let report = report.with_context(|| format!("no report:\n{output}"))?;
    Ok(Row {
        kernel,
        report,
        qemu,
    })
}

fn on_this_machine(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot start the smoke")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.is_empty() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

/// Runs the privileged tests in each guest, file by file, and fails if one fails.
fn full(
    workspace: &Workspace,
    chosen: &[Kernel],
    filter: &str,
    arguments: &Arguments,
) -> Result<()> {
    let observer = workspace.build_observer()?;
    let tests = programs::build(workspace, &["--package", "end-to-end", "--test", "*"])?;
    let paths: Vec<_> = tests
        .iter()
        .map(|it| it.path.display().to_string())
        .collect();
    let programs = paths.join(" ");
    let filter = if filter == "." { "" } else { filter };
    // A guest's files are read only, so that cargo itself cannot run there.
    let script = format!(
        "failed=0; for test in {programs}; do $test --test-threads=1 {filter} || failed=1; done; \
         echo failed=$failed"
    );
    for kernel in chosen {
        let Some(suite) = kernel.suite else {
            bail!("--full runs in guests; for this machine run `cargo xtask test privileged`");
        };
        let image = kernels::image(workspace, suite)?;
        let guest = Guest {
            image: &image,
            append: &arguments.append,
            processors: arguments.processors,
            bound: FULL_BOUND,
        };
        let mut command = in_environment(workspace, &observer, &PathBuf::from("/bin/sh"));
        command
            .args(["-c", &script])
            .env("GUNICORN_OBSERVER_PATIENCE", PATIENCE)
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .current_dir(workspace.root.join("tests"));
        let output = guest.run(&command)?;
        println!("{output}");
        if !output.ends_with("failed=0\n") {
            bail!("tests failed under {}", kernel.name);
        }
    }
    Ok(())
}

fn in_environment(workspace: &Workspace, observer: &PathBuf, program: &PathBuf) -> Command {
    let mut command = Command::new(program);
    command
        .env("GUNICORN_OBSERVER_BIN", observer)
        .env("GUNICORN_OBSERVER_VENVS", workspace.venvs())
        .env("GUNICORN_OBSERVER_MATRIX", workspace.matrix_folder());
    command
}
