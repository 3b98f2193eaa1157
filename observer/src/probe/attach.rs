//! Attaches the programs: those of the whole host at once, those of an interpreter when one is
//! found. Nothing is pinned: all of it goes with us.

use super::features::{Absent, Refusal};
use super::load::find;
use super::programs::{Call, GIL_CALLS, PLAIN_CALLS, RAW_TRACEPOINTS, SYSCALLS, Uprobe, first_of};
use crate::cpython::target::ProbePoint;
use crate::probe::detach::Link;
use crate::process::maps;
use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use aya::programs::trace_point::TracePointLinkId;
use aya::programs::uprobe::UProbeScope;
use aya::programs::{ProgramError, ProgramFd, RawTracePoint, TracePoint, UProbe};
use std::os::fd::AsRawFd as _;

/// Attaches the programs of the whole host, as far as this kernel has what they take; what it
/// refuses is absent from then on.
///
/// # Errors
/// When the object is not what we built, or nothing can be observed without what was refused.
pub fn attach_host(ebpf: &mut Ebpf, absent: &mut Absent) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for &(program, tracepoint) in RAW_TRACEPOINTS {
        let found = find::<RawTracePoint>(ebpf, program)?;
        if absent.allows(program) {
            let attached = found.attach(tracepoint);
            let link = attached.and_then(|link| Ok(Link::RawTracePoint(found.take_link(link)?)));
            keep(&mut links, program, link, absent);
        }
    }
    attach_calls(ebpf, SYSCALLS, &mut links, absent)?;
    if let Some(refusal) = absent.needed() {
        bail!("{}; run `gunicorn-observer doctor`", refusal.why);
    }
    Ok(allowed(links, absent))
}

/// Attaches the programs on waits for the GIL, likewise.
///
/// # Errors
/// When the object is not what we built.
pub fn attach_gil(ebpf: &mut Ebpf, absent: &mut Absent) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    attach_calls(ebpf, GIL_CALLS, &mut links, absent)?;
    Ok(allowed(links, absent))
}

type Links = Vec<(&'static str, Link)>;

fn attach_calls(
    ebpf: &mut Ebpf,
    calls: &[Call],
    links: &mut Links,
    absent: &mut Absent,
) -> Result<()> {
    // The second behind the first: the kernel runs them in this order.
    for (program, tracepoint) in each(calls) {
        let found = find::<TracePoint>(ebpf, program)?;
        if absent.allows(program) && (first_of(program).is_none() || found.fd().is_ok()) {
            let attached = found.attach("syscalls", tracepoint);
            let link = attached.and_then(|link| Ok(Link::TracePoint(found.take_link(link)?)));
            keep(links, program, link, absent);
        }
    }
    Ok(())
}

/// Both programs of each call, and its tracepoint.
fn each(calls: &[Call]) -> impl Iterator<Item = (&'static str, &'static str)> {
    calls.iter().flat_map(|call| {
        [
            (call.program, call.tracepoint),
            (call.again, call.tracepoint),
        ]
    })
}

fn keep(
    links: &mut Links,
    program: &'static str,
    link: Result<Link, ProgramError>,
    absent: &mut Absent,
) {
    match link {
        Ok(link) => links.push((program, link)),
        Err(error) => absent.add(Refusal {
            program: program.to_owned(),
            why: format!(
                "the kernel did not attach the eBPF program {program}: {}",
                chain(&error)
            ),
            log: String::new(),
        }),
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A feature is there as a whole or not at all.
fn allowed(links: Links, absent: &Absent) -> Vec<Link> {
    let allowed = links
        .into_iter()
        .filter(|(program, _)| absent.allows(program));
    allowed.map(|(_, link)| link).collect()
}

/// The attached programs on calls that every process makes.
pub struct PlainLinks(Vec<(&'static str, TracePointLinkId)>);

/// Attaches them.
///
/// # Errors
/// When the kernel refuses; then none stays attached.
pub fn attach_plain_calls(ebpf: &mut Ebpf) -> Result<PlainLinks> {
    for call in PLAIN_CALLS {
        is_loaded(find::<TracePoint>(ebpf, call.program)?.fd(), call.program)?;
    }
    let mut links = PlainLinks(Vec::new());
    for (program, tracepoint) in each(PLAIN_CALLS) {
        if first_of(program).is_some() && find::<TracePoint>(ebpf, program)?.fd().is_err() {
            continue; // this kernel skips none
        }
        let attached = find::<TracePoint>(ebpf, program)
            .and_then(|found| Ok(found.attach("syscalls", tracepoint)?));
        match attached {
            Ok(link) => links.0.push((program, link)),
            Err(error) => {
                detach_plain_calls(ebpf, links)?;
                return Err(error.context(not_attached(program, tracepoint)));
            }
        }
    }
    Ok(links)
}

/// Detaches them again: a call's beginning before its end, so that none is seen to
/// begin and never to end.
///
/// # Errors
/// When they were not attached.
pub fn detach_plain_calls(ebpf: &mut Ebpf, links: PlainLinks) -> Result<()> {
    for (program, link) in links.0.into_iter().rev() {
        find::<TracePoint>(ebpf, program)?
            .detach(link)
            .with_context(|| format!("detaching {program}"))?;
    }
    Ok(())
}

/// Attaches a program to a place of an interpreter's file, in every process that maps it.
///
/// # Errors
/// When the file cannot be opened or the kernel refuses.
pub fn attach_interpreter(ebpf: &mut Ebpf, uprobe: Uprobe, point: &ProbePoint) -> Result<Link> {
    let program = find::<UProbe>(ebpf, uprobe.program())?;
    is_loaded(program.fd(), uprobe.program())?;
    let (path, offset) = (&point.path_to_open, point.file_offset);
    let attaching = || format!("attaching to {} at {offset:#x}", path.display());
    // The very file that was read: whoever runs the process can put another on the path.
    let file = maps::reopen(path, point.opened).with_context(attaching)?;
    let file = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = program
        .attach(offset, file, UProbeScope::AllProcesses)
        .with_context(attaching)?;
    Ok(Link::UProbe(program.take_link(link)?))
}

/// The log and `doctor` have said why one is not.
fn is_loaded(fd: Result<&ProgramFd, ProgramError>, program: &str) -> Result<()> {
    ensure!(fd.is_ok(), "the kernel refused the eBPF program {program}");
    Ok(())
}

fn not_attached(program: &str, tracepoint: &str) -> String {
    format!(
        "attaching {program} to the tracepoint {tracepoint}; run `gunicorn-observer doctor` for the reason"
    )
}
