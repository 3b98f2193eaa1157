//! Loads the programs, attaches those of the whole host at once and those of
//! an interpreter when one is found. Nothing is pinned: all of it goes with us.

use super::{kernel, tracefs};
use anyhow::{Context as _, Result, anyhow};
use aya::programs::uprobe::{UProbeLinkId, UProbeScope};
use aya::programs::{RawTracePoint, TracePoint, UProbe};
use aya::{Ebpf, EbpfLoader};
use std::path::Path;

/// The programs, built by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probe-ebpf"));

/// Programs on raw tracepoints: (program, tracepoint).
const RAW_TRACEPOINTS: &[(&str, &str)] = &[
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
    ("socket_established", "inet_sock_set_state"),
];

/// Programs on system calls: (program, tracepoint). A call's end is attached
/// before its beginning, so that none is seen to begin and never to end.
const SYSCALLS: &[(&str, &str)] = &[
    ("exit_accept4", "sys_exit_accept4"),
    ("exit_accept", "sys_exit_accept"),
    ("exit_recvfrom", "sys_exit_recvfrom"),
    ("enter_recvfrom", "sys_enter_recvfrom"),
    ("exit_sendto", "sys_exit_sendto"),
    ("enter_sendto", "sys_enter_sendto"),
    ("exit_sendmsg", "sys_exit_sendmsg"),
    ("enter_sendmsg", "sys_enter_sendmsg"),
    ("exit_sendfile", "sys_exit_sendfile64"),
    ("enter_sendfile", "sys_enter_sendfile64"),
    ("enter_close", "sys_enter_close"),
];

/// The program on `datetime.now`.
pub const DATETIME_NOW: &str = "datetime_now";

/// Every program, and how many places it is attached to at start.
pub fn programs() -> impl Iterator<Item = (&'static str, u32)> {
    let host = RAW_TRACEPOINTS.iter().chain(SYSCALLS);
    host.map(|&(program, _)| (program, 1))
        .chain([(DATETIME_NOW, 0)])
}

/// Loads the programs; attaches none.
///
/// # Errors
/// When the kernel lacks what they need, or refuses them.
pub fn load() -> Result<Ebpf> {
    let kernel = kernel::offsets()?;
    let tracepoint = tracefs::offsets()?;
    raise_memlock();
    let mut ebpf = EbpfLoader::new()
        .override_global("KERNEL", &kernel, true)
        .override_global("TRACEPOINT", &tracepoint, true)
        .load(OBJECT)
        .context(
            "the kernel refused the eBPF maps; run `gunicorn-observer doctor` for the reason",
        )?;
    for (program, _) in RAW_TRACEPOINTS {
        find::<RawTracePoint>(&mut ebpf, program)?
            .load()
            .with_context(|| refused(program))?;
    }
    for (program, _) in SYSCALLS {
        find::<TracePoint>(&mut ebpf, program)?
            .load()
            .with_context(|| refused(program))?;
    }
    find::<UProbe>(&mut ebpf, DATETIME_NOW)?
        .load()
        .with_context(|| refused(DATETIME_NOW))?;
    Ok(ebpf)
}

/// Attaches the programs of the whole host.
///
/// # Errors
/// When the kernel has no such tracepoint or refuses.
pub fn attach_host(ebpf: &mut Ebpf) -> Result<()> {
    for &(program, tracepoint) in RAW_TRACEPOINTS {
        find::<RawTracePoint>(ebpf, program)?
            .attach(tracepoint)
            .with_context(|| not_attached(program, tracepoint))?;
    }
    for &(program, tracepoint) in SYSCALLS {
        find::<TracePoint>(ebpf, program)?
            .attach("syscalls", tracepoint)
            .with_context(|| not_attached(program, tracepoint))?;
    }
    Ok(())
}

/// Attaches the `datetime.now` program to a place of an interpreter's file, in
/// every process that maps it.
///
/// # Errors
/// When the file cannot be opened or the kernel refuses.
pub fn attach_interpreter(ebpf: &mut Ebpf, file: &Path, offset: u64) -> Result<UProbeLinkId> {
    find::<UProbe>(ebpf, DATETIME_NOW)?
        .attach(offset, file, UProbeScope::AllProcesses)
        .with_context(|| format!("attaching to {} at {offset:#x}", file.display()))
}

/// Detaches it again.
///
/// # Errors
/// When it was not attached.
pub fn detach_interpreter(ebpf: &mut Ebpf, link: UProbeLinkId) -> Result<()> {
    find::<UProbe>(ebpf, DATETIME_NOW)?
        .detach(link)
        .context("detaching from an interpreter")
}

fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| anyhow!("the eBPF object has no program {name}"))?;
    Ok(program.try_into()?)
}

fn refused(program: &str) -> String {
    format!(
        "the kernel refused the eBPF program {program}; run `gunicorn-observer doctor` for the reason"
    )
}

fn not_attached(program: &str, tracepoint: &str) -> String {
    format!(
        "attaching {program} to the tracepoint {tracepoint}; run `gunicorn-observer doctor` for the reason"
    )
}

/// Kernels before 5.11 charge maps to this limit.
fn raise_memlock() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!("cannot raise RLIMIT_MEMLOCK: {error}; needed before Linux 5.11 only");
    }
}
