//! `cargo xtask test lint`: the checks of `cargo xtask check`, and those that need more than Rust.

use std::{
    env,
    process::{Command, Stdio},
};

use anyhow::Result;

use crate::{
    command,
    privileged::plan::Extent,
    rust::{self, Features},
    tally::Tally,
    toolchain,
    workspace::Workspace,
};

const AARCH64: &str = "aarch64-unknown-linux-gnu";

pub fn run(workspace: &Workspace, extent: Extent, tally: &mut Tally) {
    rust::lint(workspace, Features::Shipped, tally);
    tally.check("clippy of the eBPF programs", || {
        bpf(workspace, env::consts::ARCH)
    });
    if extent == Extent::Full {
        others(workspace, tally);
    }
    tally.check("dependencies", || {
        let checks = ["check", "licenses", "bans", "sources"];
        command::run(rust::cargo(workspace, &["deny"]).args(checks))?;
        // The fuzz targets are a workspace of their own.
        let fuzz = ["deny", "--manifest-path", "tests/fuzz/Cargo.toml"];
        command::run(
            rust::cargo(workspace, &fuzz)
                .args(["--config", "deny.toml"])
                .args(checks),
        )
    });
    tally.check("advisories", || advisories(workspace));
}

/// The same code again, as it is compiled elsewhere: every dependency is compiled again, too.
fn others(workspace: &Workspace, tally: &mut Tally) {
    tally.check("clippy without features", || {
        let clippy = ["clippy", "--package", "gunicorn-observer", "--all-targets"];
        command::run(rust::cargo(workspace, &clippy).args(["--", "-D", "warnings"]))
    });
    tally.check("clippy of the eBPF programs for aarch64", || {
        bpf(workspace, "aarch64")
    });
    tally.check("clippy for aarch64", || aarch64(workspace));
}

/// The eBPF side is other code to the compiler (`cfg(target_arch = "bpf")`), so it has a run of
/// its own, with the flags that the observer's build script uses for this architecture.
fn bpf(workspace: &Workspace, arch: &str) -> Result<()> {
    let mut command = toolchain::cargo(workspace)?;
    command
        .args(["clippy", "--package", "probe-ebpf", "--bins"])
        .args(["--features", "bpf,empty"])
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        .arg("--release")
        .arg("--target-dir")
        .arg(workspace.target.join(format!("bpf-clippy-{arch}")))
        .args(["--", "-D", "warnings"])
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{arch}\"\x1f-Cdebuginfo=2"),
        );
    command::run(&mut command)
}

/// Code for aarch64 is compiled and not run. It is left out, with a message, where rustup cannot
/// fetch the target's standard library.
fn aarch64(workspace: &Workspace) -> Result<()> {
    let mut add = Command::new("rustup");
    add.args(["target", "add", AARCH64]).stderr(Stdio::null());
    if !add.status().is_ok_and(|status| status.success()) {
        println!("  aarch64 NOT checked: `rustup target add {AARCH64}` fails here");
        return Ok(());
    }
    let packages = ["--package", "gunicorn-observer", "--package", "probe-ebpf"];
    command::run(
        rust::cargo(workspace, &["clippy", "--target", AARCH64, "--all-targets"])
            .args(packages)
            .args(Features::Shipped.arguments())
            .args(["--", "-D", "warnings"]),
    )
}

/// The database of advisories comes over the network and changes by itself: failing to fetch it
/// does not fail an unchanged tree; an advisory does.
fn advisories(workspace: &Workspace) -> Result<()> {
    let fetched = rust::cargo(workspace, &["deny", "--log-level", "off", "fetch", "db"])
        .status()
        .is_ok_and(|status| status.success());
    if fetched {
        command::run(&mut rust::cargo(
            workspace,
            &["deny", "check", "advisories"],
        ))
    } else {
        println!("  advisories NOT checked: their database cannot be fetched from here");
        Ok(())
    }
}
