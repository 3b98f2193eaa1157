//! Everything done by hand, as a command: one module per command.
#![forbid(unsafe_code)]

mod apt;
mod bench;
mod check;
mod ci;
mod command;
mod cost;
mod demo;
mod dist;
mod errors;
mod fuzz;
mod image;
#[cfg(test)]
mod import_graph;
mod interpreters;
mod kubernetes;
mod lint;
mod manifests;
mod matrix;
mod offsets;
mod packages;
mod parts;
mod privileged;
mod programs;
mod prometheus;
mod python;
mod record_calls;
mod rust;
mod screenshots;
mod setup;
mod step;
mod suite;
mod tally;
mod test;
mod toolchain;
mod tools;
mod vm;
mod wheels;
mod words;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Set up, test and package gunicorn-observer
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and testing takes
    Setup(setup::Arguments),
    /// Check format, lints, unit tests, rustdoc and words; needs Rust and nothing else
    Check,
    /// Run the tests, or a part of them
    Test(test::Arguments),
    /// Run the observer over two Gunicorns under light load
    Demo(demo::Arguments),
    /// Take the screenshots of docs/images
    Screenshots(screenshots::Arguments),
    /// Build the release files: tarball, Debian package, checksums
    Dist(dist::Arguments),
    /// Measure the overhead of the probes, and write docs/BENCHMARKS.md
    Bench(bench::Arguments),
    /// Compare CPython's layouts with the debug information of local interpreters
    Offsets(offsets::Arguments),
    /// Record the system calls of real workers, for tests of the state machine
    RecordCalls(record_calls::Arguments),
    /// Render the Helm chart to deploy/kubernetes
    Manifests(manifests::Arguments),
    /// Try the observer under other kernels, in guests
    Vm(vm::Arguments),
    /// Fill a folder with the contents of the container image
    Image(image::Arguments),
    /// Refuse retired words in code and documents
    Words(words::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = Workspace::find().and_then(|workspace| match arguments.command {
        Command::Setup(arguments) => setup::run(&workspace, &arguments),
        Command::Check => check::run(&workspace),
        Command::Test(arguments) => test::run(&workspace, &arguments),
        Command::Demo(arguments) => demo::run(&workspace, &arguments),
        Command::Screenshots(arguments) => screenshots::run(&workspace, &arguments),
        Command::Dist(arguments) => dist::run(&workspace, &arguments),
        Command::Bench(arguments) => bench::run(&workspace, &arguments),
        Command::Offsets(arguments) => offsets::run(&arguments),
        Command::RecordCalls(arguments) => record_calls::run(&workspace, &arguments),
        Command::Manifests(arguments) => manifests::run(&workspace, &arguments),
        Command::Vm(arguments) => vm::run(&workspace, &arguments),
        Command::Image(arguments) => image::run(&workspace, &arguments),
        Command::Words(arguments) => words::run(&workspace, &arguments),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
