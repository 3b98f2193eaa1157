//! `top` on a real terminal: its screen, its keys, and the state it leaves the terminal in.

use std::{io::Write as _, net::TcpStream};

use anyhow::{Result, ensure};
use end_to_end::{
    client::{Request, fetch},
    gunicorn::{Builder, GunicornServer},
    observer::{self, Observer},
    process, skip, terminal_page,
    tmux::Tmux,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;

const COLUMNS: u16 = 120;
const LINES: u16 = 30;

fn hangs() -> Result<(GunicornServer, Vec<u32>)> {
    let mut server = Builder::new(&Venv::debian()?, "hangs:app")
        .workers(2)
        .argument("--timeout=600")
        .start()?;
    let workers = server.wait_for_workers(2)?;
    Ok((server, workers))
}

/// A terminal with `top`, which observes or knows this master.
fn top(arguments: &str, master: u32) -> Result<Tmux> {
    let tmux = Tmux::start(COLUMNS, LINES)?;
    tmux.run_top(arguments)?;
    let master = format!(" {master} ");
    // Not in the command line.
    tmux.wait_for("the master", |screen| {
        screen.starts_with("gunicorn-observer top") && screen.contains(&master)
    })?;
    Ok(tmux)
}

fn own_probes(master: u32) -> Result<Tmux> {
    top(&format!("--pid {master}"), master)
}

fn ask(server: &GunicornServer, count: usize) -> Result<()> {
    for _ in 0..count {
        let request = Request::get("/ok").header("Connection", "close");
        let answer = fetch(server.port, &request)?;
        ensure!(answer.status == 200, "{}", answer.status);
    }
    Ok(())
}

/// A request that is never answered.
fn hang(server: &GunicornServer) -> Result<TcpStream> {
    let mut client = TcpStream::connect(("127.0.0.1", server.port))?;
    write!(client, "GET /lock?secret=1 HTTP/1.1\r\nHost: x\r\n\r\n")?;
    Ok(client)
}

/// The words of the row that holds this number as a word.
fn row(screen: &str, number: u32) -> Option<Vec<String>> {
    let number = number.to_string();
    let words = |line: &str| -> Vec<_> { line.split_whitespace().map(str::to_owned).collect() };
    screen.lines().map(words).find(|row| row.contains(&number))
}

/// The column `title` of the rows of workers, added up.
fn sum(screen: &str, workers: &[u32], title: &str) -> Option<u64> {
    // The titles begin with that of the pid, before which a row has a mark only.
    let titles = screen.lines().find(|line| line.contains("WORKER "))?;
    let mut titles = titles.split_whitespace();
    let column = titles.position(|it| it.trim_matches(['▼', '▲']) == title)?;
    workers
        .iter()
        .map(|&pid| {
            let row = row(screen, pid)?;
            let at = row.iter().position(|it| *it == pid.to_string())?;
            row.get(at + column)?.parse::<u64>().ok()
        })
        .sum()
}

#[test]
fn workers_and_their_requests_are_shown_and_keys_do_what_help_says() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let (server, workers) = hangs()?;
    let tmux = own_probes(server.pid())?;
    tmux.wait_for("its header", |screen| {
        screen.contains("nothing lost; masters observed with all probes: 1")
            && screen.contains("no findings")
    })?;
    ask(&server, 7)?;
    tmux.press(&["3"])?;
    tmux.wait_for("7 requests", |screen| {
        sum(screen, &workers, "REQUESTS") == Some(7)
    })?;

    // Help says what the keys are.
    tmux.press(&["?"])?;
    tmux.wait_for("help", |screen| {
        let has = |key: &str, about: &str| {
            let mut lines = screen.lines();
            lines.any(|line| line.starts_with(key) && line.contains(about))
        };
        has("Tab", "next pane") && has("3 ", "workers")
    })?;
    tmux.press(&["Escape"])?;
    tmux.wait_for("the workers", |screen| screen.contains("[3 Workers]"))?;

    // Sort.
    for (key, sorted) in [
        ("s", "sort NOW down"),
        ("S", "sort BUSY down"),
        ("r", "sort BUSY up"),
    ] {
        tmux.wait_for("rows", |screen| row(screen, workers[0]).is_some())?;
        tmux.press(&[key])?;
        tmux.wait_for(sorted, |screen| screen.contains(sorted))?;
    }
    tmux.press(&["S", "S", "S", "S", "S"])?;
    tmux.wait_for("order by pid", |screen| {
        let at = |pid: u32| screen.lines().position(|line| row(line, pid).is_some());
        let largest = workers.iter().max().and_then(|&pid| at(pid));
        let smallest = workers.iter().min().and_then(|&pid| at(pid));
        screen.contains("sort WORKER down") && largest.is_some() && largest < smallest
    })?;

    // Filter.
    tmux.press(&["/"])?;
    tmux.text(&workers[1].to_string())?;
    tmux.press(&["Enter"])?;
    let wanted = format!("filter \"{}\"", workers[1]);
    tmux.wait_for("one worker", |screen| {
        screen.contains(&wanted)
            && screen
                .lines()
                .filter(|line| line.contains(" running "))
                .count()
                == 1
    })?;
    tmux.press(&["Escape"])?;
    tmux.wait_for("both workers", |screen| {
        workers.iter().all(|&pid| row(screen, pid).is_some())
    })?;

    // Pause.
    tmux.press(&["p"])?;
    tmux.wait_for("a pause", |screen| screen.contains("PAUSED"))?;
    ask(&server, 5)?;
    tmux.press(&["2"])?;
    let screen = tmux.wait_for("apps", |screen| screen.contains("[2 Apps]"))?;
    ensure!(screen.contains("PAUSED"), "{screen}");
    tmux.press(&["3"])?;
    let screen = tmux.wait_for("workers", |screen| screen.contains("[3 Workers]"))?;
    ensure!(sum(&screen, &workers, "REQUESTS") == Some(7), "{screen}");
    tmux.press(&["p"])?;
    tmux.wait_for("12 requests", |screen| {
        sum(screen, &workers, "REQUESTS") == Some(12)
    })?;

    // Each pane, by Tab.
    for pane in [
        "4 Routes",
        "5 Errors",
        "6 In progress",
        "7 Slowest",
        "8 Exits",
        "1 Findings",
    ] {
        tmux.press(&["Tab"])?;
        let pane = format!("[{pane}]");
        tmux.wait_for(&pane, |screen| screen.contains(&pane))?;
    }
    tmux.press(&["q"])?;
    tmux.is_given_back(0)
}

