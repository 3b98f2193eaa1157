//! What a hit of the `datetime.now` program costs at the place that `python::insn` chooses, against
//! the function's entry where the kernel single-steps that, else against the first instruction of
//! the function that it single-steps.
//!
//! Loads the real programs and attaches the real one to a Python that calls `datetime.now()` in a
//! tight loop and takes the time itself: without probe, with it at one place and at the other, by
//! turns. Needs root. `cargo xtask bench placement` runs it.
//!
//! Arguments: `PYTHON` or `ROOT:PYTHON`, an interpreter in a root folder of its own.

use anyhow::{Context as _, Result, bail, ensure};

use iced_x86::{Decoder, DecoderOptions};
use observer::clock::monotonic_ns;
use observer::cpython::target::{Interpreter, ProbePoint};
use observer::options::Probes;
use observer::probe::features::PythonHook;
use observer::probe::kernel::Types;
use observer::probe::program_stats::ProgramStats;
use observer::probe::{Programs, load, tracefs};
use observer::process::elf::Machine;
use observer::process::insn;
use probe_ebpf::abi::{Role, Target};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Calls between two readings of the clock.
const CALLS: u32 = 10_000;
/// How often each of the three is measured.
const ROUNDS: usize = 60;
/// The name the programs count the hits of `datetime.now` under.
const HITS: &str = "python_hits";

const LOOP: &str = "
import sys, time
from datetime import datetime
def calls(count, now=datetime.now):
    start = time.perf_counter_ns()
    for _ in range(count): now()
    return time.perf_counter_ns() - start
calls(1000)
print('ready', flush=True)
for line in sys.stdin: print(calls(int(line)), flush=True)
";

fn main() -> Result<()> {
    if Machine::HOST != Machine::X86_64 {
        bail!("instructions of other machines than x86-64 are not decoded here");
    }
    let pythons: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if pythons.is_empty() {
        bail!("no interpreter is named: run `cargo xtask bench placement`");
    }
    let mut bench = Bench::load()?;
    println!(
        "| interpreter | chosen place | a hit there, µs | compared with | a hit there, µs | slowdown |"
    );
    println!("|---|---|---|---|---|---|");
    for python in &pythons {
        let row = bench.measure(python).with_context(|| python.clone())?;
        println!("{row}");
    }
    Ok(())
}

struct Bench {
    programs: Programs,
    stats: ProgramStats,
}

impl Bench {
    fn load() -> Result<Self> {
        tracefs::ensure()?;
        let mut programs = load::load(&Types::read(None)?, Probes::Full)?;
        let stats = programs.take_stats()?;
        Ok(Self { programs, stats })
    }

    /// One interpreter, as a row of the table.
    fn measure(&mut self, python: &str) -> Result<String> {
        let mut python = Python::start(python)?;
        let pid = python.child.id();
        let interpreter = Interpreter::inspect(pid, Path::new("/proc"))?;
        // As a worker of a master would be.
        let target = Target {
            layout: self.programs.maps.layout(&interpreter.layout)?,
            tstate_slot: interpreter.tstate_slot,
            generation: monotonic_ns(),
            ..Target::default()
        };
        let maps = &mut self.programs.maps;
        maps.set_target(pid, Role::Worker, target)?;
        let chosen = &interpreter.now;
        ensure!(
            chosen.placement.emulated,
            "no better place than the entry was found"
        );
        let stepped = stepped(chosen)?;

        let (mut at_best, mut at_other, mut slowdown) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            // By turns, and in either order, so that what changes slowly hits all alike.
            let mut order = [None, Some(chosen.placement.offset), Some(stepped.offset)];
            order.rotate_left(round % 3);
            let mut took = [0.0; 3];
            for place in order {
                let index = match place {
                    None => 0,
                    Some(offset) if offset == chosen.placement.offset => 1,
                    Some(_) => 2,
                };
                took[index] = self.calls(&mut python, chosen, place)?;
            }
            let [without, at_chosen, at_stepped] = took;
            at_best.push(at_chosen - without);
            at_other.push(at_stepped - without);
            slowdown.push((at_stepped - without) / (at_chosen - without));
        }
        Ok(format!(
            "| {} | `{}` at +{} | {} | `{}` at +{} | {} | {} |",
            interpreter.version,
            mnemonic(chosen, chosen.placement.offset)?,
            chosen.placement.offset,
            Quartiles::of(&mut at_best),
            stepped.instruction,
            stepped.offset,
            Quartiles::of(&mut at_other),
            Quartiles::of(&mut slowdown),
        ))
    }

    /// Microseconds that one call takes with the probe at this place of the function.
    fn calls(
        &mut self,
        python: &mut Python,
        point: &ProbePoint,
        place: Option<u64>,
    ) -> Result<f64> {
        let entry = point.file_offset - point.placement.offset;
        let attach = |offset| {
            let point = ProbePoint {
                file_offset: entry + offset,
                ..point.clone()
            };
            self.programs.attach_at(PythonHook::DatetimeNow, &point)
        };
        let link = place.map(attach).transpose()?;
        let before = self.hits()?;
        let took_ns = python.calls(CALLS)?;
        let hits = self.hits()? - before;
        drop(link);
        let wanted = if place.is_some() { u64::from(CALLS) } else { 0 };
        ensure!(
            hits == wanted,
            "{CALLS} calls made {hits} hits with the probe at {place:?}"
        );
        Ok(took_ns / 1e3 / f64::from(CALLS))
    }

    fn hits(&self) -> Result<u64> {
        let counts = self.stats.read().counts;
        counts
            .get(HITS)
            .copied()
            .with_context(|| format!("the programs do not count {HITS}"))
    }
}

