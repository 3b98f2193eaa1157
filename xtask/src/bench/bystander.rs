//! What processes pay that are no Gunicorn: some of the observer's programs are on what every
//! process does.

use std::{
    fmt::Write as _,
    fs::File,
    io::{Read as _, Write as _, pipe},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{gunicorn::Builder, nginx::Nginx, process, venv::Venv};

use super::{
    Effort, Measured,
    ab::{self, Load},
    cost::observed::start,
    cpu,
    spread::{Spread, between_neighbours},
};
use crate::{step::make_missing, tools, workspace::Workspace};

/// Calls between two readings of the clock.
const CALLS: u32 = 20_000;
/// Requests to nginx of a window.
const REQUESTS: u32 = 3_000;
/// What is read and packed up by tar.
const FILES: &str = "/usr/lib/python3.11";
/// The loss that is aimed at.
const AIM: f64 = 0.02;

/// Something that is done many times, and how long it takes each time, in nanoseconds.
struct Work {
    name: &'static str,
    /// System calls of one.
    calls: u32,
    /// Whether it is a loop of nothing else, or something that a host is for.
    is_real: bool,
    once: Box<dyn FnMut() -> Result<f64>>,
}

pub fn measure(workspace: &Workspace, effort: &Effort) -> Result<Measured> {
    make_missing(&[ab::AB, tools::NGINX], workspace)?;
    let binary = workspace.build_observer()?;
    let venv = Venv::all_in(&workspace.venvs())?.remove(0);
    // Somebody to be observed, who does nothing.
    let observed = Builder::new(&venv, "raw:app").start()?;
    let mut works = loops()?;
    works.extend(real()?);
    let times = take(&mut works, &binary, observed.pid(), effort)?;
    Ok(Measured {
        text: table(&works, &times, effort),
        raw: vec![("bystander.csv", csv(&works, &times))],
        ..Measured::default()
    })
}

/// All of them, by turns without the observer and with it.
fn take(works: &mut [Work], binary: &Path, master: u32, effort: &Effort) -> Result<Vec<Vec<f64>>> {
    let mut times = vec![Vec::new(); works.len()];
    for turn in 0..=2 * effort.bystander_pairs {
        let observer = (turn % 2 == 1)
            .then(|| start(binary, &[master]))
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

/// Loops of system calls and nothing else.
fn loops() -> Result<Vec<Work>> {
    let (mut reader, mut writer) = pipe().context("no pipe")?;
    let (here, there) = UnixDatagram::pair().context("no pair of sockets")?;
    let looped = |name, calls, mut call: Box<dyn FnMut() -> Result<()>>| Work {
        name,
        calls,
        is_real: false,
        once: Box::new(move || {
            let start = Instant::now();
            for _ in 0..CALLS {
                call()?;
            }
            Ok(start.elapsed().as_nanos() as f64 / f64::from(CALLS))
        }),
    };
    Ok(vec![
        looped(
            "`getppid`",
            1,
            Box::new(|| {
                let _ = nix::unistd::getppid();
                Ok(())
            }),
        ),
        looped(
            "`write` and `read` of a pipe",
            2,
            Box::new(move || {
                writer.write_all(b"x")?;
                Ok(reader.read_exact(&mut [0])?)
            }),
        ),
        looped(
            "`sendto` and `recvfrom` of a socket",
            2,
            Box::new(move || {
                here.send(b"x")?;
                there.recv(&mut [0])?;
                Ok(())
            }),
        ),
        looped(
            "`openat` and `close`",
            2,
            Box::new(|| {
                File::open("/dev/null")?;
                Ok(())
            }),
        ),
    ])
}

/// What a host is for.
fn real() -> Result<Vec<Work>> {
    let nginx = Nginx::start_alone()?;
    let workers = process::children(nginx.pid());
    let worker = *workers.first().context("nginx has no worker")?;
    cpu::keep_apart(worker)?;
    let load = Load {
        port: nginx.port,
        path: "/".to_owned(),
        connections: 4,
    };
    let served = move || {
        // It is ended with this.
        let _ = &nginx;
        let before = cpu::settled_ns(worker)?;
        load.run(REQUESTS)?;
        Ok((cpu::settled_ns(worker)? - before) as f64 / f64::from(REQUESTS))
    };
    Ok(vec![
        Work {
            name: "a request to nginx, of its worker's CPU time",
            calls: 0,
            is_real: true,
            once: Box::new(served),
        },
        Work {
            name: "tar of the standard library of Python",
            calls: 0,
            is_real: true,
            once: Box::new(tar),
        },
        Work {
            name: "a process that begins and ends",
            calls: 0,
            is_real: true,
            once: Box::new(processes),
        },
    ])
}

fn tar() -> Result<f64> {
    let start = Instant::now();
    let mut tar = Command::new("tar")
        .args(["-cf", "-", FILES])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start tar")?;
    // To `/dev/null` it would not read what it packs.
    let mut packed = tar.stdout.take().context("no pipe from tar")?;
    std::io::copy(&mut packed, &mut std::io::sink())?;
    ensure!(tar.wait()?.success(), "tar failed");
    Ok(start.elapsed().as_nanos() as f64)
}

fn processes() -> Result<f64> {
    const COUNT: u32 = 30;
    let start = Instant::now();
    for _ in 0..COUNT {
        ensure!(Command::new("true").status()?.success(), "`true` failed");
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(COUNT))
}

fn table(works: &[Work], times: &[Vec<f64>], effort: &Effort) -> String {
    let mut text = format!(
        "{} times by turns with the observer and without it. A loop of system calls and nothing else \
         shows what is added to one; what a host is for is aimed to lose less than {:.0} %.\n\n\
         | what | without the observer, ns | added, ns | added to a system call, ns | loss |\n\
         |---|---|---|---|---|\n",
        effort.bystander_pairs,
        AIM * 100.0
    );
    for (work, times) in works.iter().zip(times) {
        let bare = Spread::of(times.iter().copied().step_by(2));
        let added = Spread::of(between_neighbours(times, 1, |with, without| with - without));
        let ratio = Spread::of(between_neighbours(times, 1, |with, without| with / without));
        let a_call = match work.calls {
            0 => "–".to_owned(),
            calls => format!("{:.0}", added.median / f64::from(calls)),
        };
        let (loss, error) = (ratio.median - 1.0, ratio.error());
        let aim = match () {
            () if !work.is_real => "",
            () if loss + error < AIM => ": reached",
            () if loss - error < AIM => ": within the error",
            () => ": missed",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.0} | {} | {a_call} | {:.1} ± {:.1} %{aim} |",
            work.name,
            bare.median,
            added.with_error(0),
            loss * 100.0,
            error * 100.0,
        );
    }
    text
}

fn csv(works: &[Work], times: &[Vec<f64>]) -> String {
    let mut csv = "what,turn,observed,ns\n".to_owned();
    for (work, times) in works.iter().zip(times) {
        for (turn, ns) in times.iter().enumerate() {
            let name = work.name.replace(',', ";");
            // Writing to a string cannot fail.
            let _ = writeln!(csv, "{name},{turn},{},{ns:.1}", turn % 2);
        }
    }
    csv
}
