//! `cargo xtask test`: the one gate.

use std::{
    env,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command, cost, errors, fuzz, matrix, offsets, setup, toolchain, vm, workspace::Workspace,
};

/// Checks format, lints, dependencies, and runs every test
#[derive(clap::Args)]
pub struct Arguments {
    /// Run this part only
    #[arg(value_enum)]
    part: Option<Part>,
    /// Run only tests whose name contains this; of the matrix, cells of which each of these begins
    /// an interpreter, a Gunicorn's version or a class; of the errors, frameworks and interpreters
    /// whose name has each
    filter: Vec<String>,
    /// Of the matrix, only a part that has each interpreter with each class, and each Gunicorn
    #[arg(long)]
    subset: bool,
    /// Write the table of the whole matrix to docs/MATRIX.md, that of all errors to docs/ERRORS.md,
    /// the counts of `cost` to xtask/cost.toml
    #[arg(long)]
    write: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Format, clippy of both sides, dependencies
    Lint,
    /// Tests that need no root
    Unit,
    /// A short run of each fuzz target
    Fuzz,
    /// Instructions of userspace and programs, against those of before
    Cost,
    /// Tests that load probes and observe a real Gunicorn; needs root
    Privileged,
    /// Older kernels, in guests: what the observer tells under each
    Vm,
    /// Every interpreter with every Gunicorn and worker class, as a table; needs root. Not a part
    /// of the gate, whose privileged part has a subset of it
    Matrix,
    /// Every way a request fails under every framework, as a table; needs root. The gate's
    /// privileged part has it as a test
    Errors,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::Fuzz => "fuzz",
            Self::Cost => "cost",
            Self::Privileged => "privileged",
            Self::Vm => "vm",
            Self::Matrix => "matrix",
            Self::Errors => "errors",
        }
    }
}

const AARCH64: &str = "aarch64-unknown-linux-gnu";

/// How a part ended that did not fail.
enum Done {
    Ok,
    /// Why nothing was run.
    Skipped(String),
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let skipped = not_privileged();
    // Who asks for nothing else must not take a skip for a success.
    if let Some(reason) = &skipped
        && (matches!(
            arguments.part,
            Some(Part::Privileged | Part::Matrix | Part::Errors)
        ) || (arguments.part.is_none() && is_ci()))
    {
        bail!("{reason}");
    }
    let filter = match (arguments.part, arguments.filter.as_slice()) {
        (Some(Part::Matrix), words) => {
            timed("setup", || setup::make(workspace).map(|()| Done::Ok))?;
            let choice = matrix::Choice {
                subset: arguments.subset,
                words,
                write: arguments.write,
            };
            return timed("matrix", || {
                matrix::run(workspace, &choice).map(|()| Done::Ok)
            });
        }
        (Some(Part::Errors), words) if !arguments.subset => {
            timed("setup", || setup::make(workspace).map(|()| Done::Ok))?;
            return timed("errors", || {
                errors::run(workspace, words, arguments.write).map(|()| Done::Ok)
            });
        }
        (Some(Part::Cost), []) if !arguments.subset => {
            timed("setup", || setup::make(workspace).map(|()| Done::Ok))?;
            return timed("cost", || {
                cost::run(workspace, arguments.write).map(|()| Done::Ok)
            });
        }
        _ if arguments.subset || arguments.write => {
            bail!(
                "--subset is of `cargo xtask test matrix`, --write of it, of `errors` and of `cost`"
            );
        }
        (_, []) => None,
        (_, [filter]) => Some(filter.as_str()),
        (_, [_, more, ..]) => bail!("one part of a test's name, not also `{more}`"),
    };
    timed("setup", || setup::make(workspace).map(|()| Done::Ok))?;
    for part in [
        Part::Lint,
        Part::Unit,
        Part::Fuzz,
        Part::Cost,
        Part::Privileged,
        Part::Vm,
    ] {
        if arguments.part.is_some_and(|only| only != part) {
            continue;
        }
        timed(part.name(), || match part {
            Part::Lint => lint(workspace).map(|()| Done::Ok),
            Part::Unit => unit(workspace, filter).map(|()| Done::Ok),
            Part::Fuzz => fuzz::run(workspace, filter).map(|()| Done::Ok),
            Part::Cost => cost::run(workspace, false).map(|()| Done::Ok),
            Part::Privileged => match &skipped {
                Some(reason) => Ok(Done::Skipped(reason.clone())),
                None => privileged(workspace, filter).map(|()| Done::Ok),
            },
            Part::Vm => vm::gate(workspace).map(|()| Done::Ok),
            // Taken above.
            Part::Matrix | Part::Errors => Ok(Done::Ok),
        })?;
    }
    Ok(())
}

