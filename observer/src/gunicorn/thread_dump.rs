//! What each thread of a Python process does now, as text or JSON; stops nothing.

use crate::cpython::error::InspectError;
use crate::cpython::files::Files;
use crate::cpython::object::Objects;
use crate::cpython::position::Position;
use crate::cpython::target::Runtime;
use crate::gunicorn::stacks as stack;
use crate::gunicorn::stacks::Stack;
use crate::process::memory::{ProcessMemory, Snapshot};
use crate::process::procfs::PROC;
use crate::process::tasks::Tasks;
use crate::untrusted::shown;
use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// Characters of a name that are shown.
const NAME_CHARS: usize = 200;
/// Characters of a path, as of a file or a request, that are shown.
const PATH_CHARS: usize = 1000;

/// A process and its threads, as they are written.
#[derive(Debug, Serialize)]
pub struct ThreadDump {
    pid: u32,
    /// As much of it as is known.
    python_version: String,
    threads: Vec<Thread>,
}

#[derive(Debug, Serialize)]
struct Thread {
    tid: Option<u32>,
    main: bool,
    /// It never held still: its innermost frames are not there.
    changing: bool,
    /// Its outermost frames are not there.
    cut: bool,
    request: Option<Request>,
    /// Innermost first.
    frames: Vec<Frame>,
}

#[derive(Debug, Serialize)]
struct Request {
    method: Option<String>,
    path: Option<String>,
}

#[derive(Debug, Serialize)]
struct Frame {
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
}

/// The stacks of a process as lines of text, those first that serve a request. `files` knows what
/// was read of files before.
///
/// # Errors
/// When the process cannot be read; it names the cure.
pub fn lines(pid: u32, files: &mut Files) -> Result<Vec<String>> {
    let mut dump = read(pid, files)?;
    dump.threads.sort_by_key(|thread| thread.request.is_none());
    let mut text = Vec::new();
    write_text(&dump, &mut text).context("the stacks cannot be written")?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().map(str::to_owned).collect())
}

/// Reads the stacks of a process. `files` knows what was read of files before.
///
/// # Errors
/// When the process cannot be read; the error names the fix.
pub fn read(pid: u32, files: &mut Files) -> Result<ThreadDump> {
    inspect(pid, files).map_err(|error| explained(pid, error))
}

fn inspect(pid: u32, files: &mut Files) -> Result<ThreadDump, InspectError> {
    let proc_root = Path::new(PROC);
    let found = Runtime::find(pid, proc_root, files)?;
    let tasks = Tasks::read(proc_root, pid)
        .map_err(|error| InspectError::io(format!("listing the threads of {pid}"), error))?;
    let look = || Snapshot::new(ProcessMemory::new(pid));
    let changing = "its threads come and go too fast to be read";
    let stacks = stack::stacks(look, &found.layout, found.address, &tasks);
    let last = look();
    let python_version = found.release(&Objects::new(&last, &found.layout));
    let fault = |what| InspectError::fault(last.inner(), pid, what);
    let stacks = stacks.map_err(|_| fault(changing))?;
    if stacks.is_empty() {
        return Err(fault("its interpreter is starting or ending"));
    }
    if last.inner().denial().is_some() {
        return Err(fault(changing));
    }
    Ok(ThreadDump {
        pid,
        python_version,
        threads: stacks.into_iter().map(Thread::from).collect(),
    })
}

/// What went wrong, and what to do about it.
fn explained(pid: u32, error: InspectError) -> anyhow::Error {
    const LIST: &str = "`gunicorn-observer list` shows the masters and workers that run";
    match error {
        InspectError::Gone => anyhow!("there is no process {pid}; {LIST}"),
        InspectError::NotPython => anyhow!("process {pid} does not run Python; {LIST}"),
        InspectError::NotReady(reason) => {
            anyhow!("process {pid} cannot be read now: {reason}; try again")
        }
        InspectError::Unsupported { reason, .. } => anyhow!(
            "process {pid} cannot be read: {}; it takes an ordinary CPython 3.8 to 3.15 on glibc",
            shown(&reason, PATH_CHARS)
        ),
        InspectError::Io { doing, source } => {
            anyhow!(
                "process {pid} cannot be read: {doing}: {source}; run this as root (sudo) on the host"
            )
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

pub fn write_json(dump: &ThreadDump, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, dump)?;
    writeln!(out)
}

pub fn write_text(dump: &ThreadDump, out: &mut impl Write) -> io::Result<()> {
    let python = shown(&dump.python_version, NAME_CHARS);
    writeln!(out, "Process {}, CPython {python}", dump.pid)?;
    for thread in &dump.threads {
        writeln!(out)?;
        write_thread(thread, out)?;
    }
    Ok(())
}

fn write_thread(thread: &Thread, out: &mut impl Write) -> io::Result<()> {
    let known = |text: Option<&String>, limit| text.map_or("?".into(), |text| shown(text, limit));
    let tid = thread.tid.map_or("?".to_owned(), |tid| tid.to_string());
    write!(out, "Thread {tid}")?;
    if thread.main {
        write!(out, ", main")?;
    }
    if let Some(request) = &thread.request {
        let method = known(request.method.as_ref(), NAME_CHARS);
        let path = known(request.path.as_ref(), PATH_CHARS);
        write!(out, ", serves {method} {path}")?;
    }
    if thread.changing {
        write!(out, ", changing: only the frames that held still are here")?;
    }
    writeln!(out)?;
    for frame in &thread.frames {
        let function = known(frame.function.as_ref(), NAME_CHARS);
        let file = known(frame.file.as_ref(), PATH_CHARS);
        match frame.line {
            Some(line) => writeln!(out, "    {function} ({file}:{line})")?,
            None => writeln!(out, "    {function} ({file})")?,
        }
    }
    if thread.frames.is_empty() && !thread.changing {
        writeln!(out, "    no Python code")?;
    }
    if thread.cut {
        writeln!(out, "    and more frames that called these")?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "thread_dump_tests.rs"]
mod tests;