/// What the chosen place is compared with.
struct Stepped {
    offset: u64,
    instruction: String,
}

/// The first instruction of the function that the kernel single-steps.
fn stepped(point: &ProbePoint) -> Result<Stepped> {
    let code = code(point)?;
    let found = Decoder::new(64, &code, DecoderOptions::NONE)
        .into_iter()
        .find(|instruction| {
            let rest = usize::try_from(instruction.ip())
                .ok()
                .and_then(|at| code.get(at..));
            let place = insn::place(Machine::HOST, rest.unwrap_or_default());
            place.offset != 0 || !place.emulated
        })
        .context("the function has no instruction that is single-stepped")?;
    Ok(Stepped {
        offset: found.ip(),
        instruction: format!("{:?}", found.mnemonic()).to_lowercase(),
    })
}

fn mnemonic(point: &ProbePoint, offset: u64) -> Result<String> {
    let code = code(point)?;
    let rest = usize::try_from(offset).ok().and_then(|at| code.get(at..));
    let instruction = Decoder::new(64, rest.unwrap_or_default(), DecoderOptions::NONE).decode();
    Ok(format!("{:?}", instruction.mnemonic()).to_lowercase())
}

/// The function's first bytes.
fn code(point: &ProbePoint) -> Result<[u8; 64]> {
    let mut code = [0; 64];
    File::open(&point.path_to_open)?
        .read_exact_at(&mut code, point.file_offset - point.placement.offset)?;
    Ok(code)
}

/// A Python that calls `datetime.now()` on request; killed when dropped.
struct Python {
    child: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Python {
    fn start(python: &str) -> Result<Self> {
        let mut command = match python.split_once(':') {
            Some((root, program)) => {
                let mut command = Command::new("chroot");
                command.args([root, program]);
                command
            }
            None => Command::new(python),
        };
        let mut child = command
            .args(["-I", "-c", LOOP])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {python}"))?;
        let ask = child.stdin.take().context("no pipe to Python")?;
        let answers = child.stdout.take().context("no pipe from Python")?;
        let mut python = Self {
            child,
            ask,
            answers: BufReader::new(answers).lines(),
        };
        ensure!(python.answer()? == "ready", "Python did not start");
        Ok(python)
    }

    fn answer(&mut self) -> Result<String> {
        Ok(self.answers.next().context("Python ended")??)
    }

    /// Nanoseconds that so many calls take.
    fn calls(&mut self, count: u32) -> Result<f64> {
        writeln!(self.ask, "{count}")?;
        Ok(self.answer()?.parse()?)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The median, and between which values the middle half lies.
struct Quartiles([f64; 3]);

impl Quartiles {
    fn of(values: &mut [f64]) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            let index = (values.len() * quarter / 4).min(values.len().saturating_sub(1));
            values.get(index).copied().unwrap_or(f64::NAN)
        };
        Self([at(1), at(2), at(3)])
    }
}

impl std::fmt::Display for Quartiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [low, median, high] = self.0;
        write!(f, "{median:.2} ({low:.2}–{high:.2})")
    }
}
