//! The instructions of the programs, to be loaded by several threads: the verifier takes up to some
//! tenths of a second for a program.
//!
//! aya makes the maps, and loads and attaches the programs that the kernel runs by performance events.
//! The others are loaded and attached by [`super::bpf_calls`]: aya 0.14 has no `uprobe_multi`, and loads
//! in one thread.

use super::absent::Refusal;
use super::attach::no_program;
use super::bpf_calls::{Kind, Rejected, load_program};
use crate::clock::monotonic_ns;
use anyhow::Result;
use aya::Ebpf;
use aya::maps::Map;
use aya_obj::generated::{bpf_attach_type, bpf_insn, bpf_prog_type};
use aya_obj::{Object, ProgramSection};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ffi::CString;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Threads that load at the same time.
const MAX_THREADS: usize = 8;

/// The programs of the object.
#[derive(Debug)]
pub(super) struct Code {
    programs: HashMap<String, (Kind, Vec<bpf_insn>)>,
    license: CString,
}

/// The load of one program.
#[derive(Debug)]
pub(super) struct Loading {
    pub name: &'static str,
    pub result: Result<OwnedFd, Refusal>,
    pub took_ns: u64,
}

impl Code {
    /// The programs of an object whose maps aya made, all of them still there.
    ///
    /// # Errors
    /// When the object is not the same.
    pub(super) fn new(mut object: Object, ebpf: &Ebpf, has_uprobe_multi: bool) -> Result<Self> {
        let maps = std::mem::take(&mut object.maps);
        let fds = maps.iter().filter_map(|(name, map)| {
            let fd = fd_of(ebpf.map(name)?)?;
            Some((name.as_str(), fd, map))
        });
        let sections = object.functions.keys().map(|&(section, _)| section);
        let sections = sections.collect();
        object.relocate_maps(fds, &sections)?;
        object.relocate_calls(&sections)?;
        let programs = object.programs.iter().filter_map(|(name, program)| {
            let kind = kind(&program.section, has_uprobe_multi)?;
            let function = object.functions.get(&program.function_key())?;
            Some((name.clone(), (kind, function.instructions.clone())))
        });
        Ok(Self {
            programs: programs.collect(),
            license: object.license.clone(),
        })
    }

    /// Loads a program.
    pub(super) fn load(&self, name: &'static str) -> Loading {
        let begun = monotonic_ns();
        let result = match self.programs.get(name) {
            Some((kind, code)) => {
                let loaded = load_program(*kind, name, code, &self.license);
                loaded.map_err(|Rejected { error, log }| Refusal::on_load(name, &error, log))
            }
            None => Err(Refusal::on_load(name, &no_program(name), String::new())),
        };
        Loading {
            name,
            result,
            took_ns: monotonic_ns() - begun,
        }
    }

    /// Loads these programs, by as many threads as there are processors. The longest come first: a thread
    /// that begins one last is waited for.
    pub(super) fn load_all(&self, names: &[&'static str]) -> Vec<Loading> {
        let len = |name: &&str| self.programs.get(*name).map_or(0, |(_, code)| code.len());
        let mut names = names.to_vec();
        names.sort_by_key(|name| Reverse(len(name)));
        let next = AtomicUsize::new(0);
        let work = || {
            let next = || names.get(next.fetch_add(1, Ordering::Relaxed));
            std::iter::from_fn(|| next().map(|name| self.load(name))).collect::<Vec<_>>()
        };
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        thread::scope(|scope| {
            let others = 1..processors.min(MAX_THREADS);
            let others: Vec<_> = others.map(|_| scope.spawn(work)).collect();
            let mut loadings = work();
            // A thread that panicked has loaded nothing: its programs are reported as missing.
            loadings.extend(
                others
                    .into_iter()
                    .flat_map(|it| it.join().unwrap_or_default()),
            );
            loadings
        })
    }
}

fn kind(section: &ProgramSection, has_uprobe_multi: bool) -> Option<Kind> {
    use bpf_prog_type as program;
    let (program_type, attach_type) = match section {
        ProgramSection::UProbe { .. } => {
            let multi = has_uprobe_multi.then_some(bpf_attach_type::BPF_TRACE_UPROBE_MULTI);
            (program::BPF_PROG_TYPE_KPROBE, multi)
        }
        ProgramSection::TracePoint => (program::BPF_PROG_TYPE_TRACEPOINT, None),
        ProgramSection::RawTracePoint => (program::BPF_PROG_TYPE_RAW_TRACEPOINT, None),
        ProgramSection::CgroupSock { attach_type } => (
            program::BPF_PROG_TYPE_CGROUP_SOCK,
            Some((*attach_type).into()),
        ),
        ProgramSection::CgroupSockAddr { attach_type } => {
            let attach_type = (*attach_type).into();
            (program::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, Some(attach_type))
        }
        _ => return None,
    };
    Some(Kind {
        program_type,
        attach_type,
    })
}

fn fd_of(map: &Map) -> Option<RawFd> {
    let (Map::Array(map)
    | Map::HashMap(map)
    | Map::LruHashMap(map)
    | Map::PerCpuArray(map)
    | Map::PerCpuHashMap(map)
    | Map::PerCpuLruHashMap(map)
    | Map::ProgramArray(map)
    | Map::RingBuf(map)
    | Map::SkStorage(map)) = map
    else {
        return None;
    };
    Some(map.fd().as_fd().as_raw_fd())
}
