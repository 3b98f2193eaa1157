//! Loads the programs, each by itself: one that the kernel rejects disables its own feature only.

use super::absent::Refusal;
use super::attach::no_program;
use super::bpf_calls::put_program;
use super::code::{Code, Loading};
use super::features::{Backend, Feature, Hook, Program as Row, PythonHook};
use super::kernel::Types;
use super::programs::{Load, Programs};
use super::status::Loaded;
use super::{locked_memory, tracefs, uprobe_multi};
use crate::clock::monotonic_ns;
use crate::options::Probes;
use anyhow::{Context as _, Result, bail};
use aya::maps::Map;
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use aya_obj::Object;
use probe_ebpf::abi::{Mode, PythonTail};
use std::collections::HashMap;
use std::fmt::Display;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

/// The programs, built by the build script.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probe-ebpf"));

/// A kernel function. Kernels that have it run programs on system calls while threads may be preempted,
/// and skip a program while another thread is in it on the same CPU (Linux 7.2,
/// `kernel/trace/bpf_trace.c`). There a backup is loaded and attached behind each such program.
const SKIPPING: &str = "trace_call_bpf_faultable";

/// Makes the maps. Each program is loaded when it is needed: [`Programs::attach_host`] and what follows.
///
/// # Errors
/// When the kernel lacks types or tracepoints that the programs need, or refuses the maps.
pub fn load(types: &Types, probes: Probes) -> Result<Programs> {
    // aya reads the kernel's types without need: each takes some hundredths of a second.
    let (loader, object, offsets) = thread::scope(|scope| {
        let loader = scope.spawn(EbpfLoader::new);
        let object = scope.spawn(|| Object::parse(OBJECT));
        let offsets = types.offsets();
        (loader.join(), object.join(), offsets)
    });
    let (Ok(mut loader), Ok(object)) = (loader, object) else {
        bail!("failed to read the eBPF object; please report it");
    };
    let kernel = offsets?;
    tracefs::check()?;
    raise_memlock();
    let ebpf = loader
        // The programs have no relocations against the kernel's types.
        .btf(None)
        .override_global("KERNEL", &kernel, true)
        .load(OBJECT)
        .context("the kernel refused the eBPF maps; run `gunicorn-observer doctor`")?;
    let uprobe_multi = uprobe_multi::test();
    let code = Code::new(object?, &ebpf, uprobe_multi.is_ok())?;
    let object = LoadedObject {
        ebpf,
        code: Arc::new(code),
        own: HashMap::new(),
        preloaded: HashMap::new(),
        uprobe_multi,
        skips: types.has_function(SKIPPING),
    };
    let has_socket_tracepoints = types.has_socket_tracepoints();
    let backend = Backend::best(probes, has_socket_tracepoints);
    let full = Backend::best(Probes::Full, has_socket_tracepoints);
    let mut programs = Programs::new(object, backend, full)?;
    let is_by_calls = backend == Backend::Syscalls;
    programs.maps.set_mode(Mode::Sockets, !is_by_calls)?;
    let is_blind = backend == Backend::EntryExit;
    programs.maps.set_mode(Mode::EntryExit, is_blind)?;
    Ok(programs)
}

/// The object with its maps, and the programs that are loaded.
pub(super) struct LoadedObject {
    pub ebpf: Ebpf,
    pub code: Arc<Code>,
    /// Programs that aya does not know of.
    own: HashMap<&'static str, OwnedFd>,
    /// Programs that threads loaded.
    preloaded: HashMap<&'static str, Loading>,
    /// Why programs on functions of Python are attached one by one, if they are.
    pub uprobe_multi: Result<()>,
    /// Whether the kernel skips programs: then it gets backups.
    skips: bool,
}

