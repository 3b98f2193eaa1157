//! Loads the programs, each by itself: one that the kernel refuses costs its own feature only.

use super::features::{Absent, Refusal};
use super::kernel::Types;
use super::programs::{self, STACK_TAIL};
use super::{preflight, tracefs};
use crate::clock::monotonic_ns;
use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::ProgramArray;
use aya::programs::{Program, ProgramError, RawTracePoint, TracePoint};
use aya::{Ebpf, EbpfLoader};
use probe_ebpf::abi::Tail;

/// The programs, built by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probe-ebpf"));

/// The programs in the kernel, attached to nothing yet.
pub struct Loaded {
    pub ebpf: Ebpf,
    pub absent: Absent,
    /// Of each program, how long its load took.
    pub load_ns: Vec<(&'static str, u64)>,
}

/// Loads the programs; attaches none.
///
/// # Errors
/// When the kernel lacks what they need, or refuses all of them.
pub fn load(types: &Types) -> Result<Loaded> {
    let kernel = types.offsets()?;
    let tracepoint = tracefs::offsets()?;
    raise_memlock();
    let btf = types.for_loader();
    let mut ebpf = EbpfLoader::new()
        .btf(btf.as_ref())
        .override_global("KERNEL", &kernel, true)
        .override_global("TRACEPOINT", &tracepoint, true)
        .load(OBJECT)
        .context(
            "the kernel refused the eBPF maps; run `gunicorn-observer doctor` for the reason",
        )?;
    let mut absent = Absent::default();
    let mut load_ns = Vec::new();
    for program in names(types.has_function(programs::SKIPS)) {
        let begun = monotonic_ns();
        if let Err(error) = load_one(&mut ebpf, program)? {
            absent.add(refusal(program, &error));
        }
        load_ns.push((program, monotonic_ns() - begun));
    }
    link_tails(&mut ebpf, &absent)?;
    Ok(Loaded {
        ebpf,
        absent,
        load_ns,
    })
}

/// Every program; with those that are for kernels that skip some.
fn names(skips: bool) -> impl Iterator<Item = &'static str> {
    let tails = Tail::ALL.into_iter().map(|(_, program)| program);
    let second = programs::second().filter(move |_| skips);
    let attached = programs::all().chain(second).map(|(program, _)| program);
    tails.chain([STACK_TAIL]).chain(attached)
}

/// # Errors
/// The outer one, when the object is not what we built.
fn load_one(ebpf: &mut Ebpf, name: &str) -> Result<Result<(), ProgramError>> {
    let program = ebpf.program_mut(name).with_context(|| no_program(name))?;
    Ok(match program {
        Program::RawTracePoint(program) => program.load(),
        Program::TracePoint(program) => program.load(),
        Program::UProbe(program) => program.load(),
        _ => bail!("the eBPF program {name} is of an unknown type"),
    })
}

fn refusal(program: &str, error: &ProgramError) -> Refusal {
    let (why, log) = match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            // The last lines but for statistics say what was wrong.
            let mut lines = log.lines().rev();
            let last = lines.find(|line| !line.is_empty() && !is_statistics(line));
            let why = last.map_or_else(
                || io_error.to_string(),
                |line| format!("{io_error}: {line}"),
            );
            (why, log)
        }
        error => (error.to_string(), String::new()),
    };
    Refusal {
        program: program.to_owned(),
        why: format!("the kernel refused the eBPF program {program}: {why}"),
        log,
    }
}

/// What the verifier ends its log with (`print_verification_stats` of `kernel/bpf/verifier.c`).
fn is_statistics(line: &str) -> bool {
    ["processed ", "verification time ", "stack depth "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// Tells the programs those that they go on with. The map stays with the object:
/// it is empty once nobody holds it.
fn link_tails(ebpf: &mut Ebpf, absent: &Absent) -> Result<()> {
    for (tail, name) in Tail::ALL {
        if absent.allows(name) {
            let program = find::<TracePoint>(ebpf, name)?.fd()?.try_clone()?;
            link_tail(ebpf, "TAILS", tail as u32, &program)?;
        }
    }
    if absent.allows(STACK_TAIL) {
        let program = find::<RawTracePoint>(ebpf, STACK_TAIL)?.fd()?.try_clone()?;
        link_tail(ebpf, "STACK_TAILS", 0, &program)?;
    }
    Ok(())
}

fn link_tail(
    ebpf: &mut Ebpf,
    map: &str,
    index: u32,
    program: &aya::programs::ProgramFd,
) -> Result<()> {
    let found = ebpf
        .map_mut(map)
        .ok_or_else(|| anyhow!("the eBPF object has no map {map}"))?;
    ProgramArray::try_from(found)?
        .set(index, program, 0)
        .with_context(|| format!("the kernel refused a program in the eBPF map {map}"))
}

fn no_program(name: &str) -> String {
    format!("the eBPF object has no program {name}")
}

pub(super) fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf.program_mut(name).with_context(|| no_program(name))?;
    Ok(program.try_into()?)
}

/// Kernels before 5.11 charge maps to this limit.
pub fn raise_memlock() {
    if let Err(error) = preflight::raise_locked_memory() {
        tracing::debug!("cannot raise RLIMIT_MEMLOCK: {error}; needed before Linux 5.11 only");
    }
}
