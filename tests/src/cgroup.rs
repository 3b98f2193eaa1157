//! Control groups: with little memory, and out of sight.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::id,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result, bail};

use crate::wait;

/// The mount point of control groups, of either version.
const TOP: &str = "/sys/fs/cgroup";

/// Takes the control groups of version 2 out of sight, in a mount namespace, and becomes `$@`.
const HIDE: &str = r#"
set -e
mounts=$(while read -r _ place type _; do
    if [ "$type" = cgroup2 ]; then echo "$place"; fi
done < /proc/self/mounts)
for place in $mounts; do
    umount --lazy "$place"
done
# Where the mounts of the host are looked up.
mount --bind /dev/null /proc/1/mountinfo
exec "$0" "$@"
"#;

/// A command that runs this one without control groups in sight.
#[must_use]
pub fn out_of_sight(command: &[OsString]) -> Vec<OsString> {
    let hidden = ["unshare", "--mount", "sh", "-c", HIDE].map(OsString::from);
    hidden.into_iter().chain(command.iter().cloned()).collect()
}

/// A control group with this much memory; removed when dropped, after its processes.
#[derive(Debug)]
pub struct MemoryGroup {
    folder: PathBuf,
}

impl MemoryGroup {
    /// Makes a group below ours, in the hierarchy that has this host's memory controller.
    pub fn new(bytes: u64) -> Result<Self> {
        static GROUPS: AtomicUsize = AtomicUsize::new(0);
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let (parent, limits) = place()?;
        let group = Self {
            folder: parent.join(format!("gunicorn-observer-test-{}-{number}", id())),
        };
        fs::create_dir(&group.folder)
            .with_context(|| format!("cannot create {}", group.folder.display()))?;
        for limit in limits {
            group.set(limit, bytes)?;
        }
        Ok(group)
    }

    /// The file that takes the pids of its processes.
    #[must_use]
    pub fn processes(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Pids of its processes.
    pub fn pids(&self) -> Result<Vec<u32>> {
        let text = fs::read_to_string(self.processes())
            .with_context(|| format!("cannot read {}", self.processes().display()))?;
        Ok(text.lines().filter_map(|pid| pid.parse().ok()).collect())
    }

    fn set(&self, limit: &Limit, bytes: u64) -> Result<()> {
        let path = self.folder.join(limit.file);
        let text = if limit.is_zero {
            "0".to_owned()
        } else {
            bytes.to_string()
        };
        match fs::write(&path, text) {
            // Swap may not be counted here.
            Err(error) if limit.is_optional && is_absent(&error) => Ok(()),
            written => written.with_context(|| format!("cannot write {}", path.display())),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
    )
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Those in it have been ended by their own guards; the kernel takes a moment.
        let _ = wait::until("the end of a control group", || {
            Ok(fs::remove_dir(&self.folder).is_ok().then_some(()))
        });
    }
}

struct Limit {
    file: &'static str,
    is_zero: bool,
    is_optional: bool,
}

/// `memory.rst` of the kernel, for version 1: the second may not be below the first.
const VERSION_1: &[Limit] = &[
    Limit {
        file: "memory.limit_in_bytes",
        is_zero: false,
        is_optional: false,
    },
    Limit {
        file: "memory.memsw.limit_in_bytes",
        is_zero: false,
        is_optional: true,
    },
];

/// `cgroup-v2.rst`.
const VERSION_2: &[Limit] = &[
    Limit {
        file: "memory.max",
        is_zero: false,
        is_optional: false,
    },
    Limit {
        file: "memory.swap.max",
        is_zero: true,
        is_optional: true,
    },
];

/// The folder to make groups in, and their files of limits.
fn place() -> Result<(PathBuf, &'static [Limit])> {
    let top = Path::new(TOP);
    let controllers = fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    if controllers.split_whitespace().any(|name| name == "memory") {
        // What the top does not hand down, no group below has.
        let handed_down = top.join("cgroup.subtree_control");
        fs::write(&handed_down, "+memory")
            .with_context(|| format!("cannot write {}", handed_down.display()))?;
        return Ok((top.to_owned(), VERSION_2));
    }
    let memory = top.join("memory");
    if !memory.join("memory.limit_in_bytes").exists() {
        bail!("no control groups of memory in {TOP}, of neither version");
    }
    Ok((memory, VERSION_1))
}
