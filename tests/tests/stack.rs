//! `stack` shows what others see of the same threads: the program itself by `sys._current_frames`, and
//! py-spy, which stops it.

use std::{
    io::Write as _,
    net::TcpStream,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::Request,
    gunicorn::{Builder, GunicornServer},
    matrix::{
        place::Place,
        product::{Cell, INTERPRETERS, Interpreter},
    },
    observer, skip,
    venv::Venv,
    wait,
};
use serde::Deserialize;

const GUNICORN: &str = "23.0.0";
/// Views of `stuck.py` that do not answer.
const STUCK: [&str; 3] = ["/in_c", "/in_python", "/on_lock"];

#[derive(Debug, Deserialize)]
struct Dump {
    pid: u32,
    python_version: String,
    threads: Vec<Thread>,
}

#[derive(Debug, Deserialize)]
struct Thread {
    tid: Option<u32>,
    main: bool,
    changing: bool,
    cut: bool,
    request: Option<Served>,
    frames: Vec<Frame>,
}

#[derive(Debug, Deserialize)]
struct Served {
    method: String,
    path: String,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Frame {
    #[serde(alias = "name")]
    function: String,
    #[serde(alias = "filename")]
    file: String,
    line: u32,
}

/// A thread as the program itself or py-spy has it.
#[derive(Debug, Deserialize)]
struct Other {
    /// py-spy does not always find it.
    #[serde(alias = "os_thread_id")]
    tid: Option<u32>,
    frames: Vec<Frame>,
}

impl Thread {
    fn path(&self) -> Option<&str> {
        Some(&self.request.as_ref()?.path)
    }
}

fn dump(pid: u32) -> Result<Dump> {
    let output = observer::output(["stack", "--json", &pid.to_string()])?;
    ensure!(output.status.success(), "{output:?}");
    let dump: Dump = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stdout).into_owned())?;
    ensure!(dump.pid == pid, "another process: {dump:?}");
    Ok(dump)
}

/// Has a thread stuck in each way, and returns its worker.
fn stuck(server: &mut GunicornServer) -> Result<(u32, Vec<TcpStream>)> {
    let worker = server.wait_for_workers(1)?[0];
    let mut clients = Vec::new();
    for path in STUCK {
        let mut client = TcpStream::connect(("127.0.0.1", server.port))?;
        write!(client, "GET {path}?secret=1 HTTP/1.1\r\nHost: x\r\n\r\n")?;
        clients.push(client);
    }
    wait::until("each view to be stuck", || {
        let dump = dump(worker)?;
        let is_stuck = |path: &&str| {
            let of_it = |thread: &&Thread| thread.path() == Some(*path);
            let thread = dump.threads.iter().find(of_it)?;
            let view = format!("Stuck.{}", &path[1..]);
            let is_view = |frame: &Frame| view.ends_with(bare(&frame.function));
            Some(thread.frames.iter().take(2).any(is_view))
        };
        let count = STUCK.iter().filter_map(is_stuck).filter(|is| *is).count();
        Ok((count == STUCK.len()).then_some(()))
    })?;
    Ok((worker, clients))
}

/// What comes last in a qualified name.
fn bare(function: &str) -> &str {
    function.rsplit('.').next().unwrap_or(function)
}

/// Compares with what another says of each thread, but for the one that was `asked`.
fn same(ours: &Dump, others: &[Other], asked: Option<u32>) -> Result<()> {
    let moving = ours.threads.iter().find(|it| it.changing || it.cut);
    ensure!(moving.is_none(), "not whole: {moving:#?}");
    ensure!(ours.threads.len() == others.len(), "another count");
    for other in others {
        let is_it = |thread: &&Thread| {
            let is_same = other.tid.is_none() || other.tid == thread.tid;
            let was_asked = asked.is_some() && asked == thread.tid;
            is_same && (was_asked || other.frames == thread.frames)
        };
        let count = ours.threads.iter().filter(is_it).count();
        ensure!(count > 0, "{other:#?} is not in {ours:#?}");
    }
    Ok(())
}

