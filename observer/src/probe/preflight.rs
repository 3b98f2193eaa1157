//! What this host offers, before anything is tried: each refusal names its cure.

mod host;

pub use host::raise as raise_locked_memory;

use super::kernel::Types;
use super::load::{self, Loaded};
use super::tracefs;
use crate::privilege::{COVERED, NEEDED};
use caps::Capability;
use nix::unistd::Uid;
use procfs::process::Process;
use serde::Serialize;
use std::path::Path;

/// One thing that must hold for `run` to work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is looked at.
    pub name: &'static str,
    /// Whether `run` can work with what was found.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when nothing is to be done.
    pub cure: String,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            ok: true,
            found: found.into(),
            cure: String::new(),
        }
    }

    fn bad(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            name,
            ok: false,
            found: found.into(),
            cure: cure.into(),
        }
    }
}

/// What was looked at, and the programs if they could be loaded.
pub struct Preflight {
    /// In the order in which they depend on each other.
    pub checks: Vec<Check>,
    /// Attached to nothing; dropped with this.
    pub loaded: Option<Loaded>,
}

/// DeepCaptures at all of it. Loads the programs if nothing before spoke against it; the kernel's types
/// are those of this file, if there is one.
#[must_use]
pub fn look(btf: Option<&Path>) -> Preflight {
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
    let mut loaded = None;
    if let (Some(types), true) = (types, checks.iter().all(|check| check.ok)) {
        let programs = load::load(&types);
        checks.push(host::locked_memory(programs.as_ref().err()));
        checks.push(accepted(&programs));
        loaded = programs.ok();
    }
    Preflight { checks, loaded }
}

/// The first thing that speaks against `run`, as one sentence.
///
/// # Errors
/// That sentence.
pub fn privileged() -> anyhow::Result<()> {
    for check in [privilege(), namespaces()] {
        anyhow::ensure!(check.ok, "{}; {}", check.found, check.cure);
    }
    Ok(())
}

fn privilege() -> Check {
    let effective = Process::myself()
        .and_then(|me| me.status())
        .map_or(0, |status| status.capeff);
    of_capabilities(effective, Uid::effective().as_raw())
}

/// What a process of this user with these effective capabilities may do.
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
            format!("not enough privilege to watch other processes: user {user} lacks {needed}"),
            "run it as root (sudo), or give the service these capabilities",
        );
    }
    let found = format!("user {user} with all capabilities needed");
    if covered.is_empty() {
        return Check::good(NAME, found);
    }
    Check::good(
        NAME,
        format!("{found}; without {covered}, for which CAP_SYS_ADMIN stands"),
    )
}

/// The programs see the pids of the host, so `/proc` has to show the same.
fn namespaces() -> Check {
    const NAME: &str = "pid namespace";
    /// `PROC_PID_INIT_INO` of `linux/proc_ns.h`: the first one, for as long as there are any.
    const HOST: &str = "pid:[4026531836]";
    match std::fs::read_link("/proc/self/ns/pid") {
        Ok(own) if own.as_os_str() == HOST => Check::good(NAME, "that of the host"),
        Ok(_) => Check::bad(
            NAME,
            "this process does not see the process ids of the host",
            "run it in the host's pid namespace: `hostPID: true` in Kubernetes, `--pid=host` for a container",
        ),
        Err(error) => Check::bad(NAME, format!("/proc/self/ns/pid: {error}"), "mount /proc"),
    }
}

fn kernel_release() -> Check {
    const NAME: &str = "kernel";
    match nix::sys::utsname::uname() {
        Ok(name) => Check::good(NAME, format!("Linux {}", name.release().to_string_lossy())),
        Err(error) => Check::bad(NAME, error.to_string(), "is this Linux?"),
    }
}

fn types(btf: Option<&Path>) -> (Option<Types>, Check) {
    const NAME: &str = "kernel types (BTF)";
    let read = Types::read(btf).and_then(|types| types.offsets().map(|_| types));
    match read {
        Ok(types) => {
            let found = format!("every field needed is in {}", types.from().display());
            (Some(types), Check::good(NAME, found))
        }
        Err(error) => {
            let check = Check::bad(
                NAME,
                error.to_string(),
                "use a kernel of 5.10 or later with CONFIG_DEBUG_INFO_BTF=y, as distributions ship \
                 them, or give the types of this very kernel with --btf",
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

fn accepted(loaded: &anyhow::Result<Loaded>) -> Check {
    const NAME: &str = "eBPF programs";
    const CURE: &str = "please report it with the output of `gunicorn-observer doctor --verbose`";
    let absent = match loaded {
        Ok(loaded) => &loaded.absent,
        Err(error) => {
            let first_line = format!("{error:#}");
            return Check::bad(NAME, first_line.lines().next().unwrap_or_default(), CURE);
        }
    };
    let names: Vec<_> = absent.iter().map(|(feature, _)| feature.name).collect();
    match (absent.needed(), names.as_slice()) {
        (Some(refusal), _) => Check::bad(NAME, &refusal.why, CURE),
        (None, []) => Check::good(NAME, "accepted by this kernel"),
        (None, names) => Check {
            cure: CURE.to_owned(),
            ..Check::good(NAME, format!("accepted, but for: {}", names.join(", ")))
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
    fn each_capability_that_is_missing_is_named_and_no_other() {
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
    fn with_all_of_them_nothing_is_said_of_any() {
        let check = of_capabilities(with_all(), 1000);
        assert!(check.ok && !check.found.contains("CAP_"), "{check:?}");
    }
}
