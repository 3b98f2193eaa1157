//! Loads the programs, each by itself: one that the kernel rejects disables its own feature only.

use super::absent::{Absent, Refusal};
use super::attach::no_program;
use super::features::{Backend, Feature, Hook, chosen, programs_of};
use super::kernel::Types;
use super::programs::{Load, Programs};
use super::{locked_memory, tracefs};
use crate::clock::monotonic_ns;
use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::ProgramArray;
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};

/// The programs, built by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probe-ebpf"));

/// A kernel function. Kernels that have it run programs on system calls while threads may be preempted,
/// and skip a program while another thread is in it on the same CPU (Linux 7.2,
/// `kernel/trace/bpf_trace.c`). There a backup is loaded and attached behind each such program.
const SKIPPING: &str = "trace_call_bpf_faultable";

/// Loads the programs; attaches none.
///
/// # Errors
/// When the kernel lacks types or tracepoints that the programs need, or refuses the maps.
pub fn load(types: &Types) -> Result<Programs> {
    let kernel = types.offsets()?;
    let tracepoint = tracefs::offsets()?;
    raise_memlock();
    let btf = types.for_loader();
    let mut ebpf = EbpfLoader::new()
        .btf(btf.as_ref())
        .override_global("KERNEL", &kernel, true)
        .override_global("TRACEPOINT", &tracepoint, true)
        .load(OBJECT)
        .context("the kernel refused the eBPF maps; run `gunicorn-observer doctor`")?;
    let mut absent = Absent::default();
    let mut loads = Vec::new();
    let skips = types.has_function(SKIPPING);
    let features = chosen(Backend::best(types.has_socket_tracepoints()));
    for (feature, row) in programs_of(features.iter().copied()) {
        let backup = row.backup().filter(|_| skips);
        for program in [Some(row.name), backup].into_iter().flatten() {
            let begun = monotonic_ns();
            if let Err(refusal) = load_one(&mut ebpf, program)? {
                absent.add(feature, refusal);
            }
            let took_ns = monotonic_ns() - begun;
            loads.push(Load {
                feature,
                program,
                took_ns,
            });
        }
    }
    link_tail_calls(&mut ebpf, &features, &absent)?;
    Programs::new(ebpf, features, absent, loads)
}

/// # Errors
/// The outer one, when the object is not the one of this build.
fn load_one(ebpf: &mut Ebpf, name: &'static str) -> Result<Result<(), Refusal>> {
    let program = ebpf.program_mut(name).with_context(|| no_program(name))?;
    let loaded = match program {
        Program::RawTracePoint(program) => program.load(),
        Program::TracePoint(program) => program.load(),
        Program::UProbe(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        _ => bail!("the eBPF program {name} has an unknown type"),
    };
    Ok(loaded.map_err(|error| Refusal::on_load(name, &error)))
}

impl Refusal {
    fn on_load(program: &'static str, error: &ProgramError) -> Self {
        let (why, log) = match error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => {
                let log = verifier_log.to_string();
                // The last line before the statistics names the fault.
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
        Self {
            program,
            why: format!("the kernel rejected the eBPF program {program}: {why}"),
            log,
        }
    }
}

/// Whether a line belongs to the end of a verifier log (`print_verification_stats` of
/// `kernel/bpf/verifier.c`).
fn is_statistics(line: &str) -> bool {
    ["processed ", "verification time ", "stack depth "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// Fills the maps of tail calls. They stay with the object: the kernel empties them once nobody holds
/// them.
fn link_tail_calls(ebpf: &mut Ebpf, features: &[&'static Feature], absent: &Absent) -> Result<()> {
    for (feature, program) in programs_of(features.iter().copied()) {
        let (map, index) = match program.hook {
            Hook::Tail(tail) => ("TAILS", tail as u32),
            Hook::StackTail => ("STACK_TAILS", 0),
            _ => continue,
        };
        if absent.why(feature).is_some() {
            continue;
        }
        let loaded = ebpf.program(program.name);
        let fd = loaded.with_context(|| no_program(program.name))?;
        let fd = fd.fd()?.try_clone()?;
        let found = ebpf
            .map_mut(map)
            .ok_or_else(|| anyhow!("the eBPF object has no map {map}"))?;
        ProgramArray::try_from(found)?
            .set(index, &fd, 0)
            .with_context(|| format!("the kernel refused a program in the eBPF map {map}"))?;
    }
    Ok(())
}

/// Raises the limit of locked memory, against which kernels before 5.11 count maps.
pub fn raise_memlock() {
    if let Err(error) = locked_memory::raise() {
        tracing::debug!("cannot raise RLIMIT_MEMLOCK: {error}; needed before Linux 5.11 only");
    }
}
