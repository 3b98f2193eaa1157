//! Child processes that do not outlive us, and the little of `/proc` the tests read.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait;

/// A command that is stopped with the thread that starts it: a killed test run leaves nothing behind.
/// `setpriv` becomes the program, so the child's pid is the program's. The command has a process group
/// of its own: Ctrl-C reaches only us, and we stop it in order.
pub fn bound_to_us(program: impl AsRef<OsStr>) -> Command {
    bound_to_us_by(Signal::SIGTERM, program)
}

/// The same, stopped by this signal.
pub fn bound_to_us_by(signal: Signal, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--pdeathsig",
            signal.as_str().trim_start_matches("SIG"),
            "--",
        ])
        .arg(program)
        .process_group(0);
    command
}

/// Sends a signal to a process that we, or a master we started, made.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let raw = Pid::from_raw(i32::try_from(pid).context("a pid is never that large")?);
    kill(raw, signal).with_context(|| format!("cannot send {signal} to process {pid}"))
}

/// Waits for a child's exit; `None` if it did not exit in time.
pub fn wait_for(child: &mut Child, bound: Duration) -> Result<Option<ExitStatus>> {
    let ended = wait::until_within(bound, "the end of a child", || Ok(child.try_wait()?));
    Ok(ended.ok())
}

/// Stops a child with a SIGTERM, and after `grace` with a SIGKILL.
pub fn end(child: &mut Child, grace: Duration) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    let _ = signal(child.id(), Signal::SIGTERM);
    if !matches!(wait_for(child, grace), Ok(Some(_))) {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Pids of a process's children.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    // Of each thread, those that it started.
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let pids = list.split_whitespace().map(str::parse);
            pids.filter_map(Result::ok).collect::<Vec<_>>()
        })
        .collect()
}

/// The pid that a process has in its own pid namespace.
pub fn own_pid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    pids.split_whitespace().next_back()?.parse().ok()
}

/// Does `work` in the network namespace of a process.
pub fn in_network_of<T: Send>(pid: u32, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = fs::File::open(&path).with_context(|| format!("cannot open {path}"))?;
    // A thread of its own, which ends there.
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter {path}"))?;
            work()
        });
        worker
            .join()
            .map_err(|_| anyhow!("a thread of this test panicked"))?
    })
}

/// Pids of the processes with this working directory, under any path.
pub fn working_in(folder: &Path) -> Vec<u32> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let Some(wanted) = identity(folder) else {
        return Vec::new();
    };
    let works_here = |pid: &u32| identity(Path::new(&format!("/proc/{pid}/cwd"))) == Some(wanted);
    all().into_iter().filter(works_here).collect()
}

/// Pids of a process's descendants.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid));
        next += 1;
    }
    found
}

/// Its peak resident memory, in bytes.
pub fn peak_memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: u64 = kib.context("no VmHWM")?.parse()?;
    Ok(kib << 10)
}

/// How often threads of a process were woken: each time they had waited before.
pub fn wakeups(pid: u32) -> Result<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .with_context(|| format!("process {pid} is gone"))?;
    let woken = |thread: std::io::Result<fs::DirEntry>| {
        // A thread may end meanwhile.
        let status = fs::read_to_string(thread.ok()?.path().join("status")).ok()?;
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        count.trim().parse::<u64>().ok()
    };
    Ok(threads.filter_map(woken).sum())
}

/// Whether a thread of a process sleeps in `clock_nanosleep`, as Python's `time.sleep` does.
pub fn sleeps(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    // Its number on x86-64 and on aarch64.
    let is_sleep = |call: String| call.starts_with("230 ") || call.starts_with("115 ");
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("syscall")).ok())
        .any(is_sleep)
}

/// The number of threads of a process, without its main one, that wait for a futex without a timeout, as
/// for a lock of Python's.
pub fn threads_waiting(pid: u32) -> usize {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let main = pid.to_string();
    threads
        .filter_map(Result::ok)
        .filter(|thread| thread.file_name() != main.as_str())
        .filter_map(|thread| fs::read_to_string(thread.path().join("syscall")).ok())
        // Its number on x86-64 and on aarch64.
        .filter(|call| call.starts_with("202 ") || call.starts_with("98 "))
        .count()
}

/// The start of a process in Unix seconds, to a second: from ticks since boot and the time of boot.
pub fn started_unix_seconds(pid: u32) -> Result<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    let boot = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    // After the name, which may hold anything, the start is the 20th (`proc_pid_stat(5)`).
    let ticks = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.split(' ').nth(19)?.parse::<i64>().ok())
        .with_context(|| format!("no start in {stat}"))?;
    let boot = boot
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.parse::<i64>().ok())
        .context("no btime in /proc/stat")?;
    let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    Ok(boot + ticks / a_second.context("the kernel has no clock tick")?)
}

/// Whether a process exists and is not a zombie.
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(") ")
                .map(|(_, rest)| !rest.starts_with(['Z', 'X']))
        })
        .unwrap_or(false)
}

/// Every process of this host that is a Gunicorn, by pid and command line.
pub fn gunicorns() -> Vec<String> {
    let line = |pid: u32| Some(format!("{pid}: {}", gunicorn(pid)?));
    all().into_iter().filter_map(line).collect()
}

/// A process or the first of its descendants that has the pid `own` in its own pid namespace.
pub fn known_as(own: u32, pid: u32) -> Option<u32> {
    let mut inside = [pid].into_iter().chain(descendants(pid));
    inside.find(|&pid| own_pid(pid) == Some(own))
}

/// The command line of a process that is a Gunicorn.
fn gunicorn(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line);
    // Itself, as the script of an interpreter, or as it renames itself with setproctitle.
    let is_one = line.split('\0').take(2).any(is_gunicorn);
    is_one.then(|| line.replace('\0', " ").trim_end().to_owned())
}

fn is_gunicorn(word: &str) -> bool {
    word.starts_with("gunicorn: ") || word.rsplit('/').next() == Some("gunicorn")
}

/// Pids of all processes.
fn all() -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::is_gunicorn;

    #[test]
    fn a_gunicorn_is_known_by_its_first_words() {
        for word in ["gunicorn", "/venv/bin/gunicorn", "gunicorn: master [app]"] {
            assert!(is_gunicorn(word), "{word}");
        }
        for word in ["/bin/gunicorn-observer", "python3", "gunicorn.conf.py"] {
            assert!(!is_gunicorn(word), "{word}");
        }
    }
}
