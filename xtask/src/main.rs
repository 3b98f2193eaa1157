//! Everything a person does by hand, as a command. One file a command.
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

/// Sets up, tests and shows gunicorn-observer.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make this machine able to build and test
    Setup(setup::Arguments),
    /// Check format, lints, unit tests, rustdoc and words; needs Rust and nothing else
    Check,
    /// Run the tests, or a part of them
    Test(test::Arguments),
    /// See it run: two Gunicorns, light load, the observer
    Demo(demo::Arguments),
    /// Take the pictures of the dashboard that are in docs/images
    Screenshots(screenshots::Arguments),
    /// Make what is given to users: a tarball, a Debian package, their checksums
    Dist(dist::Arguments),
    /// Measure what the probes cost
    Bench(bench::Arguments),
    /// Hold the layouts of CPython against the debug information of interpreters at hand
    Offsets(offsets::Arguments),
    /// Render the Helm chart into the plain manifests of deploy/kubernetes
    Manifests(manifests::Arguments),
    /// Boot the kernels that people run, and see what the observer sees there
    Vm(vm::Arguments),
    /// Fill a folder with all that is in the container image
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
