//! Attaches programs to their hooks. Nothing is pinned: every attachment ends with the observer.

use super::absent::Refusal;
use super::control_group;
use super::detach::{Link, detach_in_reverse};
use super::features::{AttachPoint, Feature, Hook, PythonHook, of_hook};
use super::load::LoadedObject;
use crate::cpython::target::ProbePoint;
use crate::process::maps;
use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::programs::uprobe::UProbeScope;
use aya::programs::{
    CgroupAttachMode, CgroupSock, CgroupSockAddr, Program, ProgramError, RawTracePoint, TracePoint,
    UProbe,
};
use std::fs::File;
use std::os::fd::AsRawFd as _;

/// Attaches the programs of a feature of the whole host: all of them or none.
///
/// # Errors
/// The first program that could not be attached, and why.
pub(super) fn attach_feature(ebpf: &mut Ebpf, feature: &Feature) -> Result<Vec<Link>, Refusal> {
    let mut links = Vec::new();
    match attach_to_host(ebpf, feature, &mut links) {
        Ok(()) => Ok(links),
        Err(refusal) => {
            detach_in_reverse(links);
            Err(refusal)
        }
    }
}

fn attach_to_host(
    ebpf: &mut Ebpf,
    feature: &Feature,
    links: &mut Vec<Link>,
) -> Result<(), Refusal> {
    for program in feature.programs {
        let name = program.name;
        let refused = |error| Refusal::on_attach(name, &error);
        match program.hook {
            Hook::RawTracepoint(tracepoint) => {
                links.push(attach_raw(ebpf, name, tracepoint).map_err(refused)?);
            }
            Hook::Syscall { tracepoint, backup } => {
                links.push(attach_to_syscall(ebpf, name, tracepoint).map_err(refused)?);
                // Behind the first: the kernel runs them in this order.
                if ebpf.program(backup).is_some_and(|it| it.fd().is_ok()) {
                    links.push(attach_to_syscall(ebpf, backup, tracepoint).map_err(refused)?);
                }
            }
            Hook::ControlGroup(point) => {
                links.push(attach_to_control_groups(ebpf, name, point).map_err(refused)?);
            }
            Hook::Python(_)
            | Hook::Tail(_)
            | Hook::PythonTail(_)
            | Hook::SocketTail(_)
            | Hook::StackTail => {}
        }
    }
    Ok(())
}

fn attach_raw(ebpf: &mut Ebpf, name: &str, tracepoint: &str) -> Result<Link> {
    let program = find::<RawTracePoint>(ebpf, name)?;
    let link = program.attach(tracepoint)?;
    Ok(Link::RawTracePoint(program.take_link(link)?))
}

fn attach_to_syscall(ebpf: &mut Ebpf, name: &str, tracepoint: &str) -> Result<Link> {
    let program = find::<TracePoint>(ebpf, name)?;
    let link = program.attach("syscalls", tracepoint)?;
    Ok(Link::TracePoint(program.take_link(link)?))
}

/// A link is always attached beside other programs, with `BPF_F_ALLOW_MULTI`; the kernel refuses the
/// flag itself (`cgroup_bpf_link_attach` in `kernel/bpf/cgroup.c`).
const BESIDE_OTHERS: CgroupAttachMode = CgroupAttachMode::Single;

fn attach_to_control_groups(ebpf: &mut Ebpf, name: &str, point: AttachPoint) -> Result<Link> {
    let root = control_group::root()?;
    let attached = match point {
        AttachPoint::PeerName4 | AttachPoint::PeerName6 => {
            let program = find::<CgroupSockAddr>(ebpf, name)?;
            let link = program.attach(root, BESIDE_OTHERS);
            link.and_then(|link| Ok(Link::SocketAddress(program.take_link(link)?)))
        }
        AttachPoint::SocketRelease => {
            let program = find::<CgroupSock>(ebpf, name)?;
            let link = program.attach(root, BESIDE_OTHERS);
            link.and_then(|link| Ok(Link::Socket(program.take_link(link)?)))
        }
    };
    attached.map_err(control_group::explained)
}

impl Refusal {
    fn on_attach(program: &'static str, error: &anyhow::Error) -> Self {
        Self {
            program,
            why: format!("failed to attach the eBPF program {program}: {error:#}"),
            log: String::new(),
        }
    }
}

/// Attaches the program on a function of Python at these places of one file, in every process that maps
/// the file: all of them or none.
///
/// # Errors
/// When the file cannot be opened, or the kernel rejected the program or refuses to attach it.
pub(super) fn attach_to_python(
    object: &mut LoadedObject,
    hook: PythonHook,
    points: &[&ProbePoint],
) -> Result<Vec<Link>> {
    let name = of_hook(hook).map_or("", |(_, program)| program.name);
    let Some(first) = points.first() else {
        return Ok(Vec::new());
    };
    let path = &first.path_to_open;
    let offsets: Vec<u64> = points.iter().map(|point| point.file_offset).collect();
    let attaching = || format!("failed to attach to {} at {offsets:#x?}", path.display());
    // The very file that was read: the process may replace the file at this path.
    let file = maps::reopen(path, first.opened).with_context(attaching)?;
    let links = match &object.uprobe_multi {
        Ok(uprobes) => uprobes
            .attach(name, &file, &offsets)
            .map(|link| vec![Link::UprobeMulti(link)]),
        Err(_) => attach_one_by_one(&mut object.ebpf, name, &file, &offsets),
    };
    links.with_context(attaching)
}

fn attach_one_by_one(
    ebpf: &mut Ebpf,
    name: &str,
    file: &File,
    offsets: &[u64],
) -> Result<Vec<Link>> {
    let program = find::<UProbe>(ebpf, name)?;
    ensure!(
        program.fd().is_ok(),
        "the kernel rejected the eBPF program {name}"
    );
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let attach = offsets.iter().map(|&offset| {
        let link = program.attach(offset, &path, UProbeScope::AllProcesses)?;
        Ok(Link::UProbe(program.take_link(link)?))
    });
    attach.collect()
}

pub(super) fn no_program(name: &str) -> String {
    format!("the eBPF object has no program {name}")
}

fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).with_context(|| no_program(name))?;
    Ok(program.try_into()?)
}
