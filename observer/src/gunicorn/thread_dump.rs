//! The Python stack of each thread of a process, as text or JSON; stops nothing.

use crate::cpython::error::InspectError;
use crate::cpython::files::Files;
use crate::cpython::object::Objects;
use crate::cpython::position::Position;
use crate::cpython::target::Runtime;
use crate::cpython::version;
use crate::gunicorn::stacks::{self, Stack};
use crate::process::memory::{ProcessMemory, Snapshot};
use crate::process::procfs::PROC;
use crate::process::tasks::Tasks;
use anyhow::{Context as _, Result, anyhow};
use caps::{CapSet, Capability};
use observer_model::Untrusted;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// Characters that are shown of a name.
const NAME_CHARS: usize = 200;
/// Characters that are shown of the path of a file or request.
const PATH_CHARS: usize = 1000;

const AS_ROOT: &str = "run this as root (sudo) on the host";
/// Why the kernel refuses root (`ptrace(2)`, "Ptrace access mode checking"), and the fix.
pub const PROTECTED: &str = "the kernel refuses it even to root: allow it in the security module \
                             (SELinux, AppArmor, Yama), or run gunicorn-observer in the user \
                             namespace of that process";

/// A process and its threads. docs/STACK.md has each field.
#[derive(Debug, Serialize)]
pub struct ThreadDump {
    pid: u32,
    python_version: Untrusted,
    threads: Vec<Thread>,
}

#[derive(Debug, Serialize)]
struct Thread {
    tid: Option<u32>,
    main: bool,
    /// It changed at each attempt to read it: its innermost frames are missing.
    changing: bool,
    /// Its outermost frames are missing.
    cut: bool,
    request: Option<Request>,
    /// Innermost first.
    frames: Vec<Frame>,
}

#[derive(Debug, Serialize)]
struct Request {
    method: Option<Untrusted>,
    path: Option<Untrusted>,
}

#[derive(Debug, Serialize)]
struct Frame {
    function: Option<Untrusted>,
    file: Option<Untrusted>,
    line: Option<u32>,
}

/// The stacks of a process as lines of text, threads that serve a request first. `files` caches what
/// files hold.
///
/// # Errors
/// When the process cannot be read; the text has the fix.
pub fn lines(pid: u32, files: &mut Files) -> Result<Vec<String>> {
    let mut dump = read(pid, files)?;
    dump.threads.sort_by_key(|thread| thread.request.is_none());
    let mut text = Vec::new();
    write_text(&dump, &mut text).context("failed to write the stacks")?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().map(str::to_owned).collect())
}

/// Reads the stacks of a process. `files` caches what files hold.
///
/// # Errors
/// When the process cannot be read; the text has the fix.
pub fn read(pid: u32, files: &mut Files) -> Result<ThreadDump> {
    let has_ptrace = || caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_PTRACE);
    inspect(pid, files).map_err(|error| explained(pid, error, has_ptrace().unwrap_or(false)))
}

/// The stacks of a process.
///
/// # Errors
/// When the process cannot be read.
pub fn stacks_of(pid: u32, files: &mut Files) -> Result<Vec<Stack>, InspectError> {
    let found = Runtime::find(pid, Path::new(PROC), files)?;
    Ok(read_stacks(pid, &found)?.0)
}

fn inspect(pid: u32, files: &mut Files) -> Result<ThreadDump, InspectError> {
    let found = Runtime::find(pid, Path::new(PROC), files)?;
    let (stacks, python_version) = read_stacks(pid, &found)?;
    Ok(ThreadDump {
        pid,
        python_version,
        threads: stacks.into_iter().map(Thread::from).collect(),
    })
}

