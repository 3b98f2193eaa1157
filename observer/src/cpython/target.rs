//! The interpreter of a process: which it is, and where its probes go.

use observer_model::Untrusted;
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::{Layout, debug_offsets, tables};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::asyncio::TaskLists;
pub use super::error::InspectError;
use super::files::{FileId, Files, Function, InterpreterFile, LibcFile, ProbeOffset, ProcessFile};
use super::object::Objects;
use super::slot::{self, Libc, SlotError};
use super::sys;
use super::threads;
use super::version::{self, Kind, Release};
use crate::process::elf::Machine;
use crate::process::insn::Placement;
use crate::process::maps;
use crate::process::maps::{FileNumber, Mapping};
use crate::process::memory::{ProcessMemory, Snapshot};
use crate::process::thread_pointer::ThreadPointer;

/// `datetime.datetime.now`, whose calls begin and end a request
/// (`Modules/_datetimemodule.c`, `datetime_methods`).
const DATETIME_NOW: Function = Function::Method("now", "now($type");
/// `sys.exc_info` and, from 3.11 on, `sys.exception`: frameworks call them while they handle an
/// exception (`Python/sysmodule.c`, `sys_methods`).
const EXC_INFO: Function = Function::Method("exc_info", "exc_info($module");
const EXCEPTION: Function = Function::Method("exception", "exception($module");
/// Called for each frame that an exception goes up (`Python/traceback.c`).
const TRACEBACK_HERE: Function = Function::Symbol("PyTraceBack_Here");

/// `asyncio.Task.__init__` (`Modules/_asynciomodule.c`, `_asyncio_Task___init__`).
const TASK_CREATED: Function = Function::Init("_asyncio.Task", "Task(coro, *, loop=None");
/// The getter of `BaseException.__traceback__` (`Objects/exceptions.c`, `BaseException_getset`).
const TRACEBACK_READ: Function = Function::Getter("__traceback__");

/// `specific_1stblock` of glibc 2.31 to 2.43 on x86-64, for a C library whose debugger symbol is
/// stripped; the check against the threads catches a wrong one.
const SPECIFIC_FIRST_BLOCK: u32 = 784;

/// A program that has not imported `datetime` yet is not ready.
pub const NO_MODULE: &str = "the module of datetime.now is not loaded yet";

/// Where a uprobe goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePoint {
    /// Leads to the file while the process lives, also from outside its root.
    pub path_to_open: PathBuf,
    /// The file behind that path when it was read.
    pub opened: FileNumber,
    /// The file that the kernel puts the probe on: the same for all processes that share it.
    pub probed: FileNumber,
    /// Of the instruction in the file.
    pub file_offset: u64,
    /// The instruction, relative to the function.
    pub placement: Placement,
}

/// Where a garbage collection begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    pub begins: Vec<ProbePoint>,
    pub ends: Vec<ProbePoint>,
}

/// Where tasks of asyncio show which requests they serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tasks {
    /// `_asyncio.Task.__init__`.
    pub created: ProbePoint,
    /// The getter of `BaseException.__traceback__`.
    pub traceback_read: ProbePoint,
}

/// The interpreter of one process, ready to be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Such as `3.11.7`.
    pub version: String,
    pub layout: Layout,
    /// Address of `_PyRuntime` in the process.
    pub runtime: u64,
    /// `datetime.now`.
    pub now: ProbePoint,
    /// `sys.exc_info` and `sys.exception`, or why handled exceptions are not seen.
    pub handled: Result<Vec<ProbePoint>, Untrusted>,
    /// `PyTraceBack_Here`, or why there is no deep capture.
    pub deep_capture: Result<ProbePoint, Untrusted>,
    /// The garbage collector, or why its pauses are not seen.
    pub collector: Result<Collector, Untrusted>,
    /// The tasks of asyncio, or why they are not seen: a program may not use it.
    pub tasks: Result<Tasks, Untrusted>,
    /// Offset of a thread's `PyThreadState *` from its thread pointer.
    pub tstate_slot: i64,
}

