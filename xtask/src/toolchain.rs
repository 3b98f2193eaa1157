//! The Rust toolchains: the ordinary one, and the one that builds the eBPF programs.
//!
//! `core` for the BPF target is built from source (`-Z build-std=core`), so that toolchain must
//! carry the sources of `core`. The observer's build script picks the toolchain by the same rule
//! as [`chosen`].

use std::{env, path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{
    command, packages,
    step::{Check, Step},
    workspace::Workspace,
};

/// Variable that names another toolchain.
const CHOICE: &str = "GUNICORN_OBSERVER_BPF_TOOLCHAIN";
/// The name of Debian's compiler in rustup.
const DEBIAN: &str = "debian-bpf";
/// Debian 12's newest compiler, with the sources of `core`.
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];
/// The LLVM that bpf-linker is built with: it reads no bitcode of a newer one.
pub const LLVM_MAJOR: u32 = 22;

pub const HOST_COMPONENTS: Step = Step {
    name: "rustfmt and clippy",
    why: "`cargo xtask test` checks the format and the lints.",
    check: |_| {
        for (component, program) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
            if command::output("cargo", &[program, "--version"]).is_none() {
                return Check::missing(
                    format!("`cargo {program}` does not run"),
                    format!("rustup component add {component}"),
                );
            }
        }
        Check::Present("both run".into())
    },
    make: Some(|_| {
        command::run(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))
    }),
};

pub const BPF_TOOLCHAIN: Step = Step {
    name: "BPF toolchain",
    why: "The eBPF programs are built with their own `core`: that needs a compiler that has its sources.",
    check: |_| match chosen() {
        Some(toolchain) => usable(&toolchain),
        None => Check::missing(
            "no rustup toolchain has the sources of `core`",
            format!(
                "rustup toolchain install nightly --component rust-src,clippy; or on Debian: {}, \
                 then rustup toolchain link {DEBIAN} /usr",
                packages::fix(DEBIAN_PACKAGES)
            ),
        ),
    },
    make: Some(|_| {
        if let Some(toolchain) = chosen().filter(|toolchain| toolchain != DEBIAN) {
            bail!("toolchain {toolchain} was found and cannot be used: set {CHOICE} to another");
        }
        packages::install(DEBIAN_PACKAGES)?;
        command::run(Command::new("rustup").args(["toolchain", "link", DEBIAN, "/usr"]))
    }),
};

pub const BPF_CLIPPY: Step = Step {
    name: "clippy of the BPF toolchain",
    why: "The eBPF programs are linted with the compiler that builds them.",
    check: |_| {
        let toolchain = chosen().unwrap_or_else(|| DEBIAN.into());
        match command::output(
            "rustup",
            &["run", &toolchain, "cargo", "clippy", "--version"],
        ) {
            Some(version) => Check::Present(version),
            None => Check::missing(
                format!("`cargo +{toolchain} clippy` does not run"),
                if toolchain == DEBIAN {
                    packages::fix(&["rust-web-clippy"])
                } else {
                    format!("rustup component add clippy --toolchain {toolchain}")
                },
            ),
        }
    },
    make: Some(|_| match chosen() {
        Some(toolchain) if toolchain != DEBIAN => command::run(Command::new("rustup").args([
            "component",
            "add",
            "clippy",
            "--toolchain",
            &toolchain,
        ])),
        _ => packages::install(&["rust-web-clippy"]),
    }),
};

/// The toolchain for the eBPF programs: the one named in the environment, else a nightly with the
/// sources of `core`, else Debian's.
pub fn chosen() -> Option<String> {
    if let Ok(toolchain) = env::var(CHOICE)
        && !toolchain.is_empty()
    {
        return Some(toolchain);
    }
    ["nightly", DEBIAN]
        .into_iter()
        .find(|toolchain| sysroot(toolchain).is_some_and(|sysroot| has_sources(&sysroot)))
        .map(str::to_owned)
}

fn sysroot(toolchain: &str) -> Option<String> {
    command::output("rustup", &["run", toolchain, "rustc", "--print", "sysroot"])
}

fn has_sources(sysroot: &str) -> bool {
    Path::new(sysroot)
        .join("lib/rustlib/src/rust/library/core")
        .is_dir()
}

fn usable(toolchain: &str) -> Check {
    let fix = format!("set {CHOICE} to a toolchain that fits; `rustup toolchain list` shows them");
    let Some(sysroot) = sysroot(toolchain) else {
        return Check::missing(format!("toolchain {toolchain} does not run"), fix);
    };
    if !has_sources(&sysroot) {
        return Check::missing(
            format!("toolchain {toolchain} has no sources of `core`"),
            format!("rustup component add rust-src --toolchain {toolchain}"),
        );
    }
    let version =
        command::output("rustup", &["run", toolchain, "rustc", "-vV"]).unwrap_or_default();
    let field = |name: &str| {
        version
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let llvm = field("LLVM version:").unwrap_or_default();
    let release = field("release:").unwrap_or_default();
    if numbers(llvm)
        .first()
        .is_some_and(|&major| major > LLVM_MAJOR)
    {
        return Check::missing(
            format!(
                "toolchain {toolchain} has LLVM {llvm}, and bpf-linker reads up to {LLVM_MAJOR}"
            ),
            fix,
        );
    }
    let least = env!("CARGO_PKG_RUST_VERSION");
    if numbers(release) < numbers(least) {
        return Check::missing(
            format!("toolchain {toolchain} is Rust {release}, under {least}"),
            fix,
        );
    }
    Check::Present(format!("{toolchain}, Rust {release}, LLVM {llvm}"))
}

fn numbers(version: &str) -> Vec<u32> {
    version
        .split(['.', '-'])
        .map_while(|part| part.parse().ok())
        .collect()
}

/// A cargo command of the BPF toolchain, allowed to build `core`.
pub fn cargo(workspace: &Workspace) -> Result<Command> {
    let Some(toolchain) = chosen() else {
        bail!("no toolchain has the sources of `core`: run `cargo xtask setup`");
    };
    let mut command = Command::new("rustup");
    command
        .args(["run", &toolchain, "cargo"])
        .current_dir(&workspace.root);
    // Debian's compiler is a stable one; the variable lets it build `core`, and reaches this
    // child only.
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(numbers("1.97.0-nightly"), [1, 97, 0]);
        assert!(numbers("1.96.0") > numbers("1.95"));
        assert!(numbers("1.100.0") > numbers("1.95"));
        assert!(numbers("unknown").is_empty());
    }
}