fn read_stacks(pid: u32, found: &Runtime) -> Result<(Vec<Stack>, Untrusted), InspectError> {
    let proc_root = Path::new(PROC);
    let tasks = Tasks::read(proc_root, pid)
        .map_err(|error| InspectError::io(format!("listing the threads of {pid}"), error))?;
    let memory = || Snapshot::new(ProcessMemory::new(pid));
    let changing = "its threads change too fast to be read";
    let stacks = stacks::stacks(memory, &found.layout, found.address, &tasks);
    let last = memory();
    let python_version = found.release(&Objects::new(&last, &found.layout));
    let fault = |what| InspectError::fault(last.inner(), pid, what);
    let stacks = stacks.map_err(|_| fault(changing))?;
    if stacks.is_empty() {
        return Err(fault("its interpreter starts or exits"));
    }
    if last.inner().denial().is_some() {
        return Err(fault(changing));
    }
    Ok((stacks, python_version))
}

/// An error with its fix. `has_ptrace`: this process has the capability to read others.
fn explained(pid: u32, error: InspectError, has_ptrace: bool) -> anyhow::Error {
    const LIST: &str = "`gunicorn-observer list` lists masters and workers";
    match error {
        InspectError::Gone => anyhow!("there is no process {pid}; {LIST}"),
        InspectError::NotPython => anyhow!("process {pid} does not run Python; {LIST}"),
        InspectError::NotReady(reason) => {
            anyhow!("process {pid} cannot be read now: {reason}; try again")
        }
        InspectError::Unsupported { .. } => {
            let supported = version::supported();
            anyhow!("process {pid} cannot be read: {error}; use {supported}")
        }
        InspectError::Io { ref source, .. } => {
            let fix = match source.kind() {
                io::ErrorKind::PermissionDenied if has_ptrace => format!("; {PROTECTED}"),
                io::ErrorKind::PermissionDenied => format!("; {AS_ROOT}"),
                _ => String::new(),
            };
            anyhow!("process {pid} cannot be read: {error}{fix}")
        }
    }
}

impl From<Stack> for Thread {
    fn from(stack: Stack) -> Self {
        let frame = |it: Position| Frame {
            function: it.function,
            file: it.file,
            line: it.line,
        };
        Self {
            tid: stack.tid,
            main: stack.is_main,
            changing: stack.is_changing,
            cut: stack.is_cut,
            request: stack.request.map(|it| Request {
                method: it.method,
                path: it.path,
            }),
            frames: stack.frames.into_iter().map(frame).collect(),
        }
    }
}

/// Writes JSON.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write_json(dump: &ThreadDump, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, dump)?;
    writeln!(out)
}

/// Writes text for people.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write_text(dump: &ThreadDump, out: &mut impl Write) -> io::Result<()> {
    let python = dump.python_version.for_terminal(NAME_CHARS);
    writeln!(out, "Process {}, CPython {python}", dump.pid)?;
    for thread in &dump.threads {
        writeln!(out)?;
        write_thread(thread, out)?;
    }
    Ok(())
}

fn write_thread(thread: &Thread, out: &mut impl Write) -> io::Result<()> {
    let known = |text: &Option<Untrusted>, limit| match text {
        Some(text) => text.for_terminal(limit),
        None => "?".to_owned(),
    };
    let tid = thread.tid.map_or("?".to_owned(), |tid| tid.to_string());
    write!(out, "Thread {tid}")?;
    if thread.main {
        write!(out, ", main")?;
    }
    if let Some(request) = &thread.request {
        let method = known(&request.method, NAME_CHARS);
        let path = known(&request.path, PATH_CHARS);
        write!(out, ", serves {method} {path}")?;
    }
    if thread.changing {
        write!(out, ", changing: only the frames that stayed are shown")?;
    }
    writeln!(out)?;
    for frame in &thread.frames {
        let function = known(&frame.function, NAME_CHARS);
        let file = known(&frame.file, PATH_CHARS);
        match frame.line {
            Some(line) => writeln!(out, "    {function} ({file}:{line})")?,
            None => writeln!(out, "    {function} ({file})")?,
        }
    }
    if thread.frames.is_empty() && !thread.changing {
        writeln!(out, "    no Python code")?;
    }
    if thread.cut {
        writeln!(out, "    more frames that called these")?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "thread_dump_tests.rs"]
mod tests;
