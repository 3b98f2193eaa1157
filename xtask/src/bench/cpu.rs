//! What processes use, as the kernel accounts it; and where they run.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use end_to_end::wait;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, SysconfVar, sysconf},
};

/// The processor that clients are kept on, and the one for the worker under load: they do not
/// compete. Neither where there is only one.
const CLIENTS: usize = 0;
const WORKERS: usize = 1;

fn has_two() -> bool {
    thread::available_parallelism().is_ok_and(|count| count.get() > WORKERS)
}

/// Where clients are to run.
pub fn of_clients() -> Option<usize> {
    has_two().then_some(CLIENTS)
}

/// Keeps a process on the processor for workers.
pub fn keep_apart(pid: u32) -> Result<()> {
    if !has_two() {
        return Ok(());
    }
    let mut cpus = CpuSet::new();
    cpus.set(WORKERS)?;
    for task in tasks(pid)? {
        let tid = Pid::from_raw(task.parse().context("a thread is a number")?);
        sched_setaffinity(tid, &cpus).with_context(|| format!("cannot keep thread {tid} apart"))?;
    }
    Ok(())
}

/// Threads of a process.
fn tasks(pid: u32) -> Result<Vec<String>> {
    let folder = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {folder}"))?;
    let name = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    Ok(entries.filter_map(name).collect())
}

/// Nanoseconds that all threads of a process ran, also those that ended (`clock_getcpuclockid(3)`).
pub fn ran_ns(pid: u32) -> Result<u64> {
    let process = Pid::from_raw(i32::try_from(pid)?);
    let ran = nix::time::clock_getcpuclockid(process).and_then(nix::time::clock_gettime);
    let ran = ran.with_context(|| format!("cannot read the CPU time of process {pid}"))?;
    Ok(u64::try_from(Duration::from(ran).as_nanos())?)
}

/// The same, once the process is idle: its work is done.
pub fn settled_ns(pid: u32) -> Result<u64> {
    const STILL: Duration = Duration::from_millis(2);
    const BOUND: Duration = Duration::from_millis(200);
    let start = Instant::now();
    let mut before = ran_ns(pid)?;
    loop {
        thread::sleep(STILL);
        let now = ran_ns(pid)?;
        if now == before || start.elapsed() > BOUND {
            return Ok(now);
        }
        before = now;
    }
}

/// Waits until a process is idle: until it takes less than a twentieth of a processor.
pub fn wait_until_idle(pid: u32) -> Result<()> {
    const BETWEEN: Duration = Duration::from_millis(100);
    wait::until("an idle process", || {
        let before = ran_ns(pid)?;
        thread::sleep(BETWEEN);
        let ran = Duration::from_nanos(ran_ns(pid)?.saturating_sub(before));
        Ok((ran < BETWEEN / 20).then_some(()))
    })
}

/// Seconds in user mode and in the kernel, of all threads there ever were; to a hundredth.
pub fn user_and_system(pid: u32) -> Result<[f64; 2]> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    // After the name, which may hold anything, they are the 12th and 13th (`proc_pid_stat(5)`).
    let words = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' '));
    let mut ticks = words.into_iter().flatten().skip(11);
    let mut next = || ticks.next().and_then(|word| word.parse::<f64>().ok());
    let (user, system) = next().zip(next()).context("no times in its stat")?;
    let a_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel has no clock tick")?;
    Ok([user, system].map(|ticks| ticks / a_second as f64))
}

/// A number of `/proc/<pid>/status`: KiB where it has a unit.
fn status(pid: u32, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    number(&text, name).with_context(|| format!("process {pid} has no {name}"))
}

fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let word = line?.strip_prefix(':')?.split_whitespace().next()?;
    word.parse().ok()
}

/// MiB that a process has resident.
pub fn resident_mib(pid: u32) -> Result<f64> {
    Ok(status(pid, "VmRSS")? as f64 / 1024.0)
}

/// How often threads of a process were woken: each time they had waited before.
pub fn wakeups(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in tasks(pid)? {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{task}/status"));
        sum += number(&text.unwrap_or_default(), "voluntary_ctxt_switches").unwrap_or(0);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_of_a_status_are_read_by_their_whole_name() {
        let status = "VmRSS:\t  2048 kB\nvoluntary_ctxt_switches:\t7\n";
        assert_eq!(number(status, "VmRSS"), Some(2048));
        assert_eq!(number(status, "voluntary_ctxt_switches"), Some(7));
        assert_eq!(number(status, "voluntary"), None);
    }
}
