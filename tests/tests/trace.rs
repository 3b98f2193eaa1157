//! `trace`: a line for each finished request.

use std::io::{BufRead as _, BufReader};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    client::{Request, fetch},
    gunicorn::{Builder, GunicornServer},
    load::{Background, Load},
    observer::{self, Observer},
    skip,
    tmux::Tmux,
    tracer::Tracer,
    venv::Venv,
    wait,
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// What is asked for, and in this order: path, status, route, and why it failed.
const TALK: [(&str, u16, &str, &str); 6] = [
    ("/", 200, "/", ""),
    ("/products/7?secret=1", 200, "/products/{id}", ""),
    ("/products/999", 404, "/products/{id}", ""),
    (
        "/checkout",
        500,
        "/checkout",
        "ValueError in shop.py:checkout",
    ),
    ("/crash", 500, "/crash", "RuntimeError in shop.py:wrapped"),
    (
        "/cut-export",
        200,
        "/cut-export",
        "ValueError in shop.py:rows",
    ),
];

fn shop(class: &str) -> Result<GunicornServer> {
    let threads = if class == "gthread" { 2 } else { 1 };
    Builder::new(&Venv::debian()?, "shop:app")
        .class(class)
        .threads(threads)
        .start()
}

fn talk(server: &GunicornServer) -> Result<()> {
    for (path, status, ..) in TALK {
        let request = Request::get(path).header("Connection", "close");
        let answer = fetch(server.port, &request)?;
        ensure!(answer.status == status, "{path}: {}", answer.status);
    }
    Ok(())
}

#[test]
fn each_request_has_a_line_for_people_and_one_for_programs() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    for class in ["sync", "gthread"] {
        let server = shop(class)?;
        let text = Tracer::start(server.pid(), &[])?;
        let json = Tracer::start(server.pid(), &["--json"])?;
        talk(&server)?;
        let (text, json) = (text.finish(TALK.len())?, json.finish(TALK.len())?);
        let json: Vec<Value> = json
            .iter()
            .map(|line| serde_json::from_str(line))
            .collect::<Result<_, _>>()?;
        let worker = server.workers()[0];
        for (_, status, route, why) in TALK {
            // A thread ends its request after the answer, so the next one's may end before.
            let line = text
                .iter()
                .find(|line| line.contains(&format!("  {status}   GET       {route} ")))
                .with_context(|| format!("{class}: no {route}: {text:#?}"))?;
            text_is_right(line, status, route, why, worker)?;
            ensure!(!line.contains("secret"));
            let line = json
                .iter()
                .find(|line| line["route"] == route && line["status"] == status)
                .with_context(|| format!("{class}: no {route}: {json:#?}"))?;
            json_is_right(line, status, route, why)
                .with_context(|| format!("{class}: {line:#}"))?;
            ensure!(line["pid"] == worker, "not of {worker}: {line}");
            ensure!(line["master_pid"] == server.pid(), "{line}");
            ensure!(line["worker_class"] == server.worker_class(), "{line}");
            ensure!(!line.to_string().contains("secret"));
        }
    }
    Ok(())
}

fn text_is_right(line: &str, status: u16, route: &str, why: &str, worker: u32) -> Result<()> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [time, code, method, place, duration, ..] = words[..] else {
        anyhow::bail!("too short: {line}");
    };
    ensure!(time.len() == 13 && time.ends_with('Z'), "{line}");
    ensure!(code == status.to_string() && method == "GET", "{line}");
    ensure!(place == route && duration.ends_with("ms"), "{line}");
    for letter in ['q', 'd', 'r', 'a', 'w'] {
        let is_phase = |word: &&str| {
            let number = word.strip_prefix(letter).unwrap_or_default();
            number.parse::<f64>().is_ok()
        };
        ensure!(words.iter().any(is_phase), "{letter}: {line}");
    }
    let end = format!("{worker}  shop:app              {why}");
    ensure!(line.ends_with(end.trim_end()), "no {end:?}: {line}");
    Ok(())
}

