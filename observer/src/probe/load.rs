//! Loads the programs, attaches those of the whole host at once and those of
//! an interpreter when one is found. Nothing is pinned: all of it goes with us.

use super::links::Link;
use super::{kernel, tracefs};
use crate::python::maps;
use crate::python::target::ProbePoint;
use anyhow::{Context as _, Result, anyhow};
use aya::maps::ProgramArray;
use aya::programs::trace_point::TracePointLinkId;
use aya::programs::uprobe::UProbeScope;
use aya::programs::{RawTracePoint, TracePoint, UProbe};
use aya::{Ebpf, EbpfLoader};
use probe_ebpf::abi::Tail;
use std::os::fd::AsRawFd as _;

/// The programs, built by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probe-ebpf"));

/// Programs on raw tracepoints: (program, tracepoint).
const RAW_TRACEPOINTS: &[(&str, &str)] = &[
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
    ("socket_established", "inet_sock_set_state"),
    ("signal_generated", "signal_generate"),
    ("signal_delivered", "signal_deliver"),
    ("oom_victim", "mark_victim"),
];

/// The program on a raw tracepoint that goes on with itself.
const STACK_TAIL: &str = "stack_of_thread";

/// Programs on system calls: (program, tracepoint). A call's end is attached
/// before its beginning, so that none is seen to begin and never to end.
const SYSCALLS: &[(&str, &str)] = &[
    ("exit_accept4", "sys_exit_accept4"),
    ("exit_recvfrom", "sys_exit_recvfrom"),
    ("enter_recvfrom", "sys_enter_recvfrom"),
    ("exit_sendto", "sys_exit_sendto"),
    ("enter_sendto", "sys_enter_sendto"),
    ("exit_sendfile", "sys_exit_sendfile64"),
    ("enter_sendfile", "sys_enter_sendfile64"),
    ("enter_close", "sys_enter_close"),
    ("exit_connect", "sys_exit_connect"),
    ("enter_connect", "sys_enter_connect"),
];

/// Programs on system calls that Gunicorn's own request handling does not make, and
/// processes may make for anything: attached only while a process is observed that
/// may use them for its connections. Each takes time when it is detached, too.
const PLAIN_CALLS: &[(&str, &str)] = &[
    ("exit_accept", "sys_exit_accept"),
    ("exit_sendmsg", "sys_exit_sendmsg"),
    ("enter_sendmsg", "sys_enter_sendmsg"),
    ("exit_read", "sys_exit_read"),
    ("enter_read", "sys_enter_read"),
    ("exit_write", "sys_exit_write"),
    ("enter_write", "sys_enter_write"),
    ("exit_writev", "sys_exit_writev"),
    ("enter_writev", "sys_enter_writev"),
];

/// Programs on waits for the GIL, which is asked for: every process makes these calls, and in
/// great numbers. The end first, likewise.
const GIL_CALLS: &[(&str, &str)] = &[
    ("exit_futex", "sys_exit_futex"),
    ("enter_futex", "sys_enter_futex"),
];

/// A program on functions of interpreters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Uprobe {
    /// On `datetime.now`: a request begins, ends or fails.
    Request,
    /// On `sys.exc_info` and `sys.exception`: someone asks for the exception being handled.
    Asked,
    /// On `PyTraceBack_Here`: an exception goes up out of a frame.
    Unwound,
    /// Where the garbage collector begins.
    CollectionBegins,
    /// Where it ends.
    CollectionEnds,
}

impl Uprobe {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Request,
        Self::Asked,
        Self::Unwound,
        Self::CollectionBegins,
        Self::CollectionEnds,
    ];

    /// The program's name.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Request => "datetime_now",
            Self::Asked => "exception_asked",
            Self::Unwound => "exception_unwound",
            Self::CollectionBegins => "collection_begins",
            Self::CollectionEnds => "collection_ends",
        }
    }
}

/// When a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// To interpreters that are observed.
    Interpreters(Uprobe),
    /// While a process is observed that needs it.
    Needed,
    /// If waits for the GIL are asked for.
    Gil,
}

/// Every program that is attached, and when.
pub fn programs() -> impl Iterator<Item = (&'static str, When)> {
    let host = RAW_TRACEPOINTS.iter().chain(SYSCALLS);
    host.map(|&(program, _)| (program, When::Always))
        .chain(
            PLAIN_CALLS
                .iter()
                .map(|&(program, _)| (program, When::Needed)),
        )
        .chain(GIL_CALLS.iter().map(|&(program, _)| (program, When::Gil)))
        .chain(Uprobe::ALL.map(|uprobe| (uprobe.program(), When::Interpreters(uprobe))))
}