impl Interpreter {
    /// The interpreter of one process.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub fn inspect(pid: u32, proc_root: &Path) -> Result<Self, InspectError> {
        let mut files = Files::default();
        let runtime = Runtime::find(pid, proc_root, &mut files)?;
        Self::complete(&runtime, &mut files)
    }

    /// What is missing, or costs more than it should; empty if nothing is.
    #[must_use]
    pub fn shortcomings(&self) -> Untrusted {
        let warning = self.now.placement.warning().map(str::to_owned);
        let without = |what: &str, why: &Untrusted| format!("{what}: {}", why.raw());
        let handled = self.handled.as_ref().err();
        let handled = handled.map(|why| without("handled exceptions are not seen", why));
        let deep_capture = self.deep_capture.as_ref().err();
        let deep_capture = deep_capture.map(|why| without("no deep capture", why));
        let all: Vec<_> = [warning, handled, deep_capture]
            .into_iter()
            .flatten()
            .collect();
        all.join("; ").into()
    }

    /// Finds where the probes go.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub fn complete(found: &Runtime, files: &mut Files) -> Result<Self, InspectError> {
        Ok(Self {
            version: found.version.clone(),
            layout: found.layout,
            runtime: found.address,
            tstate_slot: found.tstate_slot(files)?,
            now: found.datetime_now(files)?,
            handled: found.handled(files),
            deep_capture: found.probe_point(TRACEBACK_HERE, files),
            collector: found.collector(files),
            tasks: found.tasks(files),
        })
    }
}

/// An interpreter whose memory can be read.
#[derive(Debug)]
pub struct Runtime {
    /// Such as `3.11.7`, or only `3.9` if the file does not say.
    pub version: String,
    is_released: bool,
    pub layout: Layout,
    /// Address of `_PyRuntime` in the process.
    pub address: u64,
    file: FileId,
    /// Addresses of the interpreter's variables in the process.
    variables: Range<u64>,
    pid: u32,
    proc_root: PathBuf,
    mappings: Vec<Mapping>,
    /// Index of the interpreter's file in `mappings`.
    interpreter: usize,
}