fn json_is_right(line: &Value, status: u16, route: &str, why: &str) -> Result<()> {
    ensure!(line["status"] == status && line["route"] == route);
    ensure!(line["app"] == "shop:app" && line["method"] == "GET");
    ensure!(line["duration_ns"].as_u64().is_some_and(|ns| ns > 0));
    let phases = line["phases_ns"].as_object().context("no phases")?;
    let phases: Vec<_> = phases.keys().map(String::as_str).collect();
    ensure!(phases == ["app", "dispatch", "queue", "read", "write"]);
    if why.is_empty() {
        ensure!(line["cause_is"].is_null() && line["cause"].is_null());
        return Ok(());
    }
    let cause = &line["cause"];
    let shown = (
        cause["error"]["name"].as_str().context("no class")?,
        cause["raised_in"].as_str().context("no place")?,
    );
    ensure!(format!("{} in {}", shown.0, shown.1) == why, "{shown:?}");
    ensure!(line["cause_is"] == "raised" && cause["traceback"][0]["file"] == "shop.py");
    // Flask answers for the exceptions that it sees.
    ensure!(line["failed"] == (route != "/checkout"));
    Ok(())
}

#[test]
fn filters_let_through_what_they_name() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = shop("gthread")?;
    let slow = Request::get("/search?seconds=0.3").header("Connection", "close");
    let expected: [(&[&str], &[&str]); 4] = [
        (&["--status", "404,5xx"], &["404", "500", "500"]),
        (&["--min-duration", "250ms"], &["200"]),
        (&["--route", "/products/*"], &["200", "404"]),
        (
            &["--route", "/products/**", "--status", "4xx", "--paths"],
            &["404"],
        ),
    ];
    let tracers = expected.map(|(arguments, _)| Tracer::start(server.pid(), arguments));
    talk(&server)?;
    ensure!(fetch(server.port, &slow)?.status == 200);
    for (tracer, (arguments, statuses)) in tracers.into_iter().zip(expected) {
        let lines = tracer?.finish(statuses.len())?;
        let mut shown: Vec<_> = lines
            .iter()
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        // A thread may end a request after its client has asked another thread the next.
        shown.sort_unstable();
        ensure!(shown == statuses, "{arguments:?}: {lines:#?}");
        let has_path = lines.iter().any(|line| line.contains(" /products/999 "));
        ensure!(has_path == arguments.contains(&"--paths"), "{lines:#?}");
    }
    Ok(())
}

#[test]
fn it_ends_well_when_nobody_reads_its_lines_any_more() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = shop("sync")?;
    let (mut tracer, out) = Tracer::start_piped(server.pid(), &[])?;
    talk(&server)?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    ensure!(line.contains(" 200 "), "{line}");
    // No request comes that would have to be written.
    tracer.ends()
}

#[test]
fn what_a_slow_reader_misses_is_counted_and_hinders_nobody() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    const REQUESTS: usize = 6000;
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .class("gthread")
        .threads(2)
        .workers(2)
        .start()?;
    let observer = Observer::run_for(&[server.pid()])?;
    let (mut tracer, out) = Tracer::start_piped(server.pid(), &["--json"])?;
    let load = Load {
        requests: REQUESTS,
        concurrency: 4,
        routes: vec![Request::get("/hello")],
    };
    let tally = load.run(server.port);
    ensure!(tally.failures.is_empty(), "{:?}", tally.failures);
    server.wait_for_access_log(REQUESTS)?;
    observer.wait_for_requests(server.pid(), REQUESTS)?;
    observer.stop()?;
    tracer.stop(Signal::SIGTERM)?;

    let lines = BufReader::new(out).lines().collect::<Result<Vec<_>, _>>()?;
    for line in &lines {
        let _: Value = serde_json::from_str(line).with_context(|| line.clone())?;
    }
    let said = tracer.stderr()?;
    let missing = REQUESTS - lines.len();
    let notice = format!("{missing} of {REQUESTS} requests were not shown");
    ensure!(
        missing > 0 && said.contains(&notice),
        "no {notice:?}:\n{said}"
    );
    Ok(())
}

