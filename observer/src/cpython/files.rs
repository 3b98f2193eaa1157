//! Contents of mapped files, read once for all processes that map them.

use object::{ReadCache, ReadRef};
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::asyncio::TaskLists;
use super::error::InspectError;
use super::object::Objects;
use super::signal_handlers;
use super::target::ProbePoint;
use super::version::Release;
use crate::cpython::gc::CollectorOffsets;
use crate::process::elf;
use crate::process::elf::{ElfError, Image, Machine};
use crate::process::insn;
use crate::process::insn::Placement;
use crate::process::maps;
use crate::process::maps::{FileNumber, MappedFile, Mapping, Probed, Shown};
use probe_ebpf::memory::Memory;
use probe_ebpf::python::Layout;
use probe_ebpf::python::debug_offsets::{self, OffsetsError};

/// Larger files are not read: no Python comes near, and untrusted files must not fill the
/// observer's memory.
const MAX_FILE_BYTES: u64 = 512 << 20;
/// Files remembered; one more clears the cache.
const MAX_FILES: usize = 256;
/// Executables remembered: a few hundred run on a host, more come and go.
const MAX_EXECUTABLES: usize = 4096;
/// Symbols that every CPython exports, also a stripped static one: debuggers need the first
/// (`Python/pylifecycle.c`), extension modules the second (`Include/pylifecycle.h`).
const EXPORTS: [&str; 2] = ["_PyRuntime", "Py_GetVersion"];

/// A file in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    number: FileNumber,
    size: u64,
    modified: (i64, i64),
}

impl FileId {
    fn of(file: &MappedFile) -> Self {
        Self {
            number: file.opened(),
            size: file.size(),
            modified: file.modified(),
        }
    }
}

/// Contents of a file that holds an interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InterpreterFile {
    /// Address of `_PyRuntime` in the file.
    pub runtime: Option<u64>,
    /// Addresses of its variables in the file.
    pub variables: Range<u64>,
    /// It is an interpreter, not a launcher that needs a library.
    pub is_whole: bool,
    /// From 3.11 on.
    pub release: Option<Release>,
    /// The layout that it publishes, from 3.13 on.
    pub published: Result<Layout, OffsetsError>,
}

impl InterpreterFile {
    fn of<'data, R: ReadRef<'data>>(image: &Image<'data, R>) -> Self {
        let runtime = image.symbol("_PyRuntime");
        let release = image.symbol("Py_Version").and_then(|at| image.word(at));
        let offsets = runtime.and_then(|at| image.bytes(at, debug_offsets::BYTES));
        Self {
            runtime,
            variables: image.variables(),
            is_whole: image.symbol("Py_GetVersion").is_some(),
            release: release.and_then(Release::from_hex),
            published: debug_offsets::layout(offsets.unwrap_or_default()),
        }
    }
}

/// Offsets in `struct pthread` that glibc publishes for debuggers (`nptl_db/structs.def`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LibcFile {
    /// Offset of `specific_1stblock`.
    pub first_block: Option<u32>,
    /// Size of the whole.
    pub pthread_bytes: Option<u32>,
}

impl LibcFile {
    fn of<'data, R: ReadRef<'data>>(image: &Image<'data, R>) -> Self {
        let last = |symbol: &str, len| -> Option<u32> {
            let bytes = image.bytes(image.symbol(symbol)?, len)?;
            Some(u32::from_le_bytes(*bytes.last_chunk()?))
        };
        // Of a member its size in bits, count and offset. `specific`, 32 pointers, is right behind
        // the 32 pairs of the first block (`nptl/descr.h`).
        let specific = last("_thread_db_pthread_specific", 12);
        Self {
            first_block: specific.and_then(|offset| offset.checked_sub(32 * 16)),
            pthread_bytes: last("_thread_db_sizeof_pthread", 4),
        }
    }
}

/// Where in a file a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProbeOffset {
    /// Of the instruction, not of the function's entry.
    pub file_offset: u64,
    pub placement: Placement,
}