impl Runtime {
    /// Searches the mapped files of a process for an interpreter. If there are several, as where an extension
    /// brings a library of Python into an interpreter that has none, the one that runs.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub fn find(pid: u32, proc_root: &Path, files: &mut Files) -> Result<Self, InspectError> {
        let mappings = maps::read(proc_root, pid).map_err(|error| {
            InspectError::io(format!("reading the mappings of process {pid}"), error)
        })?;
        let candidates = find_interpreters(pid, proc_root, &mappings, files);
        let is_only = candidates.len() == 1;
        let mut first = None;
        for candidate in candidates {
            let found = Self::of(pid, proc_root, mappings.clone(), candidate, files);
            if is_only || found.as_ref().is_ok_and(Self::has_begun) {
                return found;
            }
            first.get_or_insert(found);
        }
        first.unwrap_or(Err(InspectError::NotPython))
    }

    /// Whether it has an interpreter.
    fn has_begun(&self) -> bool {
        let memory = ProcessMemory::new(self.pid);
        let main = threads::main_interpreter(&memory, &self.layout, self.address);
        main.is_ok_and(|main| main.is_some())
    }

    fn of(
        pid: u32,
        proc_root: &Path,
        mappings: Vec<Mapping>,
        (interpreter, named): (usize, NamedPython),
        files: &mut Files,
    ) -> Result<Self, InspectError> {
        let mapping = mappings.get(interpreter).ok_or(InspectError::NotPython)?;
        let unsupported = |reason| InspectError::unsupported(&named.version, reason);
        if let Some(reason) = named.kind.refusal() {
            return Err(unsupported(reason.to_owned()));
        }
        if mappings
            .iter()
            .any(|m| m.file_name().starts_with("ld-musl-"))
        {
            return Err(unsupported(
                "Python on musl libc is not supported yet".to_owned(),
            ));
        }
        let source = ProcessFile {
            proc_root,
            pid,
            mapping,
            mappings: &mappings,
        };
        let (file, id, bias) = files.interpreter(source)?;
        let Some(runtime) = file.runtime else {
            return Err(if file.is_whole {
                unsupported(format!(
                    "{} has no symbol _PyRuntime",
                    mapping.path.display()
                ))
            } else {
                InspectError::NotReady("the interpreter's library is not loaded yet")
            });
        };
        let version = match file.release {
            Some(release) => release.to_string(),
            None => named.version.clone(),
        };
        let layout = layout(&file, &named.version).map_err(|reason| {
            InspectError::unsupported(&version, format!("CPython {version}: {reason}"))
        })?;
        let address = bias.wrapping_add(runtime);
        let Range { start, end } = file.variables;
        let variables = bias.wrapping_add(start)..bias.wrapping_add(end);
        let proc_root = proc_root.to_owned();
        Ok(Self {
            version,
            is_released: file.release.is_some(),
            layout,
            address,
            file: id,
            variables,
            pid,
            proc_root,
            interpreter,
            mappings,
        })
    }

    /// Its release, such as `3.11.7`, as far as known.
    pub fn release<M: Memory>(&self, objects: &Objects<'_, M>) -> Untrusted {
        if self.is_released {
            return self.version.as_str().into();
        }
        let read = sys::release(objects, self.address);
        read.unwrap_or_else(|Fault| self.version.clone()).into()
    }

    /// The functions that handle signals.
    ///
    /// # Errors
    /// When they are not found: the interpreter starts, its memory must not be read, or the layout is wrong.
    pub fn signal_handlers(&self, files: &mut Files) -> Result<Vec<u64>, InspectError> {
        // Not by a snapshot: all variables may be read, once for each interpreter.
        let memory = ProcessMemory::new(self.pid);
        let objects = Objects::new(&memory, &self.layout);
        let found = files.signal_handlers(self.file, &self.variables, &objects);
        let missing = "the functions that handle its signals are not found";
        found.ok_or_else(|| InspectError::fault(&memory, self.pid, missing))
    }

    /// The lists of tasks of asyncio, which `_asyncio` publishes from 3.14 on: an extension module, or
    /// part of the interpreter. `None` also if it is not loaded.
    pub fn task_lists(&self, files: &mut Files) -> Option<TaskLists> {
        let is_module = |m: &&Mapping| m.file_name().starts_with("_asyncio.");
        let extension = self.mappings.iter().find(is_module);
        let mapping = extension.or_else(|| self.mappings.get(self.interpreter))?;
        files.task_lists(self.mapped(mapping)).ok()?
    }

    fn mapped<'a>(&'a self, mapping: &'a Mapping) -> ProcessFile<'a> {
        ProcessFile {
            proc_root: &self.proc_root,
            pid: self.pid,
            mapping,
            mappings: &self.mappings,
        }
    }

    fn tstate_slot(&self, files: &mut Files) -> Result<i64, InspectError> {
        let libc = self.mappings.iter().find(|m| is_libc(m.file_name()));
        let libc = match libc {
            Some(mapping) => files.libc(self.mapped(mapping))?,
            None => LibcFile::default(),
        };
        let unsupported = |reason: &dyn std::fmt::Display| {
            let version = &self.version;
            InspectError::unsupported(version, format!("CPython {version}: {reason}"))
        };
        let pointer = ThreadPointer::of(Machine::HOST, libc.pthread_bytes).ok_or_else(|| {
            unsupported(&"the size of `struct pthread` in its C library is unknown")
        })?;
        let libc = Libc {
            first_block: libc.first_block.unwrap_or(SPECIFIC_FIRST_BLOCK),
            pointer,
        };
        let memory = Snapshot::new(ProcessMemory::new(self.pid));
        let fault = |what| InspectError::fault(memory.inner(), self.pid, what);
        let threads = threads::threads(&memory, &self.layout, self.address)
            .map_err(|Fault| fault("the interpreter's threads changed while they were read"))?;
        if threads.is_empty() {
            return Err(InspectError::NotReady("the interpreter has no thread yet"));
        }
        slot::find(&memory, &self.layout, self.address, libc, &threads).map_err(|error| match error
        {
            SlotError::Unreadable => fault("the interpreter's memory is not readable yet"),
            SlotError::NotCreated => InspectError::NotReady("the interpreter is still starting"),
            SlotError::HighKey(_) | SlotError::NotFound => unsupported(&error),
        })
    }

    /// `datetime.now`: in its extension module if that is mapped, else in the interpreter itself.
    fn datetime_now(&self, files: &mut Files) -> Result<ProbePoint, InspectError> {
        let is_module = |m: &&Mapping| m.file_name().starts_with("_datetime.");
        let extension = self.mappings.iter().find(is_module);
        let mapping = extension.or_else(|| self.mappings.get(self.interpreter));
        let mapping = mapping.ok_or(InspectError::NotPython)?;
        match self.point_in(mapping, DATETIME_NOW, files)? {
            Ok(point) => Ok(point),
            Err(_) if extension.is_none() => Err(InspectError::NotReady(NO_MODULE)),
            Err(reason) => Err(InspectError::unsupported(&self.version, reason)),
        }
    }

    /// `sys.exc_info`, and `sys.exception` from 3.11 on.
    fn handled(&self, files: &mut Files) -> Result<Vec<ProbePoint>, Untrusted> {
        let first = self.probe_point(EXC_INFO, files)?;
        let second = self.probe_point(EXCEPTION, files).ok();
        Ok([first].into_iter().chain(second).collect())
    }

    /// Where garbage is collected.
    fn collector(&self, files: &mut Files) -> Result<Collector, Untrusted> {
        let mapping = self.mappings.get(self.interpreter);
        let mapping = mapping.ok_or_else(|| InspectError::NotPython.reason())?;
        let (found, location) = files
            .collector(self.mapped(mapping))
            .map_err(|error| error.reason())?;
        let points = |offsets: Vec<ProbeOffset>| {
            let points = offsets.into_iter().map(|offset| location.point(offset));
            points.collect()
        };
        let collector = found.map(|offsets| Collector {
            begins: points(offsets.begins),
            ends: points(offsets.ends),
        });
        collector.map_err(Untrusted::from)
    }

    /// Where tasks are made, in the extension module or from 3.15 on in the interpreter itself.
    fn tasks(&self, files: &mut Files) -> Result<Tasks, Untrusted> {
        let is_module = |m: &&Mapping| m.file_name().starts_with("_asyncio.");
        let extension = self.mappings.iter().find(is_module);
        let mapping = extension.or_else(|| self.mappings.get(self.interpreter));
        let mapping = mapping.ok_or_else(|| InspectError::NotPython.reason())?;
        let created = self.point_in(mapping, TASK_CREATED, files);
        Ok(Tasks {
            created: created.map_err(|error| error.reason())??,
            traceback_read: self.probe_point(TRACEBACK_READ, files)?,
        })
    }

    /// A function of the interpreter itself.
    fn probe_point(&self, function: Function, files: &mut Files) -> Result<ProbePoint, Untrusted> {
        let mapping = self.mappings.get(self.interpreter);
        let mapping = mapping.ok_or_else(|| InspectError::NotPython.reason())?;
        self.point_in(mapping, function, files)
            .map_err(|error| error.reason())?
    }

    /// Where a probe on a function goes, or why the file does not have the function.
    fn point_in(
        &self,
        mapping: &Mapping,
        function: Function,
        files: &mut Files,
    ) -> Result<Result<ProbePoint, Untrusted>, InspectError> {
        let (found, location) = files.function(self.mapped(mapping), function)?;
        Ok(found
            .map(|function| location.point(function))
            .map_err(|reason| format!("{}: {reason}", mapping.path.display()).into()))
    }
}

