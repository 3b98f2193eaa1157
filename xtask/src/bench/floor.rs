//! The least that being observed can cost: programs that do nothing at the observer's places.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{
    Effort, Measured, ab,
    cost::{
        Bare,
        observed::start,
        parts::{self, Parts},
    },
    empty::Empty,
    spread::Spread,
    stand::{self, App},
};
use crate::{step::make_missing, workspace::Workspace};

/// Of the observer's cost, in terms of that of programs that do nothing.
const AIM: f64 = 1.3;

/// What was added to each request of one application, in microseconds of its worker.
struct Added {
    by_nothing: Spread,
    by_observer: Spread,
}

pub fn measure(workspace: &Workspace, effort: &Effort) -> Result<Measured> {
    make_missing(&[ab::AB, stand::ENVIRONMENT], workspace)?;
    let binary = workspace.build_observer()?;
    let empty = Empty::build(workspace)?;
    let traps = empty.traps()?;
    let bare = [App::Raw, App::Flask]
        .into_iter()
        .map(|app| Bare::start(workspace, app, "sync", effort))
        .collect::<Result<Vec<_>>>()?;
    let parts = parts::measure(&bare, &binary, (&empty, &traps), effort)?;
    let added = live(&bare, &binary, &empty, effort)?;
    let masters: Vec<u32> = bare.iter().map(|bare| bare.served.master).collect();
    let observer = start(&binary, &masters)?;
    let maps = maps(observer.pid())?;
    observer.stop()?;
    let walked = walked(&binary.with_file_name("examples/verifier"))?;
    Ok(table(&bare, &added, &parts, maps, &walked, effort).into())
}

/// None, programs that do nothing, none, the observer, none, and so on.
fn live(bare: &[Bare], binary: &Path, empty: &Empty, effort: &Effort) -> Result<Vec<Added>> {
    let masters: Vec<u32> = bare.iter().map(|bare| bare.served.master).collect();
    let first = bare.first().context("no Gunicorn")?;
    // All of them run the same interpreter.
    let mut held = empty.hold(first.served.worker)?;
    let mut cpu_us = vec![Vec::new(); bare.len()];
    let all = |cpu_us: &mut Vec<Vec<f64>>| {
        for (bare, cpu_us) in bare.iter().zip(cpu_us) {
            cpu_us.push(bare.served.window(bare.requests)?.cpu_us);
        }
        anyhow::Ok(())
    };
    for _ in 0..effort.floor_pairs {
        all(&mut cpu_us)?;
        held.attach()?;
        all(&mut cpu_us)?;
        held.detach()?;
        all(&mut cpu_us)?;
        let observer = start(binary, &masters)?;
        all(&mut cpu_us)?;
        observer.stop()?;
    }
    all(&mut cpu_us)?;
    let added = |cpu_us: &Vec<f64>, begin: usize| {
        let triples = cpu_us.windows(3).skip(begin).step_by(4);
        Spread::of(triples.filter_map(|triple| match *triple {
            [before, with, after] => Some(with - f64::midpoint(before, after)),
            _ => None,
        }))
    };
    let each = cpu_us.iter().map(|cpu_us| Added {
        by_nothing: added(cpu_us, 0),
        by_observer: added(cpu_us, 2),
    });
    Ok(each.collect())
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

/// Instructions that the verifier walks, by program.
fn walked(example: &Path) -> Result<BTreeMap<String, u64>> {
    let output = Command::new(example)
        .output()
        .with_context(|| format!("cannot start {}", example.display()))?;
    ensure!(output.status.success(), "the verifier: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    Ok(text.lines().filter_map(line).collect())
}

fn table(
    bare: &[Bare],
    added: &[Added],
    parts: &[Parts],
    (maps, mib): (usize, f64),
    walked: &BTreeMap<String, u64>,
    effort: &Effort,
) -> String {
    let mut text = format!(
        "CPU time of the worker that is added to a request, of `sync` workers, {} times by turns; and \
         the same added up of hits.\n\n\
         | application | programs that do nothing, µs | the observer, µs | times as much \
         (aim: ≤ {AIM}) | added up: traps, µs | with programs, µs | times as much |\n\
         |---|---|---|---|---|---|---|\n",
        effort.floor_pairs
    );
    for ((bare, added), parts) in bare.iter().zip(added).zip(parts) {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} | {:.1} | {:.1} | {:.2} |",
            bare.app.name(),
            added.by_nothing.with_error(1),
            added.by_observer.with_error(1),
            added.by_observer.median / added.by_nothing.median,
            parts.floor_us(),
            parts.sum_us(),
            parts.sum_us() / parts.floor_us(),
        );
    }
    text.push_str(
        "\nWhat one request of raw WSGI hits, and what a hit takes; the verifier walks each program \
         once, when it is loaded.\n\n\
         | program | hits of a request | trap, ns | program, ns | instructions walked |\n\
         |---|---|---|---|---|\n",
    );
    let by_program = parts.first().into_iter().flat_map(Parts::by_program);
    for (program, hits, trap_ns, run_ns) in by_program {
        let walked = walked.get(program).copied().unwrap_or_default();
        let _ = writeln!(
            text,
            "| `{program}` | {hits:.2} | {trap_ns:.0} | {run_ns:.0} | {walked} |"
        );
    }
    let all: u64 = walked.values().sum();
    let _ = write!(
        text,
        "\n{} programs, of which the verifier walks {all} instructions; {maps} maps, for which the \
         kernel accounts {mib:.1} MiB.",
        walked.len()
    );
    text
}
