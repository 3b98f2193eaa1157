//! What was found out about a mapped file, once for all processes that map it.

use object::{ReadCache, ReadRef};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::InspectError;
use super::target::ProbePoint;
use super::version::Release;
use crate::cpython::gc::CollectorPlaces;
use crate::process::elf;
use crate::process::elf::{ElfError, Image, Machine};
use crate::process::insn;
use crate::process::insn::Placement;
use crate::process::maps;
use crate::process::maps::{FileNumber, MappedFile, Mapping};
use probe_ebpf::python::Layout;
use probe_ebpf::python::debug_offsets::{self, OffsetsError};

/// Larger files are not looked into: no Python comes near, and what is
/// untrusted shall not fill the observer's memory.
const MAX_FILE_BYTES: u64 = 512 << 20;
/// Files remembered; when there are more, all are forgotten.
const MAX_FILES: usize = 256;
/// Executables remembered: a few hundred run on a host, more come and go.
const MAX_EXECUTABLES: usize = 4096;
/// What every CPython exports, also a stripped static one: extension modules need the second
/// (`Include/pylifecycle.h`), and debuggers the first (`Python/pylifecycle.c`).
const EXPORTS: [&str; 2] = ["_PyRuntime", "Py_GetVersion"];

/// One file and one state of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileId {
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

/// Facts of a file that holds an interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InterpreterFile {
    /// Address of `_PyRuntime`, before loading.
    pub runtime: Option<u64>,
    /// Whether it is one, and not a launcher that needs a library.
    pub is_whole: bool,
    /// From 3.11 on.
    pub release: Option<Release>,
    /// What it publishes of its structures, from 3.13 on.
    pub published: Result<Layout, OffsetsError>,
}

impl InterpreterFile {
    fn of<'data, R: ReadRef<'data>>(image: &Image<'data, R>) -> Self {
        let runtime = image.symbol("_PyRuntime");
        let release = image.symbol("Py_Version").and_then(|at| image.word(at));
        let offsets = runtime.and_then(|at| image.bytes(at, debug_offsets::BYTES));
        Self {
            runtime,
            is_whole: image.symbol("Py_GetVersion").is_some(),
            release: release.and_then(Release::from_hex),
            published: debug_offsets::layout(offsets.unwrap_or_default()),
        }
    }
}

/// What glibc tells debuggers of its `struct pthread` (`nptl_db/structs.def`).
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

/// A function in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FunctionPlace {
    /// Of the probe, not of the entry.
    pub file_offset: u64,
    pub placement: Placement,
}

/// Remembers what was found out about files.
#[derive(Debug, Default)]
pub struct Files {
    interpreters: HashMap<FileId, InterpreterFile>,
    functions: HashMap<(FileId, Function), Result<FunctionPlace, String>>,
    libcs: HashMap<FileId, LibcFile>,
    collectors: HashMap<FileId, Result<CollectorPlaces, String>>,
    /// Whether an executable is an interpreter: of every program of a host, so that each is looked
    /// into once.
    executables: HashMap<FileId, bool>,
}

/// A function of the interpreter's, or of a module written in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Function {
    /// A method of a module: its name, and how its doc string begins.
    Method(&'static str, &'static str),
    /// One that is exported by this name; seen before it does anything.
    Symbol(&'static str),
}

impl Files {
    /// Whether the program of a process is a CPython, whatever its file is named.
    pub fn is_interpreter(&mut self, proc_root: &Path, pid: u32) -> bool {
        let Ok(file) = maps::open_at(proc_root.join(format!("{pid}/exe"))) else {
            return false;
        };
        if file.size() > MAX_FILE_BYTES {
            return false;
        }
        if self.executables.len() >= MAX_EXECUTABLES {
            self.executables.clear();
        }
        let id = FileId::of(&file);
        *self.executables.entry(id).or_insert_with(|| {
            let cache = ReadCache::new(file.file);
            elf::exports(&cache, &EXPORTS).unwrap_or(false)
        })
    }