/// The layout of an interpreter: the one it publishes, or that of its version. The name of the
/// file has the version if the file does not.
///
/// # Errors
/// Why there is none.
fn layout(file: &InterpreterFile, named: &str) -> Result<Layout, String> {
    let release = file.release.map(|release| (release.major, release.minor));
    let Some((major, minor)) = release.or_else(|| Release::minor_of(named)) else {
        return Err("unknown version".to_owned());
    };
    if debug_offsets::is_known(major, minor) {
        return file.published.map_err(|error| error.to_string());
    }
    match tables::for_version(major, minor) {
        Some(layout) => Ok(*layout),
        None => Err("unsupported version".to_owned()),
    }
}

/// An interpreter by the name of its file: version and kind.
struct NamedPython {
    /// Such as `3.11`, or empty.
    version: String,
    kind: Kind,
}

/// The mapped files that may hold the interpreter: libraries first, since the executable of such a program
/// usually only calls them.
fn find_interpreters(
    pid: u32,
    proc_root: &Path,
    mappings: &[Mapping],
    files: &mut Files,
) -> Vec<(usize, NamedPython)> {
    let mut found = named_interpreters(mappings);
    let is_named = |&(at, _): &(usize, NamedPython)| {
        let mapping: Option<&Mapping> = mappings.get(at);
        mapping.is_some_and(|mapping| !mapping.file_name().starts_with("lib"))
    };
    if !found.iter().any(is_named) {
        found.extend(find_unnamed(pid, proc_root, mappings, files));
    }
    found
}

/// Those that are named like one.
fn named_interpreters(mappings: &[Mapping]) -> Vec<(usize, NamedPython)> {
    let (mut libraries, mut executables) = (Vec::new(), Vec::new());
    for (at, mapping) in mappings.iter().enumerate() {
        let is_known = mappings
            .iter()
            .take(at)
            .any(|other| other.path == mapping.path);
        let Some(python) = version::from_file_name(mapping.file_name()).filter(|_| !is_known)
        else {
            continue;
        };
        // `libpython3.so` has the stable interface only; the real library is beside it.
        let is_stub = python.is_library && !python.version.contains('.');
        let named = NamedPython {
            version: python.version.to_owned(),
            kind: python.kind,
        };
        match python.is_library {
            true if is_stub => {}
            true => libraries.push((at, named)),
            false => executables.push((at, named)),
        }
    }
    libraries.into_iter().chain(executables).collect()
}