/// The raw tracepoints that are always attached to.
pub fn raw_tracepoints() -> impl Iterator<Item = &'static str> {
    RAW_TRACEPOINTS.iter().map(|&(_, tracepoint)| tracepoint)
}

/// The tracepoints of system calls that are.
pub fn call_tracepoints() -> impl Iterator<Item = &'static str> {
    SYSCALLS.iter().map(|&(_, tracepoint)| tracepoint)
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
    let raw = RAW_TRACEPOINTS.iter().map(|&(program, _)| program);
    for program in raw.chain([STACK_TAIL]) {
        find::<RawTracePoint>(&mut ebpf, program)?
            .load()
            .with_context(|| refused(program))?;
    }
    let calls = SYSCALLS.iter().chain(PLAIN_CALLS).chain(GIL_CALLS);
    let tails = Tail::ALL.iter().map(|(_, program)| program);
    for program in calls.map(|(program, _)| program).chain(tails) {
        find::<TracePoint>(&mut ebpf, program)?
            .load()
            .with_context(|| refused(program))?;
    }
    link_tails(&mut ebpf)?;
    for program in Uprobe::ALL.map(Uprobe::program) {
        find::<UProbe>(&mut ebpf, program)?
            .load()
            .with_context(|| refused(program))?;
    }
    Ok(ebpf)
}

/// Tells the programs those that they go on with. The map stays with the object:
/// it is empty once nobody holds it.
fn link_tails(ebpf: &mut Ebpf) -> Result<()> {
    for (tail, name) in Tail::ALL {
        let program = find::<TracePoint>(ebpf, name)?.fd()?.try_clone()?;
        let map = ebpf
            .map_mut("TAILS")
            .ok_or_else(|| anyhow!("the eBPF object has no map TAILS"))?;
        ProgramArray::try_from(map)?
            .set(tail as u32, &program, 0)
            .with_context(|| refused(name))?;
    }
    let program = find::<RawTracePoint>(ebpf, STACK_TAIL)?.fd()?.try_clone()?;
    let map = ebpf
        .map_mut("STACK_TAILS")
        .ok_or_else(|| anyhow!("the eBPF object has no map STACK_TAILS"))?;
    ProgramArray::try_from(map)?
        .set(0, &program, 0)
        .with_context(|| refused(STACK_TAIL))
}

/// Attaches the programs of the whole host.
///
/// # Errors
/// When the kernel has no such tracepoint or refuses.
pub fn attach_host(ebpf: &mut Ebpf) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for &(program, tracepoint) in RAW_TRACEPOINTS {
        let found = find::<RawTracePoint>(ebpf, program)?;
        let link = found
            .attach(tracepoint)
            .with_context(|| not_attached(program, tracepoint))?;
        links.push(Link::RawTracePoint(found.take_link(link)?));
    }
    links.extend(attach_calls(ebpf, SYSCALLS)?);
    Ok(links)
}

/// Attaches the programs on waits for the GIL.
///
/// # Errors
/// When the kernel refuses.
pub fn attach_gil(ebpf: &mut Ebpf) -> Result<Vec<Link>> {
    attach_calls(ebpf, GIL_CALLS)
}

fn attach_calls(ebpf: &mut Ebpf, calls: &[(&str, &str)]) -> Result<Vec<Link>> {
    let attach = |&(program, tracepoint): &(&str, &str)| {
        let found = find::<TracePoint>(ebpf, program)?;
        let link = found
            .attach("syscalls", tracepoint)
            .with_context(|| not_attached(program, tracepoint))?;
        Ok(Link::TracePoint(found.take_link(link)?))
    };
    calls.iter().map(attach).collect()
}

/// The attached programs on calls that every process makes.
pub struct PlainLinks(Vec<(&'static str, TracePointLinkId)>);

/// Attaches them.
///
/// # Errors
/// When the kernel refuses; then none stays attached.
pub fn attach_plain_calls(ebpf: &mut Ebpf) -> Result<PlainLinks> {
    let mut links = PlainLinks(Vec::new());
    for &(program, tracepoint) in PLAIN_CALLS {
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
pub fn raise_memlock() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!("cannot raise RLIMIT_MEMLOCK: {error}; needed before Linux 5.11 only");
    }
}