impl LoadedObject {
    /// Programs of a feature that threads may load.
    pub(super) fn own_names(&self, feature: &'static Feature) -> Vec<&'static str> {
        let own = feature.programs.iter().filter(|row| self.is_own(row));
        own.map(|row| row.name).collect()
    }

    /// Whether aya does not load the program.
    fn is_own(&self, row: &Row) -> bool {
        match row.hook {
            Hook::Syscall { .. } => false,
            Hook::Python(_) => self.uprobe_multi.is_ok(),
            _ => true,
        }
    }

    /// Loads programs of these features in several threads.
    pub(super) fn preload(&mut self, features: &[&'static Feature]) {
        let names = features.iter().flat_map(|feature| self.own_names(feature));
        let names: Vec<_> = names.collect();
        let loadings = self.code.load_all(&names);
        self.add_preloaded(loadings);
    }

    /// Takes programs that a thread loaded.
    pub(super) fn add_preloaded(&mut self, loadings: Vec<Loading>) {
        let loadings = loadings.into_iter().map(|loading| (loading.name, loading));
        self.preloaded.extend(loadings);
    }

    /// Loads every program of a feature that is not loaded, and fills the maps of tail calls.
    ///
    /// # Errors
    /// The first program that the kernel rejected; the others are loaded all the same.
    pub(super) fn load(
        &mut self,
        feature: &'static Feature,
        loads: &mut Vec<Load>,
    ) -> Result<Vec<Loaded>, Refusal> {
        let mut loaded = Ok(Vec::new());
        for row in feature.programs {
            let backup = row.backup().filter(|_| self.skips);
            for name in [Some(row.name), backup].into_iter().flatten() {
                let (of_name, took_ns) = self.load_one(name, row);
                loads.push(Load {
                    feature,
                    program: name,
                    took_ns,
                });
                let of_name = of_name.and_then(|()| self.loaded(name, feature, row));
                match (&mut loaded, of_name) {
                    (Ok(loaded), Ok(of_name)) => loaded.push(of_name),
                    (Ok(_), Err(refusal)) => loaded = Err(refusal),
                    (Err(_), _) => {}
                }
            }
        }
        let loaded = loaded?;
        for row in feature.programs {
            let linked = self.link_tail_call(row);
            linked.map_err(|error| Refusal::on_load(row.name, &error, String::new()))?;
        }
        Ok(loaded)
    }

    /// Loads a program, and returns the nanoseconds that it took.
    fn load_one(&mut self, name: &'static str, row: &Row) -> (Result<(), Refusal>, u64) {
        if self.is_own(row) {
            let loading = self.preloaded.remove(name);
            let loading = loading.unwrap_or_else(|| self.code.load(name));
            let loaded = loading.result.map(|fd| _ = self.own.insert(name, fd));
            return (loaded, loading.took_ns);
        }
        let begun = monotonic_ns();
        let loaded = self.load_by_aya(name);
        (loaded, monotonic_ns() - begun)
    }

    fn load_by_aya(&mut self, name: &'static str) -> Result<(), Refusal> {
        let Some(program) = self.ebpf.program_mut(name) else {
            return Err(Refusal::on_load(name, &no_program(name), String::new()));
        };
        let loaded = match program {
            Program::TracePoint(program) => program.load(),
            Program::UProbe(program) => program.load(),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        loaded.map_err(|error| match error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => Refusal::on_load(name, &io_error, verifier_log.to_string()),
            error => Refusal::on_load(name, &error, String::new()),
        })
    }

    fn loaded(
        &self,
        name: &'static str,
        feature: &'static Feature,
        row: &'static Row,
    ) -> Result<Loaded, Refusal> {
        let fd = self.fd(name).map(|fd| fd.try_clone_to_owned());
        let fd = fd.context("is not loaded").and_then(|fd| Ok(fd?));
        let fd = fd.map_err(|error| Refusal::on_load(name, &error, String::new()))?;
        Ok(Loaded {
            name,
            feature,
            row,
            fd,
        })
    }

    /// A loaded program.
    pub(super) fn fd(&self, name: &str) -> Option<BorrowedFd<'_>> {
        let own = self.own.get(name).map(OwnedFd::as_fd);
        own.or_else(|| Some(self.ebpf.program(name)?.fd().ok()?.as_fd()))
    }

    /// Fills the map of tail calls, if the program is reached by one. The map stays with the object:
    /// the kernel empties it once nobody holds it.
    fn link_tail_call(&mut self, row: &Row) -> Result<()> {
        let (map, index) = match row.hook {
            Hook::Tail(tail) => ("TAILS", tail as u32),
            Hook::StackTail => ("STACK_TAILS", 0),
            Hook::SocketTail(tail) => ("SOCKET_TAILS", tail as u32),
            Hook::IoTail(tail) => ("IO_TAILS", tail as u32),
            Hook::PythonTail(tail) => ("PYTHON_TAILS", tail as u32),
            Hook::Python(PythonHook::DatetimeNow) => ("PYTHON_TAILS", PythonTail::Again as u32),
            Hook::Python(PythonHook::TaskCreated) => {
                ("PYTHON_TAILS", PythonTail::TaskCreated as u32)
            }
            _ => return Ok(()),
        };
        let fd = self.fd(row.name).with_context(|| no_program(row.name))?;
        let Some(Map::ProgramArray(found)) = self.ebpf.map(map) else {
            bail!("the eBPF object has no map {map}");
        };
        put_program(found.fd().as_fd(), index, fd)
            .with_context(|| format!("the kernel refused a program in the eBPF map {map}"))
    }
}

impl Refusal {
    /// Of a program that the kernel rejected. The last line of the log before the statistics names the
    /// fault.
    pub(super) fn on_load(program: &'static str, error: &impl Display, log: String) -> Self {
        let mut lines = log.lines().rev();
        let last = lines.find(|line| !line.is_empty() && !is_statistics(line));
        let why = last.map_or_else(|| format!("{error:#}"), |line| format!("{error}: {line}"));
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

/// Raises the limit of locked memory, against which kernels before 5.11 count maps.
pub fn raise_memlock() {
    if let Err(error) = locked_memory::raise() {
        tracing::debug!("cannot raise RLIMIT_MEMLOCK: {error}; needed before Linux 5.11 only");
    }
}