#[test]
fn nothing_that_did_not_happen_is_shown_when_it_ends_under_load() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    const ENOUGH: usize = 500;
    let server = Builder::new(&Venv::debian()?, "raw:app")
        .class("gthread")
        .threads(2)
        .workers(2)
        .start()?;
    let load = Background::start(server.port, 4, vec![Request::get("/hello")], || ());
    let mut tracer = Tracer::start(server.pid(), &["--json"])?;
    wait::until("many lines", || {
        Ok((tracer.lines()?.len() >= ENOUGH).then_some(()))
    })?;
    tracer.stop(Signal::SIGINT)?;
    drop(load);
    for line in tracer.lines()? {
        let line: Value = serde_json::from_str(&line)?;
        ensure!(
            line["status"] == 200 && line["route"] == "/hello",
            "{line:#}"
        );
    }
    let said = tracer.stderr()?;
    ensure!(!said.contains("totals are lower bounds"), "{said}");
    Ok(())
}

#[test]
fn the_requests_of_a_recording_are_shown_as_they_were_traced() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = shop("gthread")?;
    let recorder = Observer::record_for(&[server.pid()])?;
    let tracer = Tracer::start(server.pid(), &["--json"])?;
    talk(&server)?;
    let traced = tracer.finish(TALK.len())?;
    recorder.wait_for_requests(server.pid(), TALK.len())?;
    let stopped = recorder.stop()?;
    let recording = stopped.recording();
    let output = observer::output(["replay", "--requests", &recording.to_string_lossy()])?;
    let replayed = String::from_utf8(output.stdout)?;
    ensure!(replayed.lines().count() == traced.len(), "{replayed}");
    for (traced, replayed) in traced.iter().zip(replayed.lines()) {
        let (traced, replayed) = (timeless(traced)?, timeless(replayed)?);
        ensure!(
            traced == replayed,
            "traced {traced:#}\nreplayed {replayed:#}"
        );
    }
    Ok(())
}

/// A line without its times, which two observers do not see alike; but with those it has.
fn timeless(line: &str) -> Result<Value> {
    let mut line: Value = serde_json::from_str(line)?;
    let fields = line.as_object_mut().context("no object")?;
    for (name, value) in fields.iter_mut() {
        let times: Vec<&mut Value> = match value.as_object_mut() {
            Some(phases) if name == "phases_ns" => phases.values_mut().collect(),
            _ if name.ends_with("_ns") || name == "time_seconds" => vec![value],
            _ => Vec::new(),
        };
        for time in times.into_iter().filter(|time| time.is_number()) {
            *time = Value::Bool(true);
        }
    }
    Ok(line)
}

#[test]
fn on_a_terminal_what_failed_has_a_colour() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let server = shop("sync")?;
    let tmux = Tmux::start(200, 30)?;
    for (option, colored) in [("", true), ("--no-color", false)] {
        let program = observer::binary()?;
        let pid = server.pid();
        tmux.run(&format!(
            "clear; {} trace {option} --pid {pid}",
            program.display()
        ))?;
        tmux.wait_for("the header", |screen| screen.contains("TIME (UTC)"))?;
        // Probes may not be attached yet: the last request is asked for until it is seen.
        let is_seen = |screen: &str| screen.contains("/checkout") && screen.contains(" 404 ");
        wait::until("the requests", || {
            talk(&server)?;
            Ok(is_seen(&tmux.screen()?).then_some(()))
        })?;
        let screen = tmux.colored_screen()?;
        let line = |part: &str| {
            screen
                .lines()
                .find(|line| line.contains(part))
                .unwrap_or_default()
        };
        for (part, color) in [("/checkout", "\x1b[31m"), (" 404 ", "\x1b[33m")] {
            ensure!(
                line(part).contains(color) == colored,
                "{option} {part}: {screen:?}"
            );
        }
        // tmux may begin this line with the reset of the line above.
        let good = line(" / ");
        ensure!(
            !good.contains("\x1b[31m") && !good.contains("\x1b[33m"),
            "{screen:?}"
        );
        tmux.press(&["C-c"])?;
        tmux.wait_for("the prompt", |screen| {
            screen.trim_end().ends_with("prompt>")
        })?;
    }
    Ok(())
}
