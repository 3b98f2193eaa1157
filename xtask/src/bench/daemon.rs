//! What the observer's own process takes: start, exit, idle, under load, scrapes.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    gunicorn::{Builder, GunicornServer},
    observer::Observer,
    venv::Venv,
    wait,
};

use super::{
    Effort, Measured, ab,
    cost::Bare,
    cpu,
    spread::Spread,
    stand::{self, App, Probes},
};
use crate::{step::make_missing, workspace::Workspace};

/// Workers of one master.
const OF_A_MASTER: usize = 50;
/// How often it is scraped, and how often it is started.
const SCRAPES: usize = 20;
const STARTS: usize = 10;

pub fn measure(workspace: &Workspace, effort: &Effort) -> Result<Measured> {
    make_missing(&[ab::AB, stand::ENVIRONMENT], workspace)?;
    let binary = workspace.build_observer()?;
    let mut text = under_load(workspace, &binary, effort)?;
    text.push_str(&starts(workspace, &binary, effort)?);
    text.push_str(
        "\n| workers | masters | resident, MiB | CPU at idle, ms/s | wake-ups/s at idle | a scrape, ms | \
         its CPU time, ms | its size, KiB |\n|---|---|---|---|---|---|---|---|\n",
    );
    let venv = Venv::all_in(&workspace.venvs())?.remove(0);
    let mut servers = Vec::new();
    for &workers in effort.workers {
        host(&venv, workers, &mut servers)?;
        text.push_str(&row(&binary, &servers, workers, effort)?);
    }
    Ok(text.into())
}

/// What is used in some seconds.
struct Used {
    cpu_ms_a_second: f64,
    wakeups_a_second: f64,
}

fn used(pid: u32, meanwhile: impl FnOnce() -> Result<()>) -> Result<Used> {
    let (start, ran, woken) = (Instant::now(), cpu::ran_ns(pid)?, cpu::wakeups(pid)?);
    meanwhile()?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Used {
        cpu_ms_a_second: (cpu::ran_ns(pid)? - ran) as f64 / 1e6 / seconds,
        // Those of a thread that ended meanwhile are gone.
        wakeups_a_second: cpu::wakeups(pid)?.saturating_sub(woken) as f64 / seconds,
    })
}

/// A measurement, which takes its time; nothing is waited for.
fn idle(effort: &Effort) -> Result<()> {
    thread::sleep(Duration::from_secs(effort.daemon_seconds));
    Ok(())
}

fn under_load(workspace: &Workspace, binary: &Path, effort: &Effort) -> Result<String> {
    let bare = Bare::start(workspace, App::Flask, "sync", effort)?;
    let observer = Probes::Full.start(binary, &[bare.served.master])?;
    let idle = used(observer.pid(), || idle(effort))?;
    let mut requests = 0;
    let start = Instant::now();
    let busy = used(observer.pid(), || {
        while start.elapsed() < Duration::from_secs(effort.daemon_seconds) {
            bare.served.window(bare.requests)?;
            requests += bare.requests;
        }
        Ok(())
    })?;
    let rate = f64::from(requests) / start.elapsed().as_secs_f64();
    let (maps, mib) = maps(observer.pid())?;
    observer.stop()?;
    Ok(format!(
        "With one worker of Flask and no scrapes it takes {:.1} ms of CPU time and {:.1} wake-ups a \
         second at idle; {:.1} ms and {:.0} wake-ups at {rate:.0} requests a second, {:.2} µs for a \
         request. Its {maps} maps take {mib:.1} MiB of the kernel's memory.\n",
        idle.cpu_ms_a_second,
        idle.wakeups_a_second,
        busy.cpu_ms_a_second,
        busy.wakeups_a_second,
        (busy.cpu_ms_a_second - idle.cpu_ms_a_second) * 1e3 / rate,
    ))
}

/// The maps that a process holds, and MiB of kernel memory of all of them.
fn maps(pid: u32) -> Result<(usize, f64)> {
    let folder = format!("/proc/{pid}/fdinfo");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {folder}"))? {
        // A descriptor may be closed meanwhile.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().parse::<u32>().ok())
        };
        if let (Some(id), Some(bytes)) = (number("map_id:"), number("memlock:")) {
            found.insert(id, bytes);
        }
    }
    ensure!(!found.is_empty(), "process {pid} holds no maps");
    let bytes: f64 = found.values().map(|&bytes| f64::from(bytes)).sum();
    Ok((found.len(), bytes / f64::from(1 << 20)))
}

/// How long until it is ready, until it counts for a master that was there before, and until every
/// feature is loaded.
fn starts(workspace: &Workspace, binary: &Path, effort: &Effort) -> Result<String> {
    let bare = Bare::start(workspace, App::Flask, "sync", effort)?;
    let (mut ready, mut attached) = (Vec::new(), Vec::new());
    let (mut loaded, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let start = Instant::now();
        let observer = Observer::run_until_ready(binary)?;
        ready.push(start.elapsed().as_secs_f64());
        observer.wait_until("the Gunicorn to be known", |metrics| {
            metrics.knows_master(bare.served.master)
        })?;
        attached.push(start.elapsed().as_secs_f64());
        observer.wait_until_loaded()?;
        loaded.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        observer.stop()?;
        ended.push(start.elapsed().as_secs_f64());
    }
    Ok(format!(
        "\nFrom its start it takes {:.2} s until it is ready and observes requests, {:.2} s until it \
         shows a Gunicorn that was there before, {:.2} s until rare programs are loaded too, and {:.2} s \
         to end.\n",
        Spread::of(ready),
        Spread::of(attached),
        Spread::of(loaded),
        Spread::of(ended)
    ))
}

/// Starts masters until there are so many workers.
fn host(venv: &Venv, workers: usize, servers: &mut Vec<(GunicornServer, usize)>) -> Result<()> {
    loop {
        let there: usize = servers.iter().map(|(_, workers)| workers).sum();
        let missing = workers.saturating_sub(there).min(OF_A_MASTER);
        if missing == 0 {
            return Ok(());
        }
        // Forked with the application in them, so that they share their memory.
        let builder = Builder::new(venv, "raw:app").workers(missing);
        servers.push((builder.argument("--preload").start()?, missing));
    }
}

fn row(
    binary: &Path,
    servers: &[(GunicornServer, usize)],
    workers: usize,
    effort: &Effort,
) -> Result<String> {
    let masters: Vec<u32> = servers.iter().map(|(server, _)| server.pid()).collect();
    let observer = Probes::Full.start(binary, &masters)?;
    wait::until("every worker to be known", || {
        let info = observer.scrape()?.all("gunicorn_worker_info", &[]).count();
        Ok((info == workers).then_some(()))
    })?;
    let idle = used(observer.pid(), || idle(effort))?;
    let mut took = Vec::new();
    let mut bytes = 0;
    let ran = cpu::settled_ns(observer.pid())?;
    for _ in 0..SCRAPES {
        let start = Instant::now();
        bytes = observer.scrape_text()?.len();
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    ensure!(bytes > 0, "an empty scrape");
    let cpu_ms = (cpu::settled_ns(observer.pid())? - ran) as f64 / 1e6 / SCRAPES as f64;
    let mut row = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        row,
        "| {workers} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {cpu_ms:.1} | {} |",
        servers.len(),
        cpu::resident_mib(observer.pid())?,
        idle.cpu_ms_a_second,
        idle.wakeups_a_second,
        Spread::of(took),
        bytes / 1024,
    );
    observer.stop()?;
    Ok(row)
}