/// Cache of the contents of files.
#[derive(Debug, Default)]
pub struct Files {
    interpreters: HashMap<FileId, InterpreterFile>,
    functions: HashMap<(FileId, Function), Result<ProbeOffset, String>>,
    libcs: HashMap<FileId, LibcFile>,
    /// Where each interpreter keeps the functions that handle signals, from its first variable.
    signal_handlers: HashMap<FileId, u64>,
    collectors: HashMap<FileId, Result<CollectorOffsets, String>>,
    task_lists: HashMap<FileId, Option<TaskLists>>,
    probed: ProbedFiles,
    /// Asked for every program of a host.
    executables: HashMap<FileId, Executable>,
}

/// What an executable has to do with Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Executable {
    /// It is a CPython.
    Interpreter,
    /// It loads one, as a frozen application does.
    BringsPython,
    Other,
}

/// A function of the interpreter, or of a module written in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Function {
    /// A method of a module: its name, and the beginning of its doc string.
    Method(&'static str, &'static str),
    /// A function exported by this name; probed before it does anything.
    Symbol(&'static str),
    /// `tp_init` of a type: its name, and the beginning of its doc string. Probed where its arguments are in
    /// their registers.
    Init(&'static str, &'static str),
    /// The getter of an attribute, probed in the same way.
    Getter(&'static str),
}

impl Files {
    /// Whether the executable of a process is a CPython, whatever its name.
    pub fn is_interpreter(&mut self, proc_root: &Path, pid: u32) -> bool {
        self.executable(proc_root, pid) == Executable::Interpreter
    }

    /// Whether the executable of a process is a CPython, or brings one along.
    pub fn runs_python(&mut self, proc_root: &Path, pid: u32) -> bool {
        self.executable(proc_root, pid) != Executable::Other
    }

    fn executable(&mut self, proc_root: &Path, pid: u32) -> Executable {
        let Ok(file) = maps::open_at(proc_root.join(format!("{pid}/exe"))) else {
            return Executable::Other;
        };
        if file.size() > MAX_FILE_BYTES {
            return Executable::Other;
        }
        if self.executables.len() >= MAX_EXECUTABLES {
            self.executables.clear();
        }
        let id = FileId::of(&file);
        *self.executables.entry(id).or_insert_with(|| {
            let cache = ReadCache::new(file.file);
            if elf::exports(&cache, &EXPORTS).unwrap_or(false) {
                Executable::Interpreter
            } else if elf::brings_python(&cache).unwrap_or(false) {
                Executable::BringsPython
            } else {
                Executable::Other
            }
        })
    }

    /// The interpreter in a file, the file, and the distance of its load address from the file's.
    pub(super) fn interpreter(
        &mut self,
        at: ProcessFile<'_>,
    ) -> Result<(InterpreterFile, FileId, u64), InspectError> {
        let Opened { id, cache, .. } = at.open(&mut self.probed)?;
        let image = Image::parse(&cache).map_err(|error| at.refused(&error))?;
        // A foreign interpreter under an emulator: its memory differs from its files.
        if image.machine() != Machine::HOST {
            return Err(at.refused(&ElfError::OtherMachine(image.machine())));
        }
        let bias = image.load_bias(at.mappings.iter().filter(|m| m.inode == at.mapping.inode));
        // Not executable yet: the loader is still mapping it.
        let bias = bias.ok_or(InspectError::NotReady("the interpreter is being loaded"))?;
        limit(&mut self.interpreters);
        let found = self
            .interpreters
            .entry(id)
            .or_insert_with(|| InterpreterFile::of(&image));
        Ok((found.clone(), id, bias))
    }

    /// The functions that handle signals in a process whose interpreter is this file, with its variables
    /// at these addresses; `None` while the interpreter starts.
    pub(super) fn signal_handlers<M: Memory>(
        &mut self,
        id: FileId,
        variables: &Range<u64>,
        objects: &Objects<'_, M>,
    ) -> Option<Vec<u64>> {
        let functions = |from_start: u64| {
            let at = variables.start.wrapping_add(from_start);
            signal_handlers::functions(objects, at).ok()
        };
        if let Some(functions) = self.signal_handlers.get(&id).copied().and_then(functions) {
            return Some(functions);
        }
        let found = signal_handlers::find(objects, variables.clone())?;
        let from_start = found.wrapping_sub(variables.start);
        limit(&mut self.signal_handlers);
        self.signal_handlers.insert(id, from_start);
        functions(from_start)
    }

    /// Where a function is and how to open its file, or why the file does not have it.
    pub(super) fn function(
        &mut self,
        at: ProcessFile<'_>,
        function: Function,
    ) -> Result<(Result<ProbeOffset, String>, Location), InspectError> {
        let Opened { id, cache, at } = at.open(&mut self.probed)?;
        limit(&mut self.functions);
        let found = self.functions.entry((id, function)).or_insert_with(|| {
            Image::parse(&cache)
                .and_then(|image| find_function(&image, function))
                .map_err(|error| error.to_string())
        });
        Ok((found.clone(), at))
    }

    /// Where the garbage collector of an interpreter is, or why it is not found.
    pub(super) fn collector(
        &mut self,
        at: ProcessFile<'_>,
    ) -> Result<(Result<CollectorOffsets, String>, Location), InspectError> {
        let Opened { id, cache, at } = at.open(&mut self.probed)?;
        limit(&mut self.collectors);
        let found = self.collectors.entry(id).or_insert_with(|| {
            let image = Image::parse(&cache).map_err(|error| error.to_string())?;
            CollectorOffsets::of(&image)
        });
        Ok((found.clone(), at))
    }

    /// The lists of tasks of asyncio that a file publishes, from 3.14 on.
    pub(super) fn task_lists(
        &mut self,
        at: ProcessFile<'_>,
    ) -> Result<Option<TaskLists>, InspectError> {
        let opened = at.open(&mut self.probed)?;
        limit(&mut self.task_lists);
        let found = self.task_lists.entry(opened.id).or_insert_with(|| {
            let image = Image::parse(&opened.cache).ok()?;
            let (_, bytes) = image.section(TaskLists::SECTION)?;
            TaskLists::of(bytes)
        });
        Ok(*found)
    }

    /// The file that the kernel puts a probe on.
    pub(super) fn probed(
        &mut self,
        file: &MappedFile,
        proc_root: &Path,
        pid: u32,
        path: &Path,
    ) -> FileNumber {
        self.probed.file(file, proc_root, pid, path)
    }

    /// The offsets that a C library publishes for debuggers.
    pub(super) fn libc(&mut self, at: ProcessFile<'_>) -> Result<LibcFile, InspectError> {
        let opened = at.open(&mut self.probed)?;
        limit(&mut self.libcs);
        let found = self.libcs.entry(opened.id).or_insert_with(|| {
            Image::parse(&opened.cache).map_or_else(|_| LibcFile::default(), |it| LibcFile::of(&it))
        });
        Ok(*found)
    }
}

/// Files that the kernel puts probes on.
#[derive(Debug, Default)]
struct ProbedFiles(HashMap<Shown, Probed>);

impl ProbedFiles {
    fn file(&mut self, file: &MappedFile, proc_root: &Path, pid: u32, path: &Path) -> FileNumber {
        self.same(file.shown(), file.probed(proc_root, pid, path))
    }

    /// A file below an overlay that was not found is taken for one that looks the same: with two probes
    /// at one place each request would be seen twice.
    fn same(&mut self, shown: Shown, probed: Probed) -> FileNumber {
        limit(&mut self.0);
        let first = *self.0.entry(shown).or_insert(probed);
        match (first, probed) {
            // Two file systems may have files that look the same.
            (Probed::Known(_), Probed::Known(number)) => number,
            (Probed::Known(number) | Probed::Guessed(number), _) => number,
        }
    }
}

fn find_function<'data, R: ReadRef<'data>>(
    image: &Image<'data, R>,
    function: Function,
) -> Result<ProbeOffset, ElfError> {
    let entry = match function {
        Function::Method(name, doc) => image.method(name, doc)?,
        Function::Symbol(name) => image
            .symbol(name)
            .ok_or_else(|| ElfError::NoSymbol(name.into()))?,
        Function::Init(name, doc) => image.init_of(name, doc)?,
        Function::Getter(name) => image.getter(name)?,
    };
    let code = image.bytes(entry, insn::FUNCTION_BYTES).unwrap_or_default();
    let placement = match function {
        Function::Method(..) => insn::place(image.machine(), code),
        Function::Symbol(_) | Function::Init(..) | Function::Getter(_) => {
            insn::place_first(image.machine(), code)
        }
    };
    let address = entry.wrapping_add(placement.offset);
    let missing = || ElfError::NoCode(address);
    let file_offset = image.file_offset(address).ok_or_else(missing)?;
    Ok(ProbeOffset {
        file_offset,
        placement,
    })
}

fn limit<K, V>(map: &mut HashMap<K, V>) {
    if map.len() >= MAX_FILES {
        map.clear();
    }
}

/// A file that a process has mapped.
#[derive(Clone, Copy)]
pub(super) struct ProcessFile<'a> {
    pub proc_root: &'a Path,
    pub pid: u32,
    pub mapping: &'a Mapping,
    /// All mappings of the process.
    pub mappings: &'a [Mapping],
}

