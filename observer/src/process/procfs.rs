//! Processes in `/proc`.

use anyhow::Context as _;
use nix::unistd::{SysconfVar, sysconf};
use procfs::FromRead;
use procfs::process::Stat;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::container::{self, Container};
use crate::clock::suspended_ns;
use observer_model::event::Pid;

/// More of a command line is not read: a process can set any length.
const MAX_COMMAND_BYTES: u64 = 64 << 10;
/// Of `/proc/<pid>/stat`: more than 50 numbers of 20 digits.
const MAX_STAT_BYTES: usize = 2048;
/// Of `/proc/<pid>/cgroup`: a path is no longer than a page, and hierarchies are some dozen.
const MAX_CGROUP_BYTES: u64 = 64 << 10;

/// Where the proc file system of this host is mounted.
pub const PROC: &str = "/proc";

/// A mounted proc file system.
#[derive(Clone, Debug)]
pub struct ProcFs {
    root: PathBuf,
    tick_ns: u64,
    /// `CLOCK_BOOTTIME` minus `CLOCK_MONOTONIC`: the time that the host slept.
    suspended_ns: u64,
}

/// A process, from `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: Pid,
    pub parent: Pid,
    /// By `CLOCK_MONOTONIC`, to a hundredth of a second.
    pub started_ns: u64,
    /// It exited, and its parent has not waited for it yet.
    pub is_zombie: bool,
}

/// Memory, CPU time and threads of a process, from `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// The process: its PID may have been reused.
    pub process: Process,
    /// As counted by the kernel: each thread may hold back some pages (`sync_mm_rss`).
    pub resident_bytes: u64,
    /// User and system time since its start.
    pub cpu_seconds: f64,
    pub threads: u32,
}

impl ProcFs {
    /// The processes of this host.
    ///
    /// # Errors
    /// If the kernel does not report its clock tick.
    pub fn of_host() -> anyhow::Result<Self> {
        Self::new(PROC).context("failed to read the clocks of this kernel")
    }

