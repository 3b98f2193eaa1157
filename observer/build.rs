//! Builds the eBPF programs and leaves their object in `OUT_DIR`.

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain, build_ebpf};
use std::{env, fs, path::Path, process::Command};

/// Names the toolchain that builds the programs: one with the sources of `core`.
const TOOLCHAIN: &str = "GUNICORN_OBSERVER_BPF_TOOLCHAIN";
/// Distribution packages of rustc linked into rustup by `cargo xtask setup`.
const FALLBACK: &str = "debian-bpf";
/// Known to `aya-build`: where only userspace is looked at or run, the object stays empty.
const SKIP: &str = "AYA_BUILD_SKIP";

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed={SKIP}");
    if env::var_os(SKIP).is_some() {
        let folder = env::var("OUT_DIR").context("cargo sets OUT_DIR")?;
        return fs::write(Path::new(&folder).join("probe-ebpf"), []).context("writing OUT_DIR");
    }
    let toolchain = toolchain();
    println!("cargo:rerun-if-env-changed={TOOLCHAIN}");
    if toolchain != "nightly" {
        // SAFETY: the build script has one thread. A released compiler builds
        // `core` only with unstable flags accepted; the variable is set
        // for the children of this script alone.
        unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
    }
    // SAFETY: as above. What the inner cargo says would be shown as warnings of ours.
    unsafe { env::set_var("CARGO_TERM_QUIET", "true") };
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../probe-ebpf");
    let features: &[&str] = if env::var_os("CARGO_FEATURE_PROBE_LOG").is_some() {
        &["bpf", "log"]
    } else {
        &["bpf"]
    };
    let package = Package {
        name: "probe-ebpf",
        root_dir: root,
        features,
        ..Package::default()
    };
    build_ebpf([package], Toolchain::Custom(&toolchain)).with_context(|| {
        format!("building the eBPF programs with the toolchain {toolchain}; `cargo xtask setup` installs what that needs")
    })
}

fn toolchain() -> String {
    if let Ok(named) = env::var(TOOLCHAIN) {
        return named;
    }
    let nightly = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .output();
    let has_core = nightly.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout);
        Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
    });
    if has_core {
        "nightly".into()
    } else {
        FALLBACK.into()
    }
}