/// How to open a mapped file, and which file it is.
#[derive(Debug)]
pub(super) struct Location {
    path: PathBuf,
    opened: FileNumber,
    probed: FileNumber,
}

impl Location {
    /// A probe in the file.
    pub fn point(&self, offset: ProbeOffset) -> ProbePoint {
        ProbePoint {
            path_to_open: self.path.clone(),
            opened: self.opened,
            probed: self.probed,
            file_offset: offset.file_offset,
            placement: offset.placement,
        }
    }
}

struct Opened {
    id: FileId,
    cache: ReadCache<File>,
    at: Location,
}

impl ProcessFile<'_> {
    fn open(&self, probed: &mut ProbedFiles) -> Result<Opened, InspectError> {
        let doing = || {
            format!(
                "opening {} of process {}",
                self.mapping.path.display(),
                self.pid
            )
        };
        let file = maps::open(self.proc_root, self.pid, self.mapping)
            .map_err(|error| InspectError::io(doing(), error))?;
        if file.size() > MAX_FILE_BYTES {
            return Err(InspectError::unsupported(
                "",
                format!("{}: too large", doing()),
            ));
        }
        Ok(Opened {
            id: FileId::of(&file),
            at: Location {
                opened: file.opened(),
                probed: probed.file(&file, self.proc_root, self.pid, &self.mapping.path),
                path: file.path,
            },
            cache: ReadCache::new(file.file),
        })
    }

    fn refused(&self, error: &ElfError) -> InspectError {
        InspectError::unsupported("", format!("{}: {error}", self.mapping.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_below_an_overlay_is_the_one_that_looks_the_same() {
        let number = |dev| FileNumber { dev, inode: 7 };
        let looks = |size| (7, size, (1, 2), (3, 4));
        let mut files = ProbedFiles::default();
        for (host, container) in [(10, 20), (11, 21)] {
            let (known, guessed) = (
                Probed::Known(number(host)),
                Probed::Guessed(number(container)),
            );
            let first = files.same(looks(host), known);
            assert_eq!((first, files.same(looks(host), guessed)), (first, first));
            // The other way round.
            let first = files.same(looks(container), guessed);
            assert_eq!((first, files.same(looks(container), known)), (first, first));
        }
        // Snapshots of a file system have files of their own.
        let copies = [30, 31].map(|dev| files.same(looks(30), Probed::Known(number(dev))));
        assert_eq!(copies, [30, 31].map(number));
    }

    #[test]
    fn the_own_c_library_publishes_where_threads_keep_their_values() {
        let maps = maps::read(Path::new("/proc"), std::process::id()).unwrap();
        let libc = maps.iter().find(|m| m.file_name() == "libc.so.6").unwrap();
        let cache = ReadCache::new(File::open(&libc.path).unwrap());
        let found = LibcFile::of(&Image::parse(&cache).unwrap());
        // The first block is within the thread's structure.
        assert!(found.first_block.unwrap() + 32 * 16 < found.pthread_bytes.unwrap());
    }
}