    /// The proc file system mounted there, of the running kernel.
    ///
    /// # Errors
    /// If the kernel does not report its clock tick.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let ticks = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok());
        let tick_ns = ticks.and_then(|ticks| 1_000_000_000_u64.checked_div(ticks));
        let tick_ns = tick_ns.ok_or_else(|| io::Error::other("the kernel has no clock tick"))?;
        Ok(Self::with_clocks(root, tick_ns, suspended_ns()))
    }

    /// A directory that looks like a proc file system, and its kernel's clocks.
    pub fn with_clocks(root: impl Into<PathBuf>, tick_ns: u64, suspended_ns: u64) -> Self {
        // A whole number of ticks: the time between reading both clocks must not change the start of
        // a process from run to run.
        let ticks = suspended_ns.checked_div(tick_ns).unwrap_or_default();
        Self {
            root: root.into(),
            tick_ns,
            suspended_ns: ticks.saturating_mul(tick_ns),
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the executable of a process is a 32-bit one (`EI_CLASS` of its ELF file); `false` if it
    /// cannot be read.
    #[must_use]
    pub fn is_32_bit(&self, pid: Pid) -> bool {
        const ELF_32: [u8; 5] = [0x7f, b'E', b'L', b'F', 1];
        let mut begin = [0; ELF_32.len()];
        File::open(self.root.join(format!("{pid}/exe")))
            .and_then(|mut file| file.read_exact(&mut begin))
            .is_ok_and(|()| begin == ELF_32)
    }

    /// PIDs of all processes, in ascending order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn pids(&self) -> io::Result<Vec<Pid>> {
        let mut pids = numbered_entries(&self.root)?;
        pids.sort_unstable();
        Ok(pids)
    }

    /// Parent and start of a process.
    ///
    /// # Errors
    /// When the process exited.
    pub fn process(&self, pid: Pid) -> io::Result<Process> {
        Ok(self.process_of(pid, &self.stat(pid)?))
    }

    /// Memory, CPU time and threads of a process.
    ///
    /// # Errors
    /// When the process exited.
    pub fn usage(&self, pid: Pid) -> io::Result<Usage> {
        let stat = self.stat(pid)?;
        let ticks = stat.utime.saturating_add(stat.stime);
        let cpu = Duration::from_nanos(ticks.saturating_mul(self.tick_ns));
        Ok(Usage {
            process: self.process_of(pid, &stat),
            resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
            cpu_seconds: cpu.as_secs_f64(),
            threads: u32::try_from(stat.num_threads).unwrap_or_default(),
        })
    }

    /// Whether a process takes no signal for now: it is stopped, traced, or waits for a disk.
    #[must_use]
    pub fn takes_no_signal(&self, pid: Pid) -> bool {
        self.stat(pid)
            .is_ok_and(|stat| matches!(stat.state, 'T' | 't' | 'D'))
    }

    fn stat(&self, pid: Pid) -> io::Result<Stat> {
        // The kernel formats the line for each read: some 50 numbers and a name of 15 letters.
        let mut line = [0; MAX_STAT_BYTES];
        let length = File::open(self.root.join(format!("{pid}/stat")))?.read(&mut line)?;
        let line = line.get(..length).unwrap_or_default();
        Stat::from_read(line).map_err(io::Error::other)
    }

    fn process_of(&self, pid: Pid, stat: &Stat) -> Process {
        let started_ns = stat.starttime.saturating_mul(self.tick_ns);
        Process {
            pid,
            parent: Pid::try_from(stat.ppid).unwrap_or_default(),
            // `fs/proc/array.c`, `do_task_stat`: `starttime` is of CLOCK_BOOTTIME.
            started_ns: started_ns.saturating_sub(self.suspended_ns),
            is_zombie: matches!(stat.state, 'Z' | 'X' | 'x'),
        }
    }

    /// Living children of a process.
    ///
    /// # Errors
    /// When processes cannot be listed.
    pub fn children(&self, pid: Pid) -> io::Result<Vec<Process>> {
        let pids = match self.listed_children(pid) {
            Some(pids) => pids,
            None => self.pids()?,
        };
        let processes = pids.into_iter().filter_map(|pid| self.process(pid).ok());
        Ok(processes
            .filter(|process| process.parent == pid && !process.is_zombie)
            .collect())
    }

    /// From `task/*/children`, which kernels without CONFIG_PROC_CHILDREN lack.
    fn listed_children(&self, pid: Pid) -> Option<Vec<Pid>> {
        let tasks = self.root.join(format!("{pid}/task"));
        let mut children = Vec::new();
        for thread in numbered_entries(&tasks).ok()? {
            let listed = fs::read_to_string(tasks.join(format!("{thread}/children"))).ok()?;
            children.extend(
                listed
                    .split_ascii_whitespace()
                    .filter_map(|c| c.parse::<Pid>().ok()),
            );
        }
        Some(children)
    }

    /// PIDs of a process in all its namespaces, from that of this proc file system inwards to its
    /// own.
    ///
    /// # Errors
    /// When the process exited.
    pub fn namespace_pids(&self, pid: Pid) -> io::Result<Vec<Pid>> {
        let status = fs::read(self.root.join(format!("{pid}/status")))?;
        let line = status
            .split(|&byte| byte == b'\n')
            .find_map(|l| l.strip_prefix(b"NSpid:"));
        let pids = line
            .and_then(|line| std::str::from_utf8(line).ok())
            .map(|line| {
                line.split_ascii_whitespace()
                    .filter_map(|pid| pid.parse().ok())
                    .collect::<Vec<Pid>>()
            });
        // Kernels without namespaces have no such line.
        Ok(pids
            .filter(|pids| !pids.is_empty())
            .unwrap_or_else(|| vec![pid]))
    }

    /// The user that a process acts as.
    ///
    /// # Errors
    /// When the process exited.
    pub fn user(&self, pid: Pid) -> io::Result<u32> {
        let status = fs::read(self.root.join(format!("{pid}/status")))?;
        // `Uid:` has the real, effective, saved and file system's one.
        let uids = status
            .split(|&byte| byte == b'\n')
            .find_map(|line| line.strip_prefix(b"Uid:"))
            .and_then(|line| std::str::from_utf8(line).ok());
        uids.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok())
            .ok_or_else(|| io::Error::other("the kernel does not report its user"))
    }

    /// The command line of a process; empty for kernel threads and zombies.
    ///
    /// # Errors
    /// When the process exited.
    pub fn command_line(&self, pid: Pid) -> io::Result<Vec<Vec<u8>>> {
        let mut line = Vec::new();
        File::open(self.root.join(format!("{pid}/cmdline")))?
            .take(MAX_COMMAND_BYTES)
            .read_to_end(&mut line)?;
        let line = line.strip_suffix(b"\0").unwrap_or(&line);
        Ok(line.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect())
    }

    /// The container of a process, if any.
    #[must_use]
    pub fn container(&self, pid: Pid) -> Option<Container> {
        let mut text = Vec::new();
        File::open(self.root.join(format!("{pid}/cgroup")))
            .and_then(|file| file.take(MAX_CGROUP_BYTES).read_to_end(&mut text))
            .ok()?;
        container::parse(&String::from_utf8_lossy(&text))
    }

    /// The executable of a process, as a path in its root.
    ///
    /// # Errors
    /// When the process exited, is a kernel thread, or must not be read.
    pub fn executable(&self, pid: Pid) -> io::Result<PathBuf> {
        fs::read_link(self.root.join(format!("{pid}/exe")))
    }
}

