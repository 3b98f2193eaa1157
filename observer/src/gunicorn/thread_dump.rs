//! The Python stack of each thread of a process, and what each task of asyncio awaits, as text or
//! JSON; stops nothing.

use crate::cpython::awaits::State;
use crate::cpython::error::InspectError;
use crate::cpython::files::Files;
use crate::cpython::object::Objects;
use crate::cpython::position::Position;
use crate::cpython::target::Runtime;
use crate::cpython::version;
use crate::gunicorn::awaits::{self, Suspended};
use crate::gunicorn::serving;
use crate::gunicorn::stacks::{self, Stack};
use crate::process::memory::{ProcessMemory, Snapshot};
use crate::process::procfs::PROC;
use crate::process::tasks::Tasks;
use anyhow::{Context as _, Result, anyhow};
use caps::{CapSet, Capability};
use observer_model::Untrusted;
use probe_ebpf::memory::Fault;
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

/// A process, its threads and tasks. docs/STACK.md has each field.
#[derive(Debug, Serialize)]
pub struct ThreadDump {
    pid: u32,
    python_version: Untrusted,
    threads: Vec<Thread>,
    /// Those that serve requests first.
    tasks: Vec<Task>,
    /// There are more tasks, or none of them could be listed.
    tasks_cut: bool,
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

/// A task of asyncio that is not done.
#[derive(Debug, Serialize)]
struct Task {
    name: Option<Untrusted>,
    state: &'static str,
    /// It changed at each attempt to read it: its frames are missing.
    changing: bool,
    /// Its innermost frames are missing.
    cut: bool,
    request: Option<Request>,
    /// Class of the object that the innermost frame awaits.
    awaits: Option<Untrusted>,
    /// Names of the tasks that it awaits.
    awaits_tasks: Vec<Untrusted>,
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

/// The stacks of a process as lines of text, threads and then tasks that serve a request first. `files` caches what
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
    let lists = found.task_lists(files);
    let memory = || Snapshot::new(ProcessMemory::new(pid));
    let suspended = awaits::suspended(memory, &found.layout, found.address, lists);
    let Suspended { tasks, is_cut } = suspended.unwrap_or_else(|Fault| Suspended {
        is_cut: true,
        ..Suspended::default()
    });
    Ok(ThreadDump {
        pid,
        python_version,
        threads: stacks.into_iter().map(Thread::from).collect(),
        tasks: tasks.into_iter().map(Task::from).collect(),
        tasks_cut: is_cut,
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

impl From<Position> for Frame {
    fn from(it: Position) -> Self {
        Self {
            function: it.function,
            file: it.file,
            line: it.line,
        }
    }
}

impl From<serving::Request> for Request {
    fn from(it: serving::Request) -> Self {
        Self {
            method: it.method,
            path: it.path,
        }
    }
}

impl From<awaits::Task> for Task {
    fn from(task: awaits::Task) -> Self {
        Self {
            name: task.name,
            state: match task.state {
                State::Created => "created",
                State::Running => "running",
                State::Suspended => "suspended",
                State::Finished => "finished",
            },
            changing: task.is_changing,
            cut: task.is_cut,
            request: task.request.map(Request::from),
            awaits: task.awaits,
            awaits_tasks: task.awaits_tasks,
            frames: task.frames.into_iter().map(Frame::from).collect(),
        }
    }
}

impl From<Stack> for Thread {
    fn from(stack: Stack) -> Self {
        Self {
            tid: stack.tid,
            main: stack.is_main,
            changing: stack.is_changing,
            cut: stack.is_cut,
            request: stack.request.map(Request::from),
            frames: stack.frames.into_iter().map(Frame::from).collect(),
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
    write_tasks(dump, out)
}

/// Tasks that serve requests with all frames, others in a line each.
fn write_tasks(dump: &ThreadDump, out: &mut impl Write) -> io::Result<()> {
    let (serving, others): (Vec<_>, Vec<_>) =
        dump.tasks.iter().partition(|task| task.request.is_some());
    for task in serving {
        writeln!(out)?;
        write_task(task, out)?;
    }
    if !others.is_empty() {
        writeln!(out, "\nOther tasks")?;
    }
    for task in others {
        write_short(task, out)?;
    }
    if dump.tasks_cut {
        writeln!(out, "\nMore tasks, which are not shown")?;
    }
    Ok(())
}

fn write_task(task: &Task, out: &mut impl Write) -> io::Result<()> {
    write!(out, "Task {}", known(task.name.as_ref(), NAME_CHARS))?;
    if let Some(request) = &task.request {
        write_request(request, out)?;
    }
    write_state(task, out)?;
    writeln!(out)?;
    if task.cut {
        writeln!(out, "    more frames that these await")?;
    }
    if !task.awaits_tasks.is_empty() {
        writeln!(out, "    awaits {}", task.awaited_names())?;
    }
    for frame in &task.frames {
        writeln!(out, "    {}", frame.as_text())?;
    }
    Ok(())
}

/// The name of a task with its innermost and outermost frame.
fn write_short(task: &Task, out: &mut impl Write) -> io::Result<()> {
    write!(out, "    {}", known(task.name.as_ref(), NAME_CHARS))?;
    write_state(task, out)?;
    if !task.awaits_tasks.is_empty() {
        write!(out, ", awaits {}", task.awaited_names())?;
    }
    if let Some(innermost) = task.frames.first() {
        write!(out, ": {}", innermost.as_text())?;
    }
    if let [_, .., outermost] = task.frames.as_slice() {
        write!(out, ", awaited by {}", outermost.as_text())?;
    }
    writeln!(out)
}

fn write_state(task: &Task, out: &mut impl Write) -> io::Result<()> {
    match task.state {
        _ if task.changing => write!(out, ", changing: no frame is shown"),
        "suspended" => Ok(()),
        "created" => write!(out, ", not begun"),
        state => write!(out, ", {state}"),
    }
}

fn write_request(request: &Request, out: &mut impl Write) -> io::Result<()> {
    let method = known(request.method.as_ref(), NAME_CHARS);
    let path = known(request.path.as_ref(), PATH_CHARS);
    write!(out, ", serves {method} {path}")
}

fn known(text: Option<&Untrusted>, limit: usize) -> String {
    text.map_or_else(|| "?".to_owned(), |text| text.for_terminal(limit))
}

impl Task {
    fn awaited_names(&self) -> String {
        let names = self.awaits_tasks.iter();
        let names: Vec<_> = names.map(|name| name.for_terminal(NAME_CHARS)).collect();
        names.join(", ")
    }
}

impl Frame {
    fn as_text(&self) -> String {
        let function = known(self.function.as_ref(), NAME_CHARS);
        let file = known(self.file.as_ref(), PATH_CHARS);
        match self.line {
            Some(line) => format!("{function} ({file}:{line})"),
            None => format!("{function} ({file})"),
        }
    }
}

fn write_thread(thread: &Thread, out: &mut impl Write) -> io::Result<()> {
    let tid = thread.tid.map_or("?".to_owned(), |tid| tid.to_string());
    write!(out, "Thread {tid}")?;
    if thread.main {
        write!(out, ", main")?;
    }
    if let Some(request) = &thread.request {
        write_request(request, out)?;
    }
    if thread.changing {
        write!(out, ", changing: only the frames that stayed are shown")?;
    }
    writeln!(out)?;
    for frame in &thread.frames {
        writeln!(out, "    {}", frame.as_text())?;
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
