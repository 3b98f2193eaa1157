//! What the kernel takes for a hit of a program that does nothing, at each kind of place that the
//! observer's programs are attached to; or such programs at all of those places, by turns. Needs
//! root. `cargo xtask bench floor` builds the object and runs it.
//!
//! - `OBJECT traps PYTHON`: nanoseconds of a hit, as a line of JSON
//! - `OBJECT hold PID`: at the places of a Gunicorn's worker; each line `on` or `off` on its input
//!   is done and said back
//! - `OBJECT count PID`: the system calls that a process made so far, by number, as a line of JSON
//!   for each line on its input

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::maps::{MapData, PerCpuArray};
use aya::programs::uprobe::UProbeScope;
use aya::programs::{Program, ProgramError, RawTracePoint, TracePoint, UProbe};
use aya::{Ebpf, EbpfLoader};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use observer::cpython::target::{Interpreter, ProbePoint};
use observer::probe::detach::{Detacher, Link};
use observer::probe::{programs, tracefs};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

/// Calls between two readings of the clock.
const CALLS: u32 = 20_000;
/// How often each is measured.
const ROUNDS: usize = 25;

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
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        [object, "traps", python] => Empty::load(object)?.traps(python),
        [object, "hold", pid] => Empty::load(object)?.hold(pid.parse().context("a pid")?),
        [object, "count", pid] => count(object, pid.parse().context("a pid")?),
        _ => bail!("nothing is asked for: run `cargo xtask bench floor`"),
    }
}

/// Counts until its input ends.
fn count(object: &str, pid: u32) -> Result<()> {
    tracefs::ensure()?;
    let mut ebpf = EbpfLoader::new()
        .override_global("COUNTED", &pid, true)
        .load_file(object)
        .with_context(|| format!("cannot load {object}"))?;
    let program = find::<RawTracePoint>(&mut ebpf, "count_calls")?;
    program.load()?;
    program.attach("sys_enter")?;
    let calls = ebpf.take_map("CALLS").context("the object has no CALLS")?;
    let calls: PerCpuArray<MapData, u64> = calls.try_into()?;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lines() {
        line?;
        let mut counts = BTreeMap::new();
        for number in 0..calls.len() {
            let count: u64 = calls.get(&number, 0)?.iter().sum();
            if count > 0 {
                counts.insert(number, count);
            }
        }
        writeln!(out, "{}", serde_json::to_string(&counts)?)?;
        out.flush()?;
    }
    Ok(())
}

/// The programs that do nothing.
struct Empty {
    ebpf: Ebpf,
}

impl Empty {
    fn load(object: &str) -> Result<Self> {
        tracefs::ensure()?;
        let mut ebpf = Ebpf::load_file(object).with_context(|| format!("cannot load {object}"))?;
        find::<UProbe>(&mut ebpf, "empty_uprobe")?.load()?;
        find::<TracePoint>(&mut ebpf, "empty_tracepoint")?.load()?;
        find::<RawTracePoint>(&mut ebpf, "empty_raw_tracepoint")?.load()?;
        Ok(Self { ebpf })
    }

    fn at_function(&mut self, point: &ProbePoint) -> Result<Link> {
        let program = find::<UProbe>(&mut self.ebpf, "empty_uprobe")?;
        let scope = UProbeScope::AllProcesses;
        let link = program.attach(point.file_offset, &point.path_to_open, scope)?;
        Ok(Link::UProbe(program.take_link(link)?))
    }

    fn at_call(&mut self, tracepoint: &str) -> Result<Link> {
        let program = find::<TracePoint>(&mut self.ebpf, "empty_tracepoint")?;
        let link = program.attach("syscalls", tracepoint)?;
        Ok(Link::TracePoint(program.take_link(link)?))
    }

    fn at_raw(&mut self, tracepoint: &str) -> Result<Link> {
        let program = find::<RawTracePoint>(&mut self.ebpf, "empty_raw_tracepoint")?;
        let link = program.attach(tracepoint)?;
        Ok(Link::RawTracePoint(program.take_link(link)?))
    }