    /// The interpreter in a file, and how far from the file's addresses it was loaded.
    pub(super) fn interpreter(
        &mut self,
        at: Place<'_>,
    ) -> Result<(InterpreterFile, u64), InspectError> {
        let Opened { id, cache, .. } = at.open()?;
        let image = Image::parse(&cache).map_err(|error| at.refused(&error))?;
        // A foreign interpreter under an emulator: its memory is not as its files say.
        if image.machine() != Machine::HOST {
            return Err(at.refused(&ElfError::OtherMachine(image.machine())));
        }
        let bias = image.load_bias(at.mappings.iter().filter(|m| m.inode == at.mapping.inode));
        // Not executable yet: the loader is still mapping it.
        let bias = bias.ok_or(InspectError::NotReady("the interpreter is being loaded"))?;
        limit(&mut self.interpreters);
        let found = *self
            .interpreters
            .entry(id)
            .or_insert_with(|| InterpreterFile::of(&image));
        Ok((found, bias))
    }

    /// Where a function is, and where the file is; an error as text when
    /// the file does not have it.
    pub(super) fn function(
        &mut self,
        at: Place<'_>,
        function: Function,
    ) -> Result<(Result<FunctionPlace, String>, Location), InspectError> {
        let Opened { id, cache, at } = at.open()?;
        limit(&mut self.functions);
        let found = self.functions.entry((id, function)).or_insert_with(|| {
            Image::parse(&cache)
                .and_then(|image| find_function(&image, function))
                .map_err(|error| error.to_string())
        });
        Ok((found.clone(), at))
    }

    /// Where the garbage collector of an interpreter is, likewise.
    pub(super) fn collector(
        &mut self,
        at: Place<'_>,
    ) -> Result<(Result<CollectorPlaces, String>, Location), InspectError> {
        let Opened { id, cache, at } = at.open()?;
        limit(&mut self.collectors);
        let found = self.collectors.entry(id).or_insert_with(|| {
            let image = Image::parse(&cache).map_err(|error| error.to_string())?;
            CollectorPlaces::of(&image)
        });
        Ok((found.clone(), at))
    }

    /// What a C library tells debuggers.
    pub(super) fn libc(&mut self, at: Place<'_>) -> Result<LibcFile, InspectError> {
        let opened = at.open()?;
        limit(&mut self.libcs);
        let found = self.libcs.entry(opened.id).or_insert_with(|| {
            Image::parse(&opened.cache).map_or_else(|_| LibcFile::default(), |it| LibcFile::of(&it))
        });
        Ok(*found)
    }
}

fn find_function<'data, R: ReadRef<'data>>(
    image: &Image<'data, R>,
    function: Function,
) -> Result<FunctionPlace, ElfError> {
    let entry = match function {
        Function::Method(name, doc) => image.method(name, doc)?,
        Function::Symbol(name) => image
            .symbol(name)
            .ok_or_else(|| ElfError::NoSymbol(name.into()))?,
    };
    let code = image.bytes(entry, insn::FUNCTION_BYTES).unwrap_or_default();
    let placement = match function {
        Function::Method(..) => insn::place(image.machine(), code),
        Function::Symbol(_) => insn::place_first(image.machine(), code),
    };
    let address = entry.wrapping_add(placement.offset);
    let missing = || ElfError::NoCode(address);
    let file_offset = image.file_offset(address).ok_or_else(missing)?;
    Ok(FunctionPlace {
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
pub(super) struct Place<'a> {
    pub proc_root: &'a Path,
    pub pid: u32,
    pub mapping: &'a Mapping,
    /// All mappings of the process.
    pub mappings: &'a [Mapping],
}

/// How to open a mapped file, and which it is.
#[derive(Debug)]
pub(super) struct Location {
    path: PathBuf,
    opened: FileNumber,
    probed: FileNumber,
}

impl Location {
    /// A probe at a place of the file.
    pub fn point(&self, function: FunctionPlace) -> ProbePoint {
        ProbePoint {
            path_to_open: self.path.clone(),
            opened: self.opened,
            probed: self.probed,
            file_offset: function.file_offset,
            placement: function.placement,
        }
    }
}

struct Opened {
    id: FileId,
    cache: ReadCache<File>,
    at: Location,
}

impl Place<'_> {
    fn open(&self) -> Result<Opened, InspectError> {
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
                probed: file.probed(self.proc_root, self.pid, &self.mapping.path),
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
    fn the_own_c_library_tells_where_threads_keep_their_values() {
        let maps = maps::read(Path::new("/proc"), std::process::id()).unwrap();
        let libc = maps.iter().find(|m| m.file_name() == "libc.so.6").unwrap();
        let cache = ReadCache::new(File::open(&libc.path).unwrap());
        let found = LibcFile::of(&Image::parse(&cache).unwrap());
        // The first block is within the thread's structure.
        assert!(found.first_block.unwrap() + 32 * 16 < found.pthread_bytes.unwrap());
    }
}
