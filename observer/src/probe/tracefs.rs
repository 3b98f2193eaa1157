//! tracefs: its mount, and the fields of tracepoints.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use probe_ebpf::abi::{ENTER_ARGS, EXIT_RET};
use std::path::{Path, PathBuf};
use std::{fs, io};
use thiserror::Error;

/// Mount points of tracefs, the present one and the older one.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Why tracepoints are unavailable.
#[derive(Debug, Error)]
pub enum TracefsError {
    #[error(
        "tracefs is not mounted, and mounting it privately failed: {0}; run as root: mount -t tracefs tracefs /sys/kernel/tracing"
    )]
    NotMounted(nix::Error),
    #[error(
        "cannot read the format of tracepoint {name}: {source}; use a kernel built with CONFIG_FTRACE_SYSCALLS=y"
    )]
    Format { name: String, source: io::Error },
    #[error(
        "the format of tracepoint {name} has no field {field}; report it with the output of `uname -r`"
    )]
    Field {
        name: &'static str,
        field: &'static str,
    },
    #[error(
        "the field {field} of tracepoint {name} is at {at}, not at {wanted}; report it with the output of `uname -r`"
    )]
    Moved {
        name: &'static str,
        field: &'static str,
        at: u32,
        wanted: usize,
    },
}

/// The mount point of tracefs, if it is mounted.
#[must_use]
pub fn mounted() -> Option<PathBuf> {
    PLACES
        .iter()
        .map(PathBuf::from)
        .find(|place| place.join("events").is_dir())
}

/// Makes sure that this process sees tracefs, without a change for other processes: where it is not
/// mounted, this process mounts it in a mount namespace of its own, which still receives later mounts
/// of the host.
///
/// Call it before any other thread starts: threads inherit the namespace.
///
/// # Errors
/// When mounting is refused.
pub fn ensure() -> Result<(), TracefsError> {
    if mounted().is_some() {
        return Ok(());
    }
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none))
        .and_then(|()| {
            mount(
                Some("tracefs"),
                PLACES[0],
                Some("tracefs"),
                MsFlags::empty(),
                none,
            )
        })
        .map_err(TracefsError::NotMounted)
}

/// Checks that the fields are where the programs read them. Three stand for all.
///
/// # Errors
/// When a format file cannot be read, lacks a field, or has it elsewhere.
pub fn check() -> Result<(), TracefsError> {
    let root = mounted().unwrap_or_else(|| PLACES[0].into());
    for (name, field, wanted) in [
        ("syscalls/sys_enter_close", "fd", ENTER_ARGS),
        ("syscalls/sys_enter_listen", "backlog", ENTER_ARGS + 8),
        ("syscalls/sys_exit_close", "ret", EXIT_RET),
    ] {
        let at = field_of(&root, name, field)?;
        if usize::try_from(at) != Ok(wanted) {
            return Err(TracefsError::Moved {
                name,
                field,
                at,
                wanted,
            });
        }
    }
    Ok(())
}

fn field_of(root: &Path, name: &'static str, field: &'static str) -> Result<u32, TracefsError> {
    let path = root.join("events").join(name).join("format");
    let format = fs::read_to_string(path).map_err(|source| TracefsError::Format {
        name: name.into(),
        source,
    })?;
    field_offset(&format, field).ok_or(TracefsError::Field { name, field })
}

/// The offset of a field in the text of a `format` file.
fn field_offset(format: &str, field: &str) -> Option<u32> {
    format.lines().find_map(|line| {
        let (declaration, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
        let name = declaration
            .split_whitespace()
            .next_back()?
            .trim_start_matches('*');
        let offset = rest.trim().strip_prefix("offset:")?.split_once(';')?.0;
        (name == field).then(|| offset.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSE: &str = "name: sys_enter_close
ID: 742
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:unsigned int fd;\toffset:16;\tsize:8;\tsigned:0;

print fmt: \"fd: 0x%08lx\", ((unsigned long)(REC->fd))
";

    #[test]
    fn a_field_is_found_by_its_name() {
        assert_eq!(field_offset(CLOSE, "fd"), Some(16));
        assert_eq!(field_offset(CLOSE, "common_pid"), Some(4));
    }

    #[test]
    fn a_missing_or_malformed_field_has_no_offset() {
        assert_eq!(field_offset(CLOSE, "ret"), None);
        assert_eq!(field_offset("field:int fd;\toffset:x;", "fd"), None);
        assert_eq!(field_offset("", "fd"), None);
    }
}
