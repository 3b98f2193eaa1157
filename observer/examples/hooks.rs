//! Attaches empty programs, and programs that count, to the kinds of hooks that the observer's programs
//! have. Needs root. `cargo xtask bench cost` builds the object and runs this.
//!
//! - `kinds`: prints the kind of each program of the observer, as a line of JSON
//! - `empty OBJECT PID`: for each line on its input detaches what is attached, and attaches what the
//!   line says: `function`, `sockets`, `calls` or `off`. Prints runs and nanoseconds of the detached programs by
//!   kind, as a line of JSON
//! - `count OBJECT PID PROGRAM…`: for each line on its input prints how often that process hit the
//!   hooks of these programs, and how many system calls it made, as a line of JSON

use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{MapData, PerCpuArray};
use aya::programs::{
    CgroupAttachMode, CgroupSock, CgroupSockAddr, Program, ProgramError, RawTracePoint, TracePoint,
    UProbe, uprobe::UProbeScope,
};
use aya::{Ebpf, EbpfLoader};
use observer::cpython::target::{Interpreter, ProbePoint};
use observer::probe::features::{AttachPoint, Hook, PythonHook, programs};
use observer::probe::tracefs;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

/// The name under which all system calls are counted.
const ALL_CALLS: &str = "sys_enter";
/// No flags: the kernel lets every link share its control group.
const SHARED: CgroupAttachMode = CgroupAttachMode::Single;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    tracefs::ensure()?;
    match *arguments {
        ["kinds"] => say(&kinds()),
        ["empty", object, pid] => empty(object, pid.parse().context("a pid")?),
        ["count", object, pid, ref names @ ..] => {
            count(object, pid.parse().context("a pid")?, names)
        }
        _ => bail!("nothing to do: run `cargo xtask bench cost`"),
    }
}

fn say(answer: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}

/// The kind of each program that has a hook of its own.
fn kinds() -> BTreeMap<&'static str, &'static str> {
    let of = |hook| match hook {
        Hook::Python(_) => Some("uprobe"),
        Hook::RawTracepoint(_) => Some("raw"),
        Hook::Syscall { .. } => Some("syscall"),
        Hook::ControlGroup(_) => Some("cgroup"),
        Hook::Tail(_)
        | Hook::PythonTail(_)
        | Hook::SocketTail(_)
        | Hook::IoTail(_)
        | Hook::StackTail => None,
    };
    let kind = |program: &'static observer::probe::features::Program| {
        let own = of(program.hook)?;
        let names = [Some(program.name), program.backup()];
        Some(names.into_iter().flatten().map(move |name| (name, own)))
    };
    programs()
        .filter_map(|(_, it)| kind(it))
        .flatten()
        .collect()
}

/// Empty programs, attached to one kind of hook after the other.
fn empty(object: &str, pid: u32) -> Result<()> {
    let interpreter = Interpreter::inspect(pid, Path::new("/proc"))?;
    let mut attached: Option<Empty> = None;
    for line in std::io::stdin().lines() {
        let runs = attached.take().map(|empty| empty.runs()).transpose()?;
        attached = match line?.as_str() {
            "function" => Some(Empty::on_function(object, &interpreter)?),
            "sockets" => Some(Empty::on_sockets(object)?),
            "calls" => Some(Empty::on_calls(object)?),
            "off" => None,
            other => bail!("unknown line `{other}`"),
        };
        say(&runs.unwrap_or_default())?;
    }
    Ok(())
}

/// Detached when dropped.
struct Empty {
    ebpf: Ebpf,
    programs: &'static [(&'static str, &'static str)],
}

impl Empty {
    /// On `datetime.now`.
    fn on_function(object: &str, interpreter: &Interpreter) -> Result<Self> {
        let mut ebpf = load(object, None)?;
        attach_to_function(&mut ebpf, "empty_uprobe", &interpreter.now)?;
        Ok(Self {
            ebpf,
            programs: &[("uprobe", "empty_uprobe")],
        })
    }

    /// On a raw tracepoint that each `send` hits, and on `getpeername`.
    fn on_sockets(object: &str) -> Result<Self> {
        let mut ebpf = load(object, None)?;
        attach_raw(&mut ebpf, "empty_raw", "sock_send_length")?;
        attach_to_peer_name(&mut ebpf, "empty_cgroup")?;
        Ok(Self {
            ebpf,
            programs: &[("raw", "empty_raw"), ("cgroup", "empty_cgroup")],
        })
    }

    /// On both ends of `sendto`. Every other system call then takes the kernel's slower path.
    fn on_calls(object: &str) -> Result<Self> {
        let mut ebpf = load(object, None)?;
        let program = find::<TracePoint>(&mut ebpf, "empty_syscall")?;
        program.load()?;
        program.attach("syscalls", "sys_enter_sendto")?;
        program.attach("syscalls", "sys_exit_sendto")?;
        Ok(Self {
            ebpf,
            programs: &[("syscall", "empty_syscall")],
        })
    }

    /// Runs and nanoseconds by kind; none unless the kernel takes statistics.
    fn runs(&self) -> Result<BTreeMap<&'static str, [u64; 2]>> {
        let runs = |&(kind, name): &(&'static str, &str)| {
            let program = self.ebpf.program(name).context("the program is gone")?;
            let fd = program.fd()?.as_fd().as_raw_fd();
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
            let number = |name: &str| {
                let line = info.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
            };
            Ok((kind, [number("run_cnt:"), number("run_time_ns:")]))
        };
        self.programs.iter().map(runs).collect()
    }
}

/// The control group above all others.
fn control_groups() -> Result<File> {
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    let path = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let path = words.next()?;
        (words.next()? == "cgroup2").then_some(path)
    });
    let path = path.context("no cgroup2 is mounted")?;
    File::open(path).with_context(|| format!("cannot open {path}"))
}

