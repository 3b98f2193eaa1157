//! `stack` shows what each suspended request awaits: the same frames that the program itself finds from
//! its tasks, and for each request the one place where it waits.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::{Client, Request},
    gunicorn::{Builder, GunicornServer},
    matrix::{
        place::Place,
        product::{Cell, INTERPRETERS},
    },
    observer, skip,
    venv::Venv,
    wait,
};
use serde::Deserialize;

const GUNICORN: &str = "23.0.0";
/// As `awaiting.py` has it.
const COUNT: u32 = 200;

#[derive(Debug, Deserialize)]
struct Dump {
    tasks: Vec<Task>,
    tasks_cut: bool,
}

#[derive(Debug, Deserialize)]
struct Task {
    name: String,
    state: String,
    changing: bool,
    cut: bool,
    request: Option<Served>,
    awaits_tasks: Vec<String>,
    frames: Vec<Frame>,
}

#[derive(Debug, Deserialize)]
struct Served {
    method: String,
    path: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Frame {
    function: String,
    file: String,
    line: u32,
}

/// A task as the program itself has it.
#[derive(Debug, Deserialize)]
struct Own {
    name: String,
    frames: Vec<Frame>,
}

fn dump(pid: u32) -> Result<Dump> {
    let output = observer::output(["stack", "--json", &pid.to_string()])?;
    ensure!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn own(server: &GunicornServer) -> Result<Vec<Own>> {
    let response = server.fetch(&Request::get("/stacks"))?;
    Ok(serde_json::from_slice(&response.body)?)
}

/// Each request is at its own place, and so are the tasks that it awaits.
fn each_at_its_place(dump: &Dump) -> Result<()> {
    let mut found = BTreeSet::new();
    for task in &dump.tasks {
        let Some(request) = &task.request else {
            continue;
        };
        ensure!(task.state == "suspended", "{task:#?}");
        let number = request.path.strip_prefix("/wait/");
        let number: u32 = number.context("another path")?.parse()?;
        ensure!(request.method == "GET", "{request:?}");
        let at = task.frames.iter().find(|it| it.file == "waits.py");
        match at {
            Some(frame) => {
                ensure!(frame.function == format!("wait_{number}"), "{task:#?}");
                ensure!(frame.line == 2 * number + 2, "{task:#?}");
                ensure!(found.insert(number), "twice: {task:#?}");
            }
            // One that a request awaits.
            None => {
                let awaiting = dump
                    .tasks
                    .iter()
                    .find(|it| it.awaits_tasks.contains(&task.name));
                let path = awaiting.and_then(|it| Some(&it.request.as_ref()?.path));
                ensure!(path == Some(&request.path), "{task:#?}");
                let outermost = task.frames.last().map(|it| it.function.as_str());
                ensure!(outermost == Some("leaf"), "{task:#?}");
            }
        }
    }
    ensure!(found.len() == COUNT as usize, "only {found:?}");
    Ok(())
}

fn same(ours: &Dump, own: &[Own]) -> Result<()> {
    let unread = ours.tasks.iter().find(|it| it.changing || it.cut);
    ensure!(
        unread.is_none() && !ours.tasks_cut,
        "not whole: {unread:#?}"
    );
    let frames: BTreeMap<_, _> = ours.tasks.iter().map(|it| (&it.name, &it.frames)).collect();
    ensure!(own.len() >= COUNT as usize, "{} tasks", own.len());
    for task in own {
        let ours = frames.get(&task.name);
        ensure!(ours == Some(&&task.frames), "{task:#?}: {ours:#?}");
    }
    Ok(())
}

fn check(server: &mut GunicornServer) -> Result<()> {
    let worker = server.wait_for_workers(1)?[0];
    let mut last = None;
    let agreed = wait::until("the program to say the same", || {
        let compare = || {
            let own = own(server)?;
            let ours = dump(worker)?;
            same(&ours, &own)?;
            each_at_its_place(&ours)
        };
        match compare() {
            Ok(()) => Ok(Some(())),
            Err(error) => {
                last = Some(error);
                Ok(None)
            }
        }
    });
    agreed.map_err(|error| last.unwrap_or(error))
}

#[test]
fn two_hundred_requests_of_uvicorn_are_each_at_their_place() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for venv in Venv::all()? {
        for class in ["UvicornWorker", "UvicornH11Worker"] {
            let class = format!("uvicorn_worker.{class}");
            let mut server = Builder::new(&venv, "awaiting:app").class(&class).start()?;
            let mut clients = Vec::new();
            for number in 0..COUNT {
                let mut client = Client::connect(server.port)?;
                client.ask(&Request::get(&format!("/wait/{number}?secret=1")))?;
                clients.push(client);
            }
            check(&mut server).with_context(|| format!("{class} of {}", venv.name()))?;
        }
    }
    Ok(())
}

/// A loop in a thread of a worker, as of a program that calls asynchronous code.
#[test]
fn each_interpreter_has_its_tasks_where_the_program_says() -> Result<()> {
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
        let builder = Builder::new(place.python(&cell)?, "awaiting:wsgi");
        let started = builder.class("gthread").threads(2).start();
        if let Err(error) = started.and_then(|mut server| check(&mut server)) {
            wrong.push(format!("{}: {error:#}", interpreter.name));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn tasks_are_printed_as_text_too() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let builder = Builder::new(&Venv::debian()?, "awaiting:app");
    let mut server = builder.class("uvicorn_worker.UvicornWorker").start()?;
    let worker = server.wait_for_workers(1)?[0].to_string();
    let mut client = Client::connect(server.port)?;
    client.ask(&Request::get("/wait/4?secret=1"))?;
    let text = wait::until("the request to be shown", || {
        let output = observer::output(["stack", &worker])?;
        ensure!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout)?;
        Ok(text
            .contains(", serves GET /wait/4\n    sleep (")
            .then_some(text))
    })?;
    ensure!(text.contains("\n    wait_4 (waits.py:10)\n"), "{text}");
    ensure!(
        text.contains("\n    RequestResponseCycle.run_asgi ("),
        "{text}"
    );
    ensure!(text.contains("\nOther tasks\n    Task-1: "), "{text}");
    ensure!(!text.contains("secret"), "{text}");
    Ok(())
}
