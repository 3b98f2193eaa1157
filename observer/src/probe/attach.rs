//! Attaches programs to their hooks. Nothing is pinned: every attachment ends with the observer.

use super::absent::Refusal;
use super::bpf_calls::{attach_raw_tracepoint, attach_to_control_group, attach_uprobe_multi};
use super::control_group;
use super::detach::{Link, detach_in_reverse};
use super::features::{AttachPoint, Feature, Hook, PythonHook, of_hook};
use super::load::LoadedObject;
use crate::cpython::target::ProbePoint;
use crate::process::maps;
use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::uprobe::UProbeScope;
use aya::programs::{Program, ProgramError, TracePoint, UProbe};
use aya_obj::generated::bpf_attach_type;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

/// Attaches the programs of a feature of the whole host: all of them or none.
///
/// # Errors
/// The first program that could not be attached, and why.
pub(super) fn attach_feature(
    object: &mut LoadedObject,
    feature: &Feature,
) -> Result<Vec<Link>, Refusal> {
    let mut links = Vec::new();
    match attach_to_host(object, feature, &mut links) {
        Ok(()) => Ok(links),
        Err(refusal) => {
            detach_in_reverse(links);
            Err(refusal)
        }
    }
}

fn attach_to_host(
    object: &mut LoadedObject,
    feature: &Feature,
    links: &mut Vec<Link>,
) -> Result<(), Refusal> {
    for program in feature.programs {
        let name = program.name;
        let refused = |error| Refusal::on_attach(name, &error);
        match program.hook {
            Hook::RawTracepoint(tracepoint) => {
                links.push(attach_raw(object, name, tracepoint).map_err(refused)?);
            }
            Hook::Syscall { tracepoint, backup } => {
                links.push(attach_to_syscall(&mut object.ebpf, name, tracepoint).map_err(refused)?);
                // Behind the first: the kernel runs them in this order.
                if object.fd(backup).is_some() {
                    links.push(
                        attach_to_syscall(&mut object.ebpf, backup, tracepoint).map_err(refused)?,
                    );
                }
            }
            Hook::ControlGroup(point) => {
                links.push(attach_to_control_groups(object, name, point).map_err(refused)?);
            }
            Hook::Python(_)
            | Hook::Tail(_)
            | Hook::PythonTail(_)
            | Hook::SocketTail(_)
            | Hook::IoTail(_)
            | Hook::StackTail => {}
        }
    }
    Ok(())
}

fn attach_raw(object: &LoadedObject, name: &str, tracepoint: &str) -> Result<Link> {
    let link = attach_raw_tracepoint(loaded(object, name)?, &CString::new(tracepoint)?)?;
    Ok(Link::Own(link))
}

fn attach_to_syscall(ebpf: &mut Ebpf, name: &str, tracepoint: &str) -> Result<Link> {
    let program = find::<TracePoint>(ebpf, name)?;
    let link = program.attach("syscalls", tracepoint)?;
    Ok(Link::TracePoint(program.take_link(link)?))
}

fn attach_to_control_groups(object: &LoadedObject, name: &str, point: AttachPoint) -> Result<Link> {
    let attach_type = match point {
        AttachPoint::PeerName4 => bpf_attach_type::BPF_CGROUP_INET4_GETPEERNAME,
        AttachPoint::PeerName6 => bpf_attach_type::BPF_CGROUP_INET6_GETPEERNAME,
        AttachPoint::SocketRelease => bpf_attach_type::BPF_CGROUP_INET_SOCK_RELEASE,
    };
    let root = control_group::root()?;
    let link = attach_to_control_group(loaded(object, name)?, root.as_fd(), attach_type);
    Ok(Link::Own(link.map_err(control_group::explained)?))
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
    let links = if object.uprobe_multi.is_ok() {
        attach_together(object, name, &file, &offsets)
    } else {
        attach_one_by_one(object, name, &file, &offsets)
    };
    links.with_context(attaching)
}

fn attach_together(
    object: &LoadedObject,
    name: &str,
    file: &File,
    offsets: &[u64],
) -> Result<Vec<Link>> {
    let path = CString::new(path_of(file))?;
    let link = attach_uprobe_multi(loaded(object, name)?, &path, offsets)?;
    Ok(vec![Link::Own(link)])
}

fn attach_one_by_one(
    object: &mut LoadedObject,
    name: &str,
    file: &File,
    offsets: &[u64],
) -> Result<Vec<Link>> {
    loaded(object, name)?;
    let program = find::<UProbe>(&mut object.ebpf, name)?;
    let path = path_of(file);
    let attach = offsets.iter().map(|&offset| {
        let link = program.attach(offset, &path, UProbeScope::AllProcesses)?;
        Ok(Link::UProbe(program.take_link(link)?))
    });
    attach.collect()
}

/// Leads to this very file.
fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn loaded<'a>(object: &'a LoadedObject, name: &str) -> Result<BorrowedFd<'a>> {
    let program = object.fd(name);
    program.with_context(|| format!("the kernel rejected the eBPF program {name}"))
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
