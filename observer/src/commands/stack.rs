//! `stack`: what each thread of a Python process does now; loads no probe, stops nothing.

use super::{shown, written};
use crate::app;
use crate::probe::preflight;
use crate::python::error::InspectError;
use crate::python::files::Files;
use crate::python::memory::{ProcessMemory, Snapshot};
use crate::python::object::Objects;
use crate::python::position::Position;
use crate::python::stack::{self, Stack};
use crate::python::target::Runtime;
use crate::python::tasks::Tasks;
use anyhow::{Result, anyhow};
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// Characters of a name that are shown.
const NAME_CHARS: usize = 200;
/// Characters of a path, as of a file or a request, that are shown.
const PATH_CHARS: usize = 1000;

/// A process and its threads, as they are written.
#[derive(Debug, Serialize)]
struct Dump {
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

/// Writes the stacks of a process to `out`.
///
/// # Errors
/// When the process cannot be read, or `out` cannot be written to.
pub fn run(pid: u32, json: bool, out: &mut impl Write) -> Result<()> {
    preflight::privileged()?;
    let dump = read(pid).map_err(|error| explained(pid, error))?;
    let result = if json {
        write_json(&dump, out)
    } else {
        write_text(&dump, out)
    };
    written(result, "the stacks")
}

fn read(pid: u32) -> Result<Dump, InspectError> {
    let proc_root = Path::new(app::PROC);
    let found = Runtime::find(pid, proc_root, &mut Files::default())?;
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
    Ok(Dump {
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

fn write_json(dump: &Dump, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, dump)?;
    writeln!(out)
}

fn write_text(dump: &Dump, out: &mut impl Write) -> io::Result<()> {
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
mod tests {
    use super::*;

    fn written(threads: Vec<Thread>) -> String {
        let dump = Dump {
            pid: 10,
            python_version: "3.11.7".to_owned(),
            threads,
        };
        let mut out = Vec::new();
        write_text(&dump, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn thread(frames: Vec<Frame>) -> Thread {
        Thread {
            tid: Some(11),
            main: false,
            changing: false,
            cut: false,
            request: None,
            frames,
        }
    }

    fn frame(text: &str, line: Option<u32>) -> Frame {
        Frame {
            function: Some(text.to_owned()),
            file: Some(text.to_owned()),
            line,
        }
    }

    #[test]
    fn each_thread_is_told_with_what_it_serves_and_its_frames() {
        let text = |text: &str| Some(text.to_owned());
        let unread = Frame {
            function: None,
            file: None,
            line: None,
        };
        let serving = Thread {
            request: Some(Request {
                method: text("GET"),
                path: text("/slow"),
            }),
            ..thread(vec![frame("inner", Some(3)), frame("outer", None), unread])
        };
        let main = Thread {
            tid: None,
            main: true,
            ..thread(Vec::new())
        };
        let moving = Thread {
            changing: true,
            cut: true,
            ..thread(vec![frame("f", Some(1))])
        };
        assert_eq!(
            written(vec![main, serving, moving]),
            "\
Process 10, CPython 3.11.7

Thread ?, main
    no Python code

Thread 11, serves GET /slow
    inner (inner:3)
    outer (outer)
    ? (?)

Thread 11, changing: only the frames that held still are here
    f (f:1)
    and more frames that called these
"
        );
    }

    #[test]
    fn what_a_process_says_of_itself_cannot_drive_the_terminal() {
        let hostile = format!("a'b\x1b]0;owned\x07\u{9b}2J\n{}", "x".repeat(5000));
        let text = written(vec![Thread {
            request: Some(Request {
                method: Some(hostile.clone()),
                path: Some(hostile.clone()),
            }),
            ..thread(vec![frame(&hostile, Some(1))])
        }]);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
        assert_eq!(text.matches("a'b\\u{1b}]0;owned").count(), 4, "{text}");
        assert!(text.lines().all(|line| line.chars().count() < 2000));
    }

    #[test]
    fn each_error_names_its_cure() {
        let told = |error| format!("{:#}", explained(42, error));
        assert!(told(InspectError::Gone).starts_with("there is no process 42; `gunicorn-observer"));
        let other = told(InspectError::NotPython);
        assert!(other.starts_with("process 42 does not run Python; "));
        let unsupported = InspectError::unsupported("3.7", "CPython 3.7: \x1b[2J".to_owned());
        assert_eq!(
            told(unsupported),
            "process 42 cannot be read: CPython 3.7: \\u{1b}[2J; it takes an ordinary CPython 3.8 to \
             3.15 on glibc"
        );
        let denied = InspectError::io("reading".to_owned(), io::Error::from_raw_os_error(1));
        assert!(told(denied).ends_with("run this as root (sudo) on the host"));
    }

    #[test]
    fn this_process_is_not_python() {
        let error = read(std::process::id()).unwrap_err();
        assert!(matches!(error, InspectError::NotPython), "{error:?}");
        let error = read(u32::MAX).unwrap_err();
        assert!(matches!(error, InspectError::Gone), "{error:?}");
    }
}