fn numbered_entries(directory: &Path) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(directory)?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 10_000_000;

    fn stat(pid: Pid, comm: &str, state: char, parent: Pid, start: u64) -> String {
        let zeros = ["0"; 17].join(" ");
        let rest = ["0"; 30].join(" ");
        format!("{pid} ({comm}) {state} {parent} {zeros} {start} {rest}\n")
    }

    fn proc_root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (pid, parent, state) in [(10, 1, 'S'), (11, 10, 'S'), (12, 10, 'Z'), (13, 1, 'S')] {
            let dir = root.path().join(pid.to_string());
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("stat"), stat(pid, "a) b (c", state, parent, 1_234)).unwrap();
        }
        fs::create_dir_all(root.path().join("sys")).unwrap();
        root
    }

    #[test]
    fn processes_and_their_children_are_listed() {
        let root = proc_root();
        let procfs = ProcFs::with_clocks(root.path(), TICK_NS, 0);
        assert_eq!(procfs.pids().unwrap(), [10, 11, 12, 13]);
        let children = procfs.children(10).unwrap();
        assert_eq!(children.iter().map(|c| c.pid).collect::<Vec<_>>(), [11]);
        fs::create_dir_all(root.path().join("10/task/10")).unwrap();
        fs::write(root.path().join("10/task/10/children"), "11 12 ").unwrap();
        assert_eq!(procfs.children(10).unwrap(), children);
        assert!(procfs.process(99).is_err());
    }

    #[test]
    fn a_start_is_a_time_of_the_clock_that_stops_while_the_host_sleeps() {
        let root = proc_root();
        let started = |slept| {
            ProcFs::with_clocks(root.path(), TICK_NS, slept)
                .process(10)
                .unwrap()
                .started_ns
        };
        assert_eq!(started(0), 12_340_000_000);
        assert_eq!(started(300), 12_340_000_000);
        assert_eq!(started(2_000_000_000), 10_340_000_000);
        assert_eq!(started(u64::MAX), 0);
    }

    #[test]
    fn usage_is_in_seconds_and_bytes() {
        let root = proc_root();
        let procfs = ProcFs::with_clocks(root.path(), TICK_NS, 0);
        let used = "0 0 0 0 0 0 0 0 0 150 25 0 0 0 0 3 0";
        let rest = ["0"; 30].join(" ");
        let stat = format!("10 (x) S 1 {used} 7 0 12 {rest}\n");
        fs::write(root.path().join("10/stat"), stat).unwrap();
        let usage = procfs.usage(10).unwrap();
        assert_eq!(usage.process, procfs.process(10).unwrap());
        assert_eq!(usage.process.started_ns, 70_000_000);
        assert_eq!((usage.cpu_seconds, usage.threads), (1.75, 3));
        assert_eq!(usage.resident_bytes, 12 * procfs::page_size());
        assert!(procfs.usage(99).is_err());
    }

    #[test]
    fn pids_of_all_namespaces_come_from_the_outermost_inwards() {
        let root = proc_root();
        let procfs = ProcFs::with_clocks(root.path(), TICK_NS, 0);
        fs::write(
            root.path().join("10/status"),
            "Name:\tx\nUid:\t0\t33\t0\t33\nNSpid:\t10\t7\t1\n",
        )
        .unwrap();
        fs::write(root.path().join("11/status"), "Name:\tx\n").unwrap();
        assert_eq!(procfs.namespace_pids(10).unwrap(), [10, 7, 1]);
        assert_eq!(procfs.namespace_pids(11).unwrap(), [11]);
        assert_eq!(procfs.user(10).unwrap(), 33);
        assert!(procfs.user(11).is_err());
    }

    #[test]
    fn the_own_process_started_before_now_and_has_this_parent() {
        let procfs = ProcFs::new("/proc").unwrap();
        let own = procfs.process(std::process::id()).unwrap();
        let age_ns = crate::clock::monotonic_ns() - own.started_ns;
        assert!(age_ns < 3_600_000_000_000, "{age_ns}");
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        let exe = procfs.executable(std::process::id()).unwrap();
        assert_eq!(exe, std::env::current_exe().unwrap());
        assert!(!procfs.command_line(std::process::id()).unwrap().is_empty());
    }
}
