//! Checks of the host before `run` starts: each failed check names its fix.

mod host;

use super::kernel::Types;
use super::programs::Programs;
use super::{load, tracefs};
use crate::privilege::{COVERED, NEEDED};
use caps::Capability;
use nix::unistd::Uid;
use procfs::process::Process;
use serde::Serialize;
use std::path::Path;

/// One requirement of `run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    /// Whether `run` can work with the finding.
    pub ok: bool,
    pub found: String,
    /// How to fix the finding; empty when there is nothing to fix.
    pub fix: String,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            ok: true,
            found: found.into(),
            fix: String::new(),
        }
    }

    fn bad(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            ok: false,
            found: found.into(),
            fix: fix.into(),
        }
    }
}

/// The results of all checks, and the programs if they could be loaded.
pub struct Preflight {
    /// In the order in which they depend on each other.
    pub checks: Vec<Check>,
    /// Attached to nothing.
    pub programs: Option<Programs>,
}

/// Checks the host, and loads the programs if every check before passed. `btf` is a file with the
/// kernel's types.
#[must_use]
pub fn check(btf: Option<&Path>) -> Preflight {
    let (types, fields) = types(btf);
    let mut checks = vec![
        privilege(),
        namespaces(),
        kernel_release(),
        fields,
        host::lockdown(),
        tracefs(),
        host::perf_events(),
        host::unprivileged_bpf(),
        host::control_groups(),
    ];
    let mut programs = None;
    if let (Some(types), true) = (types, checks.iter().all(|check| check.ok)) {
        let mut loaded = load::load(&types);
        if let Ok(programs) = &mut loaded {
            programs.load_all();
        }
        checks.push(host::locked_memory(loaded.as_ref().err()));
        checks.push(accepted(&loaded));
        programs = loaded.ok();
    }
    Preflight { checks, programs }
}

/// Checks that this process may observe others.
///
/// # Errors
/// The first failed check with its fix.
pub fn privileged() -> anyhow::Result<()> {
    for check in [privilege(), namespaces()] {
        anyhow::ensure!(check.ok, "{}; {}", check.found, check.fix);
    }
    Ok(())
}

fn privilege() -> Check {
    let effective = Process::myself()
        .and_then(|me| me.status())
        .map_or(0, |status| status.capeff);
    of_capabilities(effective, Uid::effective().as_raw())
}

/// Checks the effective capabilities of a process of this user.
fn of_capabilities(effective: u64, user: u32) -> Check {
    const NAME: &str = "privilege";
    let missing = |of: &[Capability]| {
        let missing = of.iter().filter(|it| effective & it.bitmask() == 0);
        let names: Vec<String> = missing.map(ToString::to_string).collect();
        names.join(", ")
    };
    let (needed, covered) = (missing(&NEEDED), missing(&COVERED));
    if !needed.is_empty() {
        return Check::bad(
            NAME,
            format!("cannot observe other processes: user {user} lacks {needed}"),
            "run as root (sudo), or give the service these capabilities",
        );
    }
    let found = format!("user {user} has all required capabilities");
    if covered.is_empty() {
        return Check::good(NAME, found);
    }
    Check::good(
        NAME,
        format!("{found}; without {covered}, which CAP_SYS_ADMIN covers"),
    )
}

/// The programs see the pids of the host, so `/proc` must show the same.
fn namespaces() -> Check {
    const NAME: &str = "pid namespace";
    /// `PROC_PID_INIT_INO` of `linux/proc_ns.h`, the number of the host's pid namespace.
    const HOST: &str = "pid:[4026531836]";
    match std::fs::read_link("/proc/self/ns/pid") {
        Ok(own) if own.as_os_str() == HOST => Check::good(NAME, "the host's"),
        Ok(_) => Check::bad(
            NAME,
            "not the host's: this process does not see the host's process ids",
            "run in the host's pid namespace: `hostPID: true` in Kubernetes, `--pid=host` for a container",
        ),
        Err(error) => Check::bad(NAME, format!("/proc/self/ns/pid: {error}"), "mount /proc"),
    }
}

fn kernel_release() -> Check {
    const NAME: &str = "kernel";
    match nix::sys::utsname::uname() {
        Ok(name) => Check::good(NAME, format!("Linux {}", name.release().to_string_lossy())),
        Err(error) => Check::bad(NAME, error.to_string(), "run on Linux"),
    }
}

fn types(btf: Option<&Path>) -> (Option<Types>, Check) {
    const NAME: &str = "kernel types (BTF)";
    let read = Types::read(btf).and_then(|types| types.offsets().map(|_| types));
    match read {
        Ok(types) => {
            let found = format!("{} has all required fields", types.from().display());
            (Some(types), Check::good(NAME, found))
        }
        Err(error) => {
            let check = Check::bad(
                NAME,
                error.to_string(),
                "use Linux 5.10 or later with CONFIG_DEBUG_INFO_BTF=y, as distributions ship it, or \
                 pass the types of this very kernel with --btf",
            );
            (None, check)
        }
    }
}

fn tracefs() -> Check {
    const NAME: &str = "tracefs";
    if let Err(error) = tracefs::ensure().and_then(|()| tracefs::offsets()) {
        return Check::bad(
            NAME,
            error.to_string(),
            "mount -t tracefs tracefs /sys/kernel/tracing",
        );
    }
    Check::good(NAME, "tracepoints and their fields are readable")
}

fn accepted(loaded: &anyhow::Result<Programs>) -> Check {
    const NAME: &str = "eBPF programs";
    const FIX: &str = "report it with the output of `gunicorn-observer doctor --verbose`";
    let absent = match loaded {
        Ok(programs) => programs.absent(),
        Err(error) => {
            let first_line = format!("{error:#}");
            return Check::bad(NAME, first_line.lines().next().unwrap_or_default(), FIX);
        }
    };
    let names: Vec<_> = absent.iter().map(|(feature, _)| feature.name).collect();
    match (absent.required(), names.as_slice()) {
        (Some(refusal), _) => Check::bad(NAME, &refusal.why, FIX),
        (None, []) => Check::good(NAME, "accepted by this kernel"),
        (None, names) => Check {
            fix: FIX.to_owned(),
            ..Check::good(NAME, format!("accepted, except for: {}", names.join(", ")))
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Capability> {
        NEEDED.into_iter().chain(COVERED)
    }

    fn with_all() -> u64 {
        all().fold(0, |bits, capability| bits | capability.bitmask())
    }

    #[test]
    fn a_missing_capability_is_named_and_no_other() {
        for missing in all() {
            let check = of_capabilities(with_all() & !missing.bitmask(), 0);
            assert_eq!(check.ok, !NEEDED.contains(&missing), "{check:?}");
            for other in all() {
                let is_named = check.found.contains(&format!("lacks {other}"))
                    || check.found.contains(&format!("without {other}"));
                assert_eq!(is_named, other == missing, "{check:?}");
            }
        }
    }

    #[test]
    fn with_all_capabilities_none_is_named() {
        let check = of_capabilities(with_all(), 1000);
        assert!(check.ok && !check.found.contains("CAP_"), "{check:?}");
    }
}
