//! The cost to processes that are no Gunicorn, by turns with the observer and without it.

use std::{fmt::Write as _, path::Path, process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{gunicorn::Builder, nginx::Nginx, process};

use super::{
    Effort, Measured,
    ab::{self, Load},
    cpu,
    hooks::Hooks,
    loops::Loop,
    parts::{Meter, Parts},
    spread::{Spread, between_neighbours, verdict},
    stand::{self, Probes},
    traps::Traps,
};
use crate::{step::make_missing, tools, workspace::Workspace};

/// Requests to nginx of a window.
const REQUESTS: u32 = 3_000;
/// The most that a request to nginx may lose.
const NGINX_AIM: f64 = 0.025;
/// Processes of a window.
const PROCESSES: u32 = 30;

/// Something that is done many times.
struct Work<'a> {
    name: &'static str,
    aim: Option<Aim>,
    /// Nanoseconds of one.
    once: Box<dyn FnMut() -> Result<f64> + 'a>,
}

/// The most that is added.
#[derive(Clone, Copy)]
enum Aim {
    Ns(f64),
    Share(f64),
}

/// By probes: nanoseconds added up of the hits of each work, where they can be.
type AddedUp = Vec<(&'static str, f64)>;

pub fn measure(workspace: &Workspace, effort: &Effort) -> Result<Measured> {
    make_missing(&[ab::AB, stand::ENVIRONMENT, tools::NGINX], workspace)?;
    let binary = workspace.build_observer()?;
    let hooks = Hooks::build(workspace, &binary)?;
    let traps = Traps::measure(workspace, &hooks, effort)?;
    // A Gunicorn to observe, which does nothing.
    let observed = Builder::new(&stand::venv(workspace)?, "bench.raw_hello:app").start()?;
    let nginx = Served::start()?;
    let mut added_up = Vec::new();
    for probes in Probes::BOTH {
        let observer = probes.start(&binary, &[observed.pid()])?;
        let meter = Meter::start(&observer, &hooks, &traps)?;
        let send = || nginx.send().map(drop);
        let parts = meter.requests(nginx.worker, REQUESTS, send)?;
        added_up.push(all_added_up(&meter, &parts));
        drop(meter);
        observer.stop()?;
    }
    let mut works = works(&nginx)?;
    let times = take(&mut works, &binary, observed.pid(), effort)?;
    Ok(Measured {
        text: table(&works, &times, &added_up, effort),
        raw: vec![("bystander.csv", csv(&works, &times))],
        ..Measured::default()
    })
}

const NGINX: &str = "a request to nginx, CPU time of its worker";

fn all_added_up(meter: &Meter, nginx: &Parts) -> AddedUp {
    let loops = meter.loops_ns.iter().copied();
    loops.chain([(NGINX, nginx.sum_us() * 1e3)]).collect()
}

/// By turns without an observer, with one of all probes, without, and with one of the fewest.
fn take(works: &mut [Work], binary: &Path, master: u32, effort: &Effort) -> Result<Vec<Vec<f64>>> {
    let mut times = vec![Vec::new(); works.len()];
    for turn in 0..=4 * effort.bystander_rounds {
        let observer = probes(turn)
            .map(|probes| probes.start(binary, &[master]))
            .transpose()?;
        for (work, times) in works.iter_mut().zip(&mut times) {
            times.push((work.once)().context(work.name)?);
        }
        if let Some(observer) = observer {
            observer.stop()?;
        }
    }
    Ok(times)
}

/// The probes of an observer in a turn.
fn probes(turn: usize) -> Option<Probes> {
    (turn % 2 == 1).then(|| Probes::BOTH[turn / 2 % 2])
}

/// An nginx that answers by itself, with one worker.
struct Served {
    // It is ended when dropped.
    _nginx: Nginx,
    worker: u32,
    load: Load,
}

impl Served {
    fn start() -> Result<Self> {
        let nginx = Nginx::start_alone()?;
        let workers = process::children(nginx.pid());
        let worker = *workers.first().context("nginx has no worker")?;
        cpu::keep_apart(worker)?;
        let load = Load {
            port: nginx.port,
            path: "/".to_owned(),
            connections: 4,
        };
        Ok(Self {
            _nginx: nginx,
            worker,
            load,
        })
    }

    /// Nanoseconds of its worker that a request takes.
    fn send(&self) -> Result<f64> {
        let before = cpu::settled_ns(self.worker)?;
        self.load.run(REQUESTS)?;
        Ok((cpu::settled_ns(self.worker)? - before) as f64 / f64::from(REQUESTS))
    }
}

fn works(nginx: &Served) -> Result<Vec<Work<'_>>> {
    let looped = |mut one: Loop| Work {
        name: one.name,
        aim: Some(Aim::Ns(one.aim_ns)),
        once: Box::new(move || one.run()),
    };
    let mut works: Vec<Work> = Loop::all()?.into_iter().map(looped).collect();
    works.push(Work {
        name: NGINX,
        aim: Some(Aim::Share(NGINX_AIM)),
        once: Box::new(|| nginx.send()),
    });
    works.push(Work {
        name: "a process that starts and exits",
        aim: None,
        once: Box::new(processes),
    });
    Ok(works)
}

fn processes() -> Result<f64> {
    let start = Instant::now();
    for _ in 0..PROCESSES {
        ensure!(Command::new("true").status()?.success(), "`true` failed");
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(PROCESSES))
}

fn table(works: &[Work], times: &[Vec<f64>], added_up: &[AddedUp], effort: &Effort) -> String {
    let mut text = format!(
        "{} times by turns without the observer and with it; *added up* is made of hits, as in \
         [Overhead](#overhead).\n\n\
         | one | probes | without the observer, ns | added, ns | loss | aim | added up, ns |\n\
         |---|---|---|---|---|---|---|\n",
        effort.bystander_rounds,
    );
    for (number, probes) in Probes::BOTH.into_iter().enumerate() {
        for (work, times) in works.iter().zip(times) {
            let bare = Spread::of(times.iter().copied().step_by(2)).median;
            let each = between_neighbours(times, 1, |with, without| with - without);
            let added = Spread::of(each.into_iter().skip(number).step_by(2));
            let of_work = |(name, _): &&(&str, f64)| *name == work.name;
            let added_up = added_up[number].iter().find(of_work);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {bare:.0} | {} | {:.1} ± {:.1} % | {} | {} |",
                work.name,
                probes.name(),
                added.with_error(0),
                added.median / bare * 100.0,
                added.error() / bare * 100.0,
                work.aim
                    .map_or("–".to_owned(), |aim| aim.reached(bare, added)),
                added_up.map_or("–".to_owned(), |(_, ns)| format!("{ns:.0}")),
            );
        }
    }
    text
}

impl Aim {
    fn reached(self, bare: f64, added: Spread) -> String {
        let (aim, shown) = match self {
            Self::Ns(ns) => (ns, format!("≤ {ns} ns")),
            Self::Share(share) => (share * bare, format!("≤ {} %", share * 100.0)),
        };
        let reached = verdict(aim - added.median, added.error());
        format!("{shown}: {reached}")
    }
}

fn csv(works: &[Work], times: &[Vec<f64>]) -> String {
    let mut csv = "what,turn,probes,ns\n".to_owned();
    for (work, times) in works.iter().zip(times) {
        for (turn, ns) in times.iter().enumerate() {
            let name = work.name.replace(',', ";");
            let probes = probes(turn).map_or("none", Probes::name);
            // Writing to a string cannot fail.
            let _ = writeln!(csv, "{name},{turn},{probes},{ns:.1}");
        }
    }
    csv
}