/// The executable, if it is an interpreter of another name: a renamed copy, or a program that
/// Python was linked into.
fn find_unnamed(
    pid: u32,
    proc_root: &Path,
    mappings: &[Mapping],
    files: &mut Files,
) -> Option<(usize, NamedPython)> {
    if !files.is_interpreter(proc_root, pid) {
        return None;
    }
    let executable = std::fs::read_link(proc_root.join(format!("{pid}/exe"))).ok()?;
    let executable = executable.as_os_str().as_bytes();
    let executable = executable.strip_suffix(maps::DELETED).unwrap_or(executable);
    let is_executable = |m: &Mapping| m.path.as_os_str().as_bytes() == executable;
    let unnamed = NamedPython {
        version: String::new(),
        kind: Kind::CPython,
    };
    Some((mappings.iter().position(is_executable)?, unnamed))
}

/// The file that holds the interpreter of a process, also if that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterpreterPath {
    /// As the process sees it.
    pub path: PathBuf,
    /// As in [`ProbePoint`].
    pub probed: FileNumber,
}

impl InterpreterPath {
    /// The file, if the process runs Python.
    #[must_use]
    pub fn of(pid: u32, proc_root: &Path, files: &mut Files) -> Option<Self> {
        let (mappings, at) = match Runtime::find(pid, proc_root, files) {
            Ok(runtime) => (runtime.mappings, runtime.interpreter),
            Err(_) => {
                let mappings = maps::read(proc_root, pid).ok()?;
                let candidates = find_interpreters(pid, proc_root, &mappings, files);
                let (at, _) = candidates.into_iter().next()?;
                (mappings, at)
            }
        };
        let mapping = mappings.get(at)?;
        let file = maps::open(proc_root, pid, mapping).ok()?;
        Some(Self {
            path: mapping.path.clone(),
            probed: files.probed(&file, proc_root, pid, &mapping.path),
        })
    }
}

fn is_libc(name: &str) -> bool {
    // `libc-2.31.so` before 2.34.
    name == "libc.so.6" || (name.starts_with("libc-2.") && name.ends_with(".so"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(paths: &[&str]) -> Vec<Mapping> {
        let line = |path: &&str| format!("1000-2000 r-xp 0 0:0 1 {path}\n");
        maps::parse(paths.iter().map(line).collect::<String>().as_bytes())
    }

    #[test]
    fn libraries_come_first_then_executables_each_once() {
        let found = |paths: &[&str]| {
            let mappings = mapped(paths);
            let named = named_interpreters(&mappings).into_iter();
            let paths = named.map(|(i, _)| mappings[i].path.display().to_string());
            paths.collect::<Vec<_>>()
        };
        let (lib, exe) = ("/opt/lib/libpython3.11.so.1.0", "/opt/bin/python3.11");
        assert_eq!(found(&[exe, exe, lib, lib]), [lib, exe]);
        assert_eq!(found(&["/opt/bin/app", "/x/libpython3.so", lib]), [lib]);
        assert_eq!(found(&[exe, "/lib/libc.so.6"]), [exe]);
        assert!(found(&["/usr/bin/bash", "/lib/libc.so.6"]).is_empty());
    }

    #[test]
    fn this_test_is_not_python_and_a_process_that_exited_is_gone() {
        let proc_root = Path::new("/proc");
        let own = Interpreter::inspect(std::process::id(), proc_root);
        assert!(matches!(own, Err(InspectError::NotPython)), "{own:?}");
        let none = Interpreter::inspect(u32::MAX, proc_root);
        assert!(matches!(none, Err(InspectError::Gone)), "{none:?}");
    }

    #[test]
    fn the_layout_is_the_published_one_or_that_of_the_version() {
        let published: &[u8] =
            include_bytes!("../../../probe-ebpf/src/python/fixtures/debug_offsets_3.14.10");
        let file = |hex, published| InterpreterFile {
            runtime: None,
            variables: 0..0,
            is_whole: true,
            release: Release::from_hex(hex),
            published: debug_offsets::layout(published),
        };
        let old = layout(&file(0, &[]), "3.9").unwrap();
        assert_eq!(old, tables::CPYTHON_3_9);
        let keyed = layout(&file(0x030b_02f0, &[]), "").unwrap();
        assert_eq!(keyed, tables::CPYTHON_3_11);
        let new = layout(&file(0x030e_0af0, published), "").unwrap();
        assert_eq!(new.frame_localsplus, 80);
        assert_eq!(
            layout(&file(0x030e_0af0, &[]), "3.14").unwrap_err(),
            "it does not publish its debug offsets"
        );
        for (hex, name) in [(0x0310_00f0, "3.16"), (0, "3.7"), (0, "3"), (0, "")] {
            assert!(layout(&file(hex, published), name).is_err(), "{name}");
        }
    }
}