/// Counts until its input ends.
fn count(object: &str, pid: u32, names: &[&str]) -> Result<()> {
    // A process may be no Python: its functions are not hit then.
    let interpreter = Interpreter::inspect(pid, Path::new("/proc")).ok();
    let mut counters = BTreeMap::from([(ALL_CALLS, Counter::raw(object, pid, ALL_CALLS)?)]);
    for (_, program) in programs().filter(|(_, program)| names.contains(&program.name)) {
        let counter = match program.hook {
            Hook::RawTracepoint(tracepoint) => Counter::raw(object, pid, tracepoint)?,
            Hook::Syscall { tracepoint, .. } => Counter::syscall(object, pid, tracepoint)?,
            Hook::ControlGroup(point) => Counter::control_group(object, pid, point)?,
            Hook::Python(hook) => {
                let points = interpreter.iter().flat_map(|it| points(it, hook));
                Counter::functions(object, pid, points)?
            }
            Hook::Tail(_)
            | Hook::PythonTail(_)
            | Hook::SocketTail(_)
            | Hook::IoTail(_)
            | Hook::StackTail => continue,
        };
        counters.insert(program.name, counter);
    }
    for line in std::io::stdin().lines() {
        line?;
        let hits = counters.iter().map(|(&name, it)| Ok((name, it.hits()?)));
        say(&hits.collect::<Result<BTreeMap<_, _>>>()?)?;
    }
    Ok(())
}

/// Counts the hits of one process at a hook.
struct Counter {
    hits: PerCpuArray<MapData, u64>,
    // Its programs are detached when it is dropped.
    _ebpf: Ebpf,
}

impl Counter {
    fn raw(object: &str, pid: u32, tracepoint: &str) -> Result<Self> {
        let mut ebpf = load(object, Some(pid))?;
        attach_raw(&mut ebpf, "count_raw", tracepoint)?;
        Self::of(ebpf)
    }

    fn syscall(object: &str, pid: u32, tracepoint: &str) -> Result<Self> {
        let mut ebpf = load(object, Some(pid))?;
        let program = find::<TracePoint>(&mut ebpf, "count_syscall")?;
        program.load()?;
        program.attach("syscalls", tracepoint)?;
        Self::of(ebpf)
    }

    fn control_group(object: &str, pid: u32, point: AttachPoint) -> Result<Self> {
        let mut ebpf = load(object, Some(pid))?;
        match point {
            AttachPoint::PeerName4 => attach_to_peer_name(&mut ebpf, "count_peer_name4")?,
            AttachPoint::PeerName6 => attach_to_peer_name(&mut ebpf, "count_peer_name6")?,
            AttachPoint::SocketRelease => {
                let program = find::<CgroupSock>(&mut ebpf, "count_release")?;
                program.load()?;
                program.attach(control_groups()?, SHARED)?;
            }
        }
        Self::of(ebpf)
    }

    fn functions<'a>(
        object: &str,
        pid: u32,
        points: impl Iterator<Item = &'a ProbePoint>,
    ) -> Result<Self> {
        let mut ebpf = load(object, Some(pid))?;
        for point in points {
            attach_to_function(&mut ebpf, "count_uprobe", point)?;
        }
        Self::of(ebpf)
    }

    fn of(mut ebpf: Ebpf) -> Result<Self> {
        let hits = ebpf.take_map("HITS").context("the object has no HITS")?;
        Ok(Self {
            hits: hits.try_into()?,
            _ebpf: ebpf,
        })
    }

    fn hits(&self) -> Result<u64> {
        Ok(self.hits.get(&0, 0)?.iter().sum())
    }
}

/// The hooked instructions of an interpreter.
fn points(interpreter: &Interpreter, hook: PythonHook) -> Vec<&ProbePoint> {
    let collector = interpreter.collector.iter();
    let tasks = interpreter.tasks.iter();
    match hook {
        PythonHook::DatetimeNow => vec![&interpreter.now],
        PythonHook::ExceptionAsked => interpreter.handled.iter().flatten().collect(),
        PythonHook::TaskCreated => tasks.map(|it| &it.created).collect(),
        PythonHook::TracebackRead => tasks.map(|it| &it.traceback_read).collect(),
        PythonHook::TracebackHere => interpreter.deep_capture.iter().collect(),
        PythonHook::GcBegins => collector.flat_map(|it| &it.begins).collect(),
        PythonHook::GcEnds => collector.flat_map(|it| &it.ends).collect(),
    }
}

fn load(object: &str, counted: Option<u32>) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    if let Some(pid) = &counted {
        loader.override_global("COUNTED", pid, true);
    }
    let loaded = loader.load_file(object);
    loaded.with_context(|| format!("cannot load {object}"))
}

fn attach_to_function(ebpf: &mut Ebpf, name: &str, point: &ProbePoint) -> Result<()> {
    let program = find::<UProbe>(ebpf, name)?;
    if program.fd().is_err() {
        program.load()?;
    }
    let scope = UProbeScope::AllProcesses;
    program.attach(point.file_offset, &point.path_to_open, scope)?;
    Ok(())
}

fn attach_to_peer_name(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let program = find::<CgroupSockAddr>(ebpf, name)?;
    program.load()?;
    program.attach(control_groups()?, SHARED)?;
    Ok(())
}

fn attach_raw(ebpf: &mut Ebpf, name: &str, tracepoint: &str) -> Result<()> {
    let program = find::<RawTracePoint>(ebpf, name)?;
    program.load()?;
    let attached = program.attach(tracepoint);
    attached.with_context(|| format!("cannot attach to {tracepoint}"))?;
    Ok(())
}

fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name);
    let program = program.ok_or_else(|| anyhow!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}
