//! `cargo xtask test`: the one gate.

use std::{
    env,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{command, setup, toolchain, workspace::Workspace};

/// Checks format, lints, dependencies, and runs every test
#[derive(clap::Args)]
pub struct Arguments {
    /// Run this part only
    #[arg(value_enum)]
    part: Option<Part>,
    /// Run only tests whose name contains this
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Format, clippy of both sides, dependencies
    Lint,
    /// Tests that need no root
    Unit,
    /// Tests that load probes and observe a real Gunicorn; needs root
    Privileged,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::Privileged => "privileged",
        }
    }
}

pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    timed("setup", || setup::make(workspace))?;
    for part in [Part::Lint, Part::Unit, Part::Privileged] {
        if arguments.part.is_some_and(|only| only != part) {
            continue;
        }
        let filter = arguments.filter.as_deref();
        timed(part.name(), || match part {
            Part::Lint => lint(workspace),
            Part::Unit => unit(workspace, filter),
            Part::Privileged => privileged(workspace, filter),
        })?;
    }
    Ok(())
}

fn timed(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    let start = Instant::now();
    let done = work();
    let took =
        Duration::from_millis(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
    println!(
        "== {name}: {} in {took:?}",
        if done.is_ok() { "ok" } else { "FAILED" }
    );
    done.with_context(|| format!("{name} failed"))
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(&workspace.root);
    command
}

fn lint(workspace: &Workspace) -> Result<()> {
    command::run(&mut cargo(workspace, &["fmt", "--all", "--check"]))?;
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
    lint_bpf(workspace)?;
    command::run(&mut cargo(
        workspace,
        &["deny", "check", "licenses", "bans", "sources"],
    ))?;
    advisories(workspace)
}

/// The eBPF side is other code to the compiler (`cfg(target_arch = "bpf")`), so it has a run of
/// its own, with the flags the observer's build script builds it with.
fn lint_bpf(workspace: &Workspace) -> Result<()> {
    let mut command = toolchain::cargo(workspace)?;
    command
        .args([
            "clippy",
            "--package",
            "probe-ebpf",
            "--bins",
            "--features",
            "bpf",
        ])
        .args([
            "--target",
            "bpfel-unknown-none",
            "-Z",
            "build-std=core",
            "--release",
        ])
        .arg("--target-dir")
        .arg(workspace.target.join("bpf-clippy"))
        .args(["--", "-D", "warnings"])
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!(
                "--cfg=bpf_target_arch=\"{}\"\x1f-Cdebuginfo=2",
                env::consts::ARCH
            ),
        );
    command::run(&mut command)
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
    command::run(cargo(workspace, &["test", "--package", "end-to-end", "--lib"]).args(filter))
}

fn privileged(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        let cure = "run `sudo -E env \"PATH=$PATH\" cargo xtask test privileged`";
        if env::var("CI").is_ok_and(|ci| ci == "true") {
            bail!("loading probes needs root, and under CI nothing is skipped: {cure}");
        }
        println!("  SKIPPED: loading probes needs root: {cure}");
        return Ok(());
    }
    command::run(&mut cargo(
        workspace,
        &["build", "--package", "gunicorn-observer"],
    ))?;
    // One at a time: each test loads two cores by itself, and some count what is loaded in the
    // kernel.
    command::run(
        cargo(
            workspace,
            &["test", "--package", "end-to-end", "--no-fail-fast"],
        )
        .env(
            "GUNICORN_OBSERVER_BIN",
            workspace.target.join("debug/gunicorn-observer"),
        )
        .env("GUNICORN_OBSERVER_VENVS", workspace.venvs())
        .args(["--", "--test-threads=1"])
        .args(filter),
    )
}
