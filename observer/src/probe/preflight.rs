//! Checks of the host before `run` starts: each failed check names its fix.

mod host;

use super::kernel::Types;
use super::programs::Programs;
use super::{load, tracefs, uprobe_multi};
use crate::options::Probes;
use crate::privilege::{ADMIN, COVERED, INSTEAD, NEEDED};
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
/// kernel's types, and `probes` are those of `run`.
#[must_use]
pub fn check(btf: Option<&Path>, probes: Probes) -> Preflight {
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
        let mut loaded = load::load(&types, probes);
        if let Ok(programs) = &mut loaded {
            programs.load_all();
        }
        checks.push(host::locked_memory(loaded.as_ref().err()));
        checks.push(accepted(&loaded));
        checks.extend(loaded.as_ref().ok().map(uprobes));
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
    let user = Uid::effective().as_raw();
    of_capabilities(effective, user, uprobe_multi::is_supported)
}

/// Checks the effective capabilities of a process of this user, on a kernel that perhaps has
/// `uprobe_multi`.
fn of_capabilities(effective: u64, user: u32, has_uprobe_multi: impl FnOnce() -> bool) -> Check {
    const NAME: &str = "privilege";
    let missing = |of: &[Capability]| -> Vec<Capability> {
        let of = of.iter().copied();
        of.filter(|it| effective & it.bitmask() == 0).collect()
    };
    let (admin, covered) = (missing(&[ADMIN]), missing(&COVERED));
    let needs_admin = !admin.is_empty() && (!covered.is_empty() || !has_uprobe_multi());
    let mut needed = missing(&NEEDED);
    if needs_admin {
        needed.insert(0, ADMIN);
    }
    if !needed.is_empty() {
        let needed = names(&needed);
        return Check::bad(
            NAME,
            format!("cannot observe other processes: user {user} lacks {needed}"),
            "run as root (sudo), or give the service these capabilities; from Linux 6.6 on, CAP_BPF and \
             CAP_PERFMON do in place of CAP_SYS_ADMIN",
        );
    }
    let found = format!("user {user} has all required capabilities");
    if admin.is_empty() {
        return match names(&covered).as_str() {
            "" => Check::good(NAME, found),
            covered => Check::good(
                NAME,
                format!("{found}; without {covered}, which CAP_SYS_ADMIN covers"),
            ),
        };
    }
    let unseen: Vec<_> = [ADMIN]
        .into_iter()
        .chain(missing(&INSTEAD))
        .map(|capability| format!("without {capability}: {}", effect_without(capability)))
        .collect();
    Check::good(NAME, format!("{found}; {}", unseen.join("; ")))
}

fn names(capabilities: &[Capability]) -> String {
    let names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// What a process that can observe does not see without a capability.
fn effect_without(capability: Capability) -> &'static str {
    match capability {
        Capability::CAP_NET_ADMIN => "no phase `dispatch`",
        Capability::CAP_CHECKPOINT_RESTORE => {
            "no interpreter whose file was replaced while it runs"
        }
        _ => "no backlog of listeners in other network namespaces",
    }
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
    if let Err(error) = tracefs::ensure().and_then(|()| tracefs::check()) {
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

fn uprobes(programs: &Programs) -> Check {
    const NAME: &str = "probes on functions";
    match programs.no_uprobe_multi() {
        None => Check::good(NAME, "by uprobe_multi"),
        Some(why) => Check::good(
            NAME,
            format!("one by one; garbage collections of one interpreter only: {why}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Capability> {
        NEEDED.into_iter().chain(COVERED).chain([ADMIN])
    }

    fn with_all() -> u64 {
        all().fold(0, |bits, capability| bits | capability.bitmask())
    }

    #[test]
    fn a_missing_capability_is_named_and_no_other() {
        for missing in all() {
            let check = of_capabilities(with_all() & !missing.bitmask(), 0, || false);
            assert_eq!(check.ok, COVERED.contains(&missing), "{check:?}");
            for other in all() {
                let is_named = check.found.contains(&format!("lacks {other}"))
                    || check.found.contains(&format!("without {other}"));
                assert_eq!(is_named, other == missing, "{check:?}");
            }
        }
    }

    #[test]
    fn with_uprobe_multi_it_works_without_admin_and_reports_what_is_not_seen() {
        let without_admin = with_all() & !ADMIN.bitmask();
        let check = of_capabilities(without_admin, 0, || true);
        assert!(check.ok && check.found.contains("without CAP_SYS_ADMIN"));
        assert!(check.found.contains("without CAP_NET_ADMIN"), "{check:?}");
        let instead = INSTEAD.iter().fold(0, |bits, it| bits | it.bitmask());
        let check = of_capabilities(without_admin | instead, 0, || true);
        assert!(check.ok && !check.found.contains("CAP_NET_ADMIN"));
        for covered in COVERED {
            let check = of_capabilities(without_admin & !covered.bitmask(), 0, || true);
            assert!(!check.ok && check.found.contains("lacks CAP_SYS_ADMIN"));
        }
    }

    #[test]
    fn with_all_capabilities_none_is_named() {
        let check = of_capabilities(with_all(), 1000, || false);
        assert!(check.ok && !check.found.contains("CAP_"), "{check:?}");
    }
}