fn timed(name: &str, work: impl FnOnce() -> Result<Done>) -> Result<()> {
    println!("== {name}");
    let start = Instant::now();
    let done = work();
    let took =
        Duration::from_millis(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
    match &done {
        Ok(Done::Ok) => println!("== {name}: ok in {took:?}"),
        Ok(Done::Skipped(reason)) => println!("== {name}: SKIPPED: {reason}"),
        Err(_) => println!("== {name}: FAILED in {took:?}"),
    }
    done.map(|_| ()).with_context(|| format!("{name} failed"))
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = command::cargo();
    command.args(arguments).current_dir(&workspace.root);
    command
}

fn lint(workspace: &Workspace) -> Result<()> {
    command::run(&mut cargo(workspace, &["fmt", "--all", "--check"]))?;
    let fuzz = ["fmt", "--manifest-path", "tests/fuzz/Cargo.toml", "--check"];
    command::run(&mut cargo(workspace, &fuzz))?;
    command::run(&mut cargo(
        workspace,
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    ))?;
    for arch in [env::consts::ARCH, "aarch64"] {
        lint_bpf(workspace, arch)?;
    }
    lint_fuzz(workspace)?;
    lint_aarch64(workspace)?;
    command::run(&mut cargo(
        workspace,
        &["deny", "check", "licenses", "bans", "sources"],
    ))?;
    advisories(workspace)
}

/// The eBPF side is other code to the compiler (`cfg(target_arch = "bpf")`), so it has a run of
/// its own, with the flags the observer's build script builds it with for the observed machine.
fn lint_bpf(workspace: &Workspace, arch: &str) -> Result<()> {
    let mut command = toolchain::cargo(workspace)?;
    command
        .args([
            "clippy",
            "--package",
            "probe-ebpf",
            "--bins",
            "--features",
            "bpf,empty",
        ])
        .args([
            "--target",
            "bpfel-unknown-none",
            "-Z",
            "build-std=core",
            "--release",
        ])
        .arg("--target-dir")
        .arg(workspace.target.join(format!("bpf-clippy-{arch}")))
        .args(["--", "-D", "warnings"])
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{arch}\"\x1f-Cdebuginfo=2"),
        );
    command::run(&mut command)
}

/// The fuzz targets are a workspace of their own.
fn lint_fuzz(workspace: &Workspace) -> Result<()> {
    let manifest = ["deny", "--manifest-path", "tests/fuzz/Cargo.toml"];
    let what = [
        "--config",
        "deny.toml",
        "check",
        "licenses",
        "bans",
        "sources",
    ];
    command::run(cargo(workspace, &manifest).args(what))
}

/// What is written for aarch64 is compiled for it; nothing of it is run. Without the target's
/// standard library, which rustup may have no way to fetch, that is told.
fn lint_aarch64(workspace: &Workspace) -> Result<()> {
    let mut add = Command::new("rustup");
    add.args(["target", "add", AARCH64]).stderr(Stdio::null());
    if !add.status().is_ok_and(|status| status.success()) {
        println!("  aarch64 NOT checked: `rustup target add {AARCH64}` fails here");
        return Ok(());
    }
    let packages = ["--package", "gunicorn-observer", "--package", "probe-ebpf"];
    command::run(
        cargo(workspace, &["clippy", "--target", AARCH64, "--all-targets"])
            .args(packages)
            // The programs are looked at above.
            .env("AYA_BUILD_SKIP", "1")
            .args(["--", "-D", "warnings"]),
    )
}

/// The list of advisories comes from the network and changes by itself, so not reaching it is told
/// and does not fail an unchanged tree; an advisory that is found does.
fn advisories(workspace: &Workspace) -> Result<()> {
    let fetched = cargo(workspace, &["deny", "--log-level", "off", "fetch", "db"])
        .status()
        .is_ok_and(|status| status.success());
    if fetched {
        command::run(&mut cargo(workspace, &["deny", "check", "advisories"]))
    } else {
        println!("  advisories NOT checked: their database cannot be fetched from here");
        Ok(())
    }
}

fn unit(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    command::run(cargo(workspace, &["test", "--no-fail-fast"]).args(filter))?;
    // The harness of the privileged tests has tests of its own, without probes.
    command::run(cargo(workspace, &["test", "--package", "end-to-end", "--lib"]).args(filter))?;
    match filter {
        None => offsets::check(),
        Some(_) => Ok(()),
    }
}

/// Under CI nothing is skipped.
pub fn is_ci() -> bool {
    env::var("CI").is_ok_and(|ci| ci == "true")
}

/// Why the privileged part cannot run.
fn not_privileged() -> Option<String> {
    if nix::unistd::geteuid().is_root() {
        return None;
    }
    Some(
        "loading probes needs root: run `sudo -E env \"PATH=$PATH\" cargo xtask test privileged`"
            .to_owned(),
    )
}

fn privileged(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    let observer = workspace.build_observer()?;
    let tests = ["test", "--package", "end-to-end", "--no-fail-fast"];
    if let Some(filter) = filter {
        let mut listed = cargo(workspace, &tests);
        some_test(
            listed.args(["--", "--list", "--format", "terse", filter]),
            filter,
        )?;
    }
    // One at a time: each test loads two cores by itself, and some count what is loaded in the
    // kernel.
    command::run(
        cargo(workspace, &tests)
            .env("GUNICORN_OBSERVER_BIN", observer)
            .env("GUNICORN_OBSERVER_VENVS", workspace.venvs())
            .env("GUNICORN_OBSERVER_MATRIX", workspace.matrix_folder())
            .env("GUNICORN_OBSERVER_PROMETHEUS", workspace.prometheus())
            .env("GUNICORN_OBSERVER_HELM", workspace.kubernetes_folder())
            .env("GUNICORN_OBSERVER_XTASK", env::current_exe()?)
            .args(["--", "--test-threads=1"])
            .args(filter),
    )
}

/// Fails if a command that lists tests lists none: a filter with a slip in it would pass.
fn some_test(listing: &mut Command, filter: &str) -> Result<()> {
    let output = listing.output().context("cannot list the tests")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && !text.lines().any(|line| line.ends_with(": test")) {
        bail!("no test has `{filter}` in its name");
    }
    Ok(())
}