#[test]
fn a_worker_that_hangs_is_shown_with_its_python_stack() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let (server, _) = hangs()?;
    let tmux = top(
        &format!("--pid {} --finding stuck=1s", server.pid()),
        server.pid(),
    )?;
    let client = hang(&server)?;
    tmux.press(&["6"])?;
    let screen = tmux.wait_for("the request in progress and a finding", |screen| {
        screen.contains("GET     /lock ") && screen.contains("! worker_stuck hangs")
    })?;
    ensure!(!screen.contains("secret"), "{screen}");
    tmux.press(&["Enter"])?;
    tmux.wait_for("its stack", |screen| {
        screen.contains("main, serves GET /lock") && screen.contains("    wait_for_it (")
    })?;
    tmux.press(&["Escape"])?;
    tmux.wait_for("the requests", |screen| screen.contains("[6 In progress]"))?;
    drop(client);
    process::signal(tmux.running()?, Signal::SIGTERM)?;
    tmux.is_given_back(0)
}

#[test]
fn a_lost_daemon_is_shown_and_found_again() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let (server, workers) = hangs()?;
    let daemon = Observer::run_for(&[server.pid()])?;
    let port = daemon.port;
    let connect = format!("--connect http://127.0.0.1:{port}");
    let tmux = top(&connect, server.pid())?;
    ask(&server, 3)?;
    tmux.press(&["3"])?;
    tmux.wait_for("3 requests", |screen| {
        sum(screen, &workers, "REQUESTS") == Some(3)
    })?;
    // The stack is read here.
    tmux.press(&["Enter"])?;
    tmux.wait_for("a stack", |screen| screen.contains("Arbiter.spawn_worker"))?;
    tmux.press(&["Escape"])?;

    daemon.stop()?;
    tmux.wait_for("the loss", |screen| {
        screen.contains("LOST the daemon, data ") && screen.contains(" old: ")
    })?;
    let daemon = Observer::run_at(port, &[server.pid()])?;
    ask(&server, 2)?;
    tmux.wait_for("the new daemon", |screen| {
        !screen.contains("LOST") && sum(screen, &workers, "REQUESTS") == Some(2)
    })?;

    // It may also be killed.
    process::signal(daemon.pid(), Signal::SIGKILL)?;
    tmux.wait_for("the loss", |screen| screen.contains("LOST the daemon"))?;
    tmux.press(&["q"])?;
    tmux.is_given_back(0)?;
    tmux.run_top(&connect)?;
    let screen = tmux.wait_for("a refusal", |screen| screen.contains("cannot connect to"))?;
    // The terminal breaks lines where they are.
    let screen = screen.replace('\n', "");
    ensure!(screen.contains("gunicorn-observer run"), "{screen}");
    tmux.is_given_back(1)
}

