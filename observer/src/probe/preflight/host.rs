//! Settings of the host that forbid what the observer does, or look as if they did.

use super::Check;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::path::Path;
use std::{fs, io};

/// `Documentation/admin-guide/LSM` has no page of it; `security/lockdown/lockdown.c` does.
pub fn lockdown() -> Check {
    // The file is absent where the kernel has no lockdown at all, or securityfs is not mounted.
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    of_lockdown(&text)
}

fn of_lockdown(text: &str) -> Check {
    const NAME: &str = "lockdown";
    let mode = text
        .split_once('[')
        .and_then(|(_, rest)| Some(rest.split_once(']')?.0));
    match mode {
        // `bpf_tracing_func_proto` of `kernel/trace/bpf_trace.c`: no read of the kernel's memory.
        Some("confidentiality") => Check::bad(
            NAME,
            "kernel lockdown is in confidentiality mode, which forbids reading memory from eBPF",
            "boot with lockdown=integrity or without lockdown",
        ),
        Some(mode) => Check::good(NAME, format!("`{mode}`, which does not forbid eBPF")),
        None => Check::good(NAME, "does not forbid eBPF"),
    }
}

/// Who may ask for performance events, by which programs are attached: whoever has what the check
/// of privilege asks for, whatever is set (`perf_allow_kernel` and `perf_allow_tracepoint` of
/// `include/linux/perf_event.h`).
pub fn perf_events() -> Check {
    setting(
        "kernel.perf_event_paranoid",
        "/proc/sys/kernel/perf_event_paranoid",
        "this kernel has no performance events, by which programs are attached",
        "use a kernel with CONFIG_PERF_EVENTS=y",
    )
}

/// Who may load programs: likewise.
pub fn unprivileged_bpf() -> Check {
    setting(
        "kernel.unprivileged_bpf_disabled",
        "/proc/sys/kernel/unprivileged_bpf_disabled",
        "this kernel has no eBPF",
        "use a kernel with CONFIG_BPF_SYSCALL=y",
    )
}

fn setting(name: &'static str, path: &str, absent: &str, cure: &str) -> Check {
    match fs::read_to_string(path) {
        Ok(value) => Check::good(
            name,
            format!("{}; does not hold for these privileges", value.trim()),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Check::bad(name, absent, cure),
        Err(error) => Check::bad(name, format!("{path}: {error}"), "mount /proc"),
    }
}

/// Containers are known by the control group of a process.
pub fn control_groups() -> Check {
    of_control_groups(Path::new("/sys/fs/cgroup"))
}

fn of_control_groups(top: &Path) -> Check {
    const NAME: &str = "control groups";
    let found = if top.join("cgroup.controllers").exists() {
        "version 2"
    } else if top.join("unified/cgroup.controllers").exists() {
        "version 1, and 2 beside it"
    } else if fs::read_dir(top).is_ok_and(|mut entries| entries.next().is_some()) {
        "version 1"
    } else {
        "none mounted; containers are known by /proc alone"
    };
    Check::good(NAME, found)
}

/// Kernels before 5.11 charge maps to this limit, and refuse them with `EPERM` (`bpf_map_charge_init`
/// of `kernel/bpf/syscall.c`); `failed` tells whether this one did.
pub fn locked_memory(failed: Option<&anyhow::Error>) -> Check {
    const NAME: &str = "locked memory";
    if raise().is_ok() {
        return Check::good(NAME, "no limit");
    }
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft / 1024);
    let is_refused = |cause: &(dyn std::error::Error + 'static)| {
        let error = cause.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    if !failed.is_some_and(|error| error.chain().any(is_refused)) {
        let found = format!("limited to {limit} KiB, which this kernel does not mind");
        return Check::good(NAME, found);
    }
    Check::bad(
        NAME,
        format!("limited to {limit} KiB, which kernels before 5.11 count the eBPF maps against"),
        "raise it, as with `ulimit -l unlimited` or `LimitMEMLOCK=infinity`, or give CAP_SYS_RESOURCE",
    )
}

/// Raises the limit of this process.
pub fn raise() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_confidentiality_forbids() {
        for (text, ok) in [
            ("", true),
            ("[none] integrity confidentiality\n", true),
            ("none [integrity] confidentiality\n", true),
            ("none integrity [confidentiality]\n", false),
        ] {
            assert_eq!(of_lockdown(text).ok, ok, "{text}");
        }
    }

    #[test]
    fn versions_of_control_groups_are_told_apart() {
        let top = tempfile::tempdir().unwrap();
        let found = || of_control_groups(top.path()).found;
        assert!(found().starts_with("none"));
        fs::create_dir_all(top.path().join("memory")).unwrap();
        assert_eq!(found(), "version 1");
        fs::create_dir_all(top.path().join("unified")).unwrap();
        fs::write(top.path().join("unified/cgroup.controllers"), "").unwrap();
        assert_eq!(found(), "version 1, and 2 beside it");
        fs::write(top.path().join("cgroup.controllers"), "").unwrap();
        assert_eq!(found(), "version 2");
    }
}