/// What the program says itself; and which thread said it, which has gone on since.
fn own(server: &GunicornServer) -> Result<(Vec<Other>, Option<u32>)> {
    let response = server.fetch(&Request::get("/stacks"))?;
    let threads: Vec<Other> = serde_json::from_slice(&response.body)?;
    ensure!(threads.iter().all(|it| it.tid.is_some()), "{threads:#?}");
    let is_asked = |it: &&Other| it.frames.iter().any(|it| it.function == "stacks");
    let asked = threads.iter().find(is_asked).and_then(|it| it.tid);
    Ok((threads, asked))
}

fn spied(pid: u32) -> Result<Vec<Other>> {
    let output = Command::new(Venv::debian()?.program("py-spy"))
        .args(["dump", "--json", "--pid", &pid.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("cannot start py-spy")?;
    ensure!(output.status.success(), "py-spy: {output:?}");
    serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Until both agree: threads that wait for requests wake now and then.
fn agree(what: &str, compare: impl Fn() -> Result<()>) -> Result<()> {
    let mut last = None;
    let agreed = wait::until(what, || match compare() {
        Ok(()) => Ok(Some(())),
        Err(error) => {
            last = Some(error);
            Ok(None)
        }
    });
    agreed.map_err(|error| last.unwrap_or(error))
}

fn check(server: &mut GunicornServer, interpreter: Interpreter) -> Result<()> {
    let (worker, clients) = stuck(server)?;
    let seen = dump(worker)?;
    let version = format!("3.{}.", interpreter.minor);
    ensure!(seen.python_version.starts_with(&version), "{seen:?}");
    ensure!(seen.threads.first().is_some_and(|it| it.main), "{seen:?}");
    let served: Vec<_> = seen
        .threads
        .iter()
        .filter_map(|it| it.request.as_ref())
        .collect();
    ensure!(served.len() == STUCK.len(), "{served:?}");
    ensure!(served.iter().all(|it| it.method == "GET"), "{served:?}");
    agree("the program to say the same", || {
        let (others, asked) = own(server)?;
        same(&dump(worker)?, &others, asked)
    })?;
    agree("py-spy to say the same", || {
        same(&dump(worker)?, &spied(worker)?, None)
    })?;
    drop(clients);
    Ok(())
}

#[test]
fn each_thread_is_where_the_program_and_py_spy_say() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let place = Place::find()?;
    let mut wrong = Vec::new();
    for interpreter in INTERPRETERS {
        if !place.has(interpreter) {
            skip::unless_ci(&format!("no {}", interpreter.name))?;
            continue;
        }
        let cell = Cell {
            interpreter,
            gunicorn: GUNICORN,
            class: "gthread",
        };
        let builder = Builder::new(place.python(&cell)?, "stuck:app");
        let started = builder.class("gthread").threads(5).start();
        if let Err(error) = started.and_then(|mut server| check(&mut server, interpreter)) {
            wrong.push(format!("{}: {error:#}", interpreter.name));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A master has one thread, in `Arbiter.run`.
#[test]
fn a_master_is_printed_as_text_too() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for venv in Venv::all()? {
        let server = Builder::new(&venv, "raw:app").start()?;
        let output = observer::output(["stack", &server.pid().to_string()])?;
        ensure!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout)?;
        let first = format!("Process {}, CPython 3.11.", server.pid());
        ensure!(text.starts_with(&first), "{text}");
        let main = format!("\n\nThread {}, main\n", server.pid());
        ensure!(text.contains(&main), "{text}");
        let has_arbiter = |line: &str| {
            line.starts_with("    Arbiter.run (") && line.contains("/gunicorn/arbiter.py:")
        };
        ensure!(text.lines().any(has_arbiter), "{text}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_read_is_refused_in_one_line() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let refused = |arguments: [&str; 2]| -> Result<String> {
        let output = observer::output(arguments)?;
        ensure!(!output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stderr)?;
        ensure!(said.lines().count() == 1, "{said}");
        Ok(said)
    };
    let own = std::process::id().to_string();
    let said = refused(["stack", &own])?;
    ensure!(said.contains("does not run Python"), "{said}");
    let mut child = Command::new("true").spawn()?;
    child.wait()?;
    let dead = child.id().to_string();
    let said = refused(["stack", &dead])?;
    ensure!(
        said.contains(&format!("there is no process {dead}")),
        "{said}"
    );
    let output = observer::output_as_nobody(["stack", &own])?;
    ensure!(String::from_utf8(output.stderr)?.contains("root (sudo)"));
    Ok(())
}
