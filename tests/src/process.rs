//! Child processes that do not outlive us, and the little of `/proc` the tests read.

use std::{
    ffi::OsStr,
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait;

/// A command that is ended with the thread that starts it: also a test run that is itself killed
/// leaves nothing behind. `setpriv` becomes the program, so the child's pid is the program's. It
/// is in a process group of its own, so that Ctrl-C reaches only us, and we end it in order.
pub fn bound_to_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "TERM", "--"])
        .arg(program)
        .process_group(0);
    command
}

/// Sends a signal to a process that we, or a master we started, made.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let raw = Pid::from_raw(i32::try_from(pid).context("a pid is never that large")?);
    kill(raw, signal).with_context(|| format!("cannot send {signal} to process {pid}"))
}

/// Waits for a child's end; `None` if it did not come in time.
pub fn wait_for(child: &mut Child, bound: Duration) -> Result<Option<ExitStatus>> {
    let ended = wait::until_within(bound, "the end of a child", || Ok(child.try_wait()?));
    Ok(ended.ok())
}

/// Ends a child: asks, and after `grace` insists.
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

/// Pids of a process's children now.
pub fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let Ok(children) = fs::read_to_string(path) else {
        return Vec::new();
    };
    children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// Whether a process has this working directory; not if it has ended.
pub fn works_in(pid: u32, folder: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)
}

/// Whether a process exists and is not merely waiting to be reaped.
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(") ")
                .map(|(_, rest)| !rest.starts_with(['Z', 'X']))
        })
        .unwrap_or(false)
}

/// Whether any process of this host has `word` in its command line.
pub fn any_runs(word: &str) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    processes.filter_map(Result::ok).any(|entry| {
        let is_process = entry
            .file_name()
            .to_string_lossy()
            .bytes()
            .all(|b| b.is_ascii_digit());
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // The observer has the word in its own name.
        let line = String::from_utf8_lossy(&line).replace("gunicorn-observer", "");
        is_process && line.contains(word)
    })
}