    fn hold(&mut self, pid: u32) -> Result<()> {
        let interpreter = Interpreter::inspect(pid, Path::new("/proc"))?;
        let (mut held, mut out) = (Vec::new(), std::io::stdout());
        for line in std::io::stdin().lines() {
            let line = line?;
            match line.as_str() {
                "on" => held = self.everywhere(&interpreter)?,
                "off" => {
                    // The end of it waits for all of them.
                    Detacher::default().detach_all(std::mem::take(&mut held));
                }
                other => bail!("`{other}` is neither `on` nor `off`"),
            }
            writeln!(out, "{line}")?;
            out.flush()?;
        }
        Ok(())
    }

    /// Where the observer's own are always, and those of an interpreter.
    fn everywhere(&mut self, interpreter: &Interpreter) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        for &(_, tracepoint) in programs::RAW_TRACEPOINTS {
            links.push(self.at_raw(tracepoint)?);
        }
        for call in programs::SYSCALLS {
            links.push(self.at_call(call.tracepoint)?);
        }
        let collector = interpreter.collector.iter();
        let points = std::iter::once(&interpreter.now)
            .chain(interpreter.asked.iter().flatten())
            .chain(collector.flat_map(|collector| collector.begins.iter().chain(&collector.ends)));
        for point in points {
            links.push(self.at_function(point)?);
        }
        Ok(links)
    }

    /// Every kind of place by turns with none.
    fn traps(&mut self, python: &str) -> Result<()> {
        let mut python = Python::start(python)?;
        let interpreter = Interpreter::inspect(python.child.id(), Path::new("/proc"))?;
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.set_nonblocking(true)?;
        let call = || _ = socket.recv(&mut [0; 8]);
        let signal = || _ = kill(getpid(), Signal::SIGURG);
        let [mut call_bare, mut call_near, mut call_hit] = [const { Vec::new() }; 3];
        let [mut raw_bare, mut raw_hit] = [const { Vec::new() }; 2];
        let [mut function_bare, mut function_hit] = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            call_bare.push(timed(call));
            raw_bare.push(timed(signal));
            function_bare.push(python.calls()?);
            let link = self.at_function(&interpreter.now)?;
            function_hit.push(python.calls()?);
            drop(link);
            let link = self.at_raw("signal_generate")?;
            raw_hit.push(timed(signal));
            drop(link);
            // Every call takes longer as soon as one is followed.
            let links = [
                self.at_call("sys_enter_close")?,
                self.at_call("sys_exit_close")?,
            ];
            call_near.push(timed(call));
            let more = [
                self.at_call("sys_enter_recvfrom")?,
                self.at_call("sys_exit_recvfrom")?,
            ];
            call_hit.push(timed(call));
            Detacher::default().detach_all(links.into_iter().chain(more).collect());
        }
        let added = |hit: &[f64], bare: &[f64], hits: f64| {
            let added = hit.iter().zip(bare).map(|(hit, bare)| (hit - bare) / hits);
            quartiles(added.collect())
        };
        let told = serde_json::json!({
            "function": added(&function_hit, &function_bare, 1.0),
            "raw": added(&raw_hit, &raw_bare, 1.0),
            "call": added(&call_hit, &call_near, 2.0),
            "any_call": added(&call_near, &call_bare, 1.0),
        });
        println!("{told}");
        Ok(())
    }
}

/// Nanoseconds that one of many calls takes.
fn timed(call: impl Fn()) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    [1, 2, 3].map(|quarter| {
        let at = (values.len() * quarter / 4).min(last);
        values.get(at).copied().unwrap_or(f64::NAN)
    })
}

fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name);
    let program = program.ok_or_else(|| anyhow!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// A Python that calls `datetime.now()` when told to; killed when dropped.
struct Python {
    child: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Python {
    fn start(python: &str) -> Result<Self> {
        let mut child = Command::new(python)
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

    /// Nanoseconds that one of many calls takes.
    fn calls(&mut self) -> Result<f64> {
        writeln!(self.ask, "{CALLS}")?;
        Ok(self.answer()?.parse::<f64>()? / f64::from(CALLS))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
