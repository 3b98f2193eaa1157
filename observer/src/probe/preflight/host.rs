//! Host settings that forbid eBPF or attaching, or are suspected of it.

use super::Check;
use crate::probe::locked_memory;
use nix::sys::resource::{Resource, getrlimit};
use std::path::Path;
use std::{fs, io};

/// Kernel lockdown (`security/lockdown/lockdown.c`).
pub fn lockdown() -> Check {
    // The file is absent where the kernel has no lockdown or securityfs is not mounted.
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    of_lockdown(&text)
}

fn of_lockdown(text: &str) -> Check {
    const NAME: &str = "lockdown";
    let mode = text
        .split_once('[')
        .and_then(|(_, rest)| Some(rest.split_once(']')?.0));
    match mode {
        // `bpf_tracing_func_proto` of `kernel/trace/bpf_trace.c`: no reads of kernel memory.
        Some("confidentiality") => Check::bad(
            NAME,
            "confidentiality mode, which forbids eBPF programs to read memory",
            "boot with lockdown=integrity or without lockdown",
        ),
        Some(mode) => Check::good(NAME, format!("`{mode}`, which allows eBPF")),
        None => Check::good(NAME, "off, or allows eBPF"),
    }
}

/// Who may use performance events, by which programs are attached. The capabilities of the privilege
/// check are enough, whatever the setting (`perf_allow_kernel` and `perf_allow_tracepoint` of
/// `include/linux/perf_event.h`).
pub fn perf_events() -> Check {
    setting(
        "kernel.perf_event_paranoid",
        "/proc/sys/kernel/perf_event_paranoid",
        "this kernel has no performance events, which attach eBPF programs",
        "use a kernel with CONFIG_PERF_EVENTS=y",
    )
}

/// Who may load programs. The capabilities of the privilege check are enough here, too.
pub fn unprivileged_bpf() -> Check {
    setting(
        "kernel.unprivileged_bpf_disabled",
        "/proc/sys/kernel/unprivileged_bpf_disabled",
        "this kernel has no eBPF",
        "use a kernel with CONFIG_BPF_SYSCALL=y",
    )
}

fn setting(name: &'static str, path: &str, absent: &str, fix: &str) -> Check {
    match fs::read_to_string(path) {
        Ok(value) => Check::good(
            name,
            format!("{}; does not limit these privileges", value.trim()),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Check::bad(name, absent, fix),
        Err(error) => Check::bad(name, format!("{path}: {error}"), "mount /proc"),
    }
}

/// Version of the control groups, by which containers are recognised.
pub fn control_groups() -> Check {
    of_control_groups(Path::new("/sys/fs/cgroup"))
}

fn of_control_groups(top: &Path) -> Check {
    const NAME: &str = "control groups";
    const FIX: &str = "mount version 2, where accepted connections are seen (Linux 6.3 and later): without, requests have no phase `dispatch`, and `queue` ends with the first read";
    let found = if top.join("cgroup.controllers").exists() {
        "version 2"
    } else if top.join("unified/cgroup.controllers").exists() {
        "version 1 and version 2"
    } else if fs::read_dir(top).is_ok_and(|mut entries| entries.next().is_some()) {
        "version 1 only"
    } else {
        "none mounted; containers are recognised by /proc alone"
    };
    let has_second = found.ends_with('2');
    Check {
        fix: if has_second { "" } else { FIX }.to_owned(),
        ..Check::good(NAME, found)
    }
}

/// Limit of locked memory. Kernels before 5.11 count maps against it, and refuse them with `EPERM`
/// (`bpf_map_charge_init` of `kernel/bpf/syscall.c`). `failed` is the error of the load.
pub fn locked_memory(failed: Option<&anyhow::Error>) -> Check {
    const NAME: &str = "locked memory";
    if locked_memory::raise().is_ok() {
        return Check::good(NAME, "no limit");
    }
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft / 1024);
    let is_refused = |cause: &(dyn std::error::Error + 'static)| {
        let error = cause.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    if !failed.is_some_and(|error| error.chain().any(is_refused)) {
        let found = format!("limited to {limit} KiB, which does not matter on this kernel");
        return Check::good(NAME, found);
    }
    Check::bad(
        NAME,
        format!("limited to {limit} KiB, too little for the eBPF maps on Linux before 5.11"),
        "raise it with `ulimit -l unlimited` or `LimitMEMLOCK=infinity`, or give CAP_SYS_RESOURCE",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_confidentiality_mode_fails_the_check() {
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
    fn each_version_of_control_groups_is_recognised() {
        let top = tempfile::tempdir().unwrap();
        let found = || of_control_groups(top.path()).found;
        assert!(found().starts_with("none"));
        fs::create_dir_all(top.path().join("memory")).unwrap();
        assert_eq!(found(), "version 1 only");
        fs::create_dir_all(top.path().join("unified")).unwrap();
        fs::write(top.path().join("unified/cgroup.controllers"), "").unwrap();
        assert_eq!(found(), "version 1 and version 2");
        fs::write(top.path().join("cgroup.controllers"), "").unwrap();
        assert_eq!(found(), "version 2");
    }
}