#[test]
fn a_window_that_becomes_tiny_and_large_again_is_survived() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let (server, _) = hangs()?;
    let daemon = Observer::run_for(&[server.pid()])?;
    let tmux = top(
        &format!("--no-color --connect http://127.0.0.1:{}", daemon.port),
        server.pid(),
    )?;
    let master = format!(" {} ", server.pid());
    for (columns, lines) in [(10, 3), (1, 1), (200, 60), (39, 24), (80, 24)] {
        tmux.resize(columns, lines)?;
        match (columns, lines) {
            (1, 1) => tmux.wait_for("a letter", |screen| screen.trim() == "t")?,
            (10 | 39, _) => tmux.wait_for("that", |screen| screen.starts_with("too small"))?,
            _ => tmux.wait_for("the master", |screen| screen.contains(&master))?,
        };
    }
    let colored = tmux.colored_screen()?;
    let colors = (30..38).chain(90..98);
    for color in colors.map(|color| format!("\x1b[{color}m")) {
        ensure!(!colored.contains(&color), "colours: {colored:?}");
    }
    let selected = colored.lines().find(|line| line.contains('>'));
    ensure!(
        selected.is_some_and(|line| line.contains("7m")),
        "not reversed: {colored:?}"
    );
    process::signal(tmux.running()?, Signal::SIGTERM)?;
    tmux.is_given_back(0)
}

#[test]
fn it_ends_when_its_terminal_is_gone() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let (server, _) = hangs()?;
    let daemon = Observer::run_for(&[server.pid()])?;
    let connect = format!("--connect http://127.0.0.1:{}", daemon.port);
    for arguments in [connect, format!("--pid {}", server.pid())] {
        let tmux = top(&arguments, server.pid())?;
        let running = tmux.running()?;
        drop(tmux);
        wait::until(
            "its end",
            || Ok((!process::is_alive(running)).then_some(())),
        )?;
    }
    Ok(())
}

#[test]
fn where_it_cannot_draw_or_observe_it_says_what_to_do() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let output = observer::output(["top"])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1), "{}", output.status);
    let names = |text: &str| said.contains(text);
    ensure!(
        names("standard output is not one")
            && names("`gunicorn-observer trace`")
            && names("`gunicorn-observer list --json`"),
        "{said}"
    );
    let tmux = Tmux::start(COLUMNS, LINES)?;
    tmux.run_top("--pid 1")?;
    tmux.wait_for("a refusal", |screen| screen.contains("process 1 "))?;
    tmux.is_given_back(1)?;
    tmux.run_top_with("TERM=dumb", "")?;
    tmux.wait_for("a refusal", |screen| screen.contains("of the type `dumb`"))?;
    tmux.is_given_back(1)
}

#[test]
fn the_screen_becomes_a_page() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let (server, workers) = hangs()?;
    let is_there = |screen: &str| workers.iter().all(|&pid| row(screen, pid).is_some());
    let page = terminal_page::of_top(
        &observer::binary()?,
        &format!("--pid={}", server.pid()),
        (COLUMNS, LINES),
        &["3"],
        is_there,
    )?;
    ensure!(page.starts_with("<!doctype html>"), "{page}");
    ensure!(
        page.contains("[3 Workers]") && page.contains("<span style="),
        "{page}"
    );
    Ok(())
}
