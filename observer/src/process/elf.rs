//! Symbols, addresses and method tables of an ELF file.

use object::elf::{
    FileHeader64, PF_W, PF_X, PT_LOAD, R_AARCH64_RELATIVE, R_X86_64_RELATIVE, SHN_UNDEF,
    SHT_DYNSYM, SHT_SYMTAB_SHNDX,
};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{
    Architecture, LittleEndian, Object, ObjectSection, ObjectSymbol, ReadRef, RelocationFlags,
};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use thiserror::Error;

use super::maps::Mapping;

const PAGE_MASK: u64 = 4095;

/// Segments that are read: real files have a handful, and each may be read whole.
const MAX_SEGMENTS: usize = 16;

/// Why something is not found in a file.
#[derive(Debug, Error)]
pub enum ElfError {
    #[error("parsing the ELF file: {0}")]
    Parse(#[from] object::Error),
    #[error("it is built for {0:?}, expected x86-64 or aarch64")]
    Machine(Architecture),
    #[error("it is built for {0:?}, not for this machine")]
    OtherMachine(Machine),
    #[error("it has no symbol {0}")]
    NoSymbol(String),
    #[error("it has no code for the address {0:#x}")]
    NoCode(u64),
    #[error("it has no method `{name}` documented as `{doc}`")]
    NoMethod { name: String, doc: String },
    #[error("it has {count} types `{name}` documented as `{doc}`, expected one")]
    Types {
        name: String,
        doc: String,
        count: usize,
    },
    #[error("it has {count} getters of `{name}`, expected one")]
    Getters { name: String, count: usize },
    #[error("{count} methods `{name}` are documented as `{doc}`")]
    ManyMethods {
        name: String,
        doc: String,
        count: usize,
    },
}

/// The machine that a file is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    /// The machine that the observer is built for.
    pub const HOST: Self = if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        Self::X86_64
    };

    /// The relocation that adds the file's load address (the machine's ELF psABI).
    fn relative_relocation(self) -> object::elf::RelocationType {
        match self {
            Self::X86_64 => R_X86_64_RELATIVE,
            Self::Aarch64 => R_AARCH64_RELATIVE,
        }
    }
}

/// A larger table of dynamic symbols is not read: Python's has some two thousand of 24 bytes.
const MAX_EXPORTS_BYTES: u64 = 1 << 19;

/// Whether a file exports all of these symbols to libraries of its process. Reads the table of
/// dynamic symbols only: every executable of a host is checked.
///
/// # Errors
/// If it is no ELF file of this word size and byte order.
pub fn exports<'data, R: ReadRef<'data>>(data: R, names: &[&str]) -> Result<bool, ElfError> {
    let header = FileHeader64::<LittleEndian>::parse(data)?;
    let endian = header.endian()?;
    // If the header has no number, the first section has it, of any size.
    if header.e_shnum(endian) == 0 {
        return Ok(false);
    }
    let sections = header.sections(endian, data)?;
    let table = sections.iter().find(|s| s.sh_type(endian) == SHT_DYNSYM);
    // A table that only files with very many sections have would be read whole.
    let is_strange = sections
        .iter()
        .any(|s| s.sh_type(endian) == SHT_SYMTAB_SHNDX);
    if is_strange || table.is_none_or(|table| table.sh_size(endian) > MAX_EXPORTS_BYTES) {
        return Ok(false);
    }
    let symbols = sections.symbols(endian, data, SHT_DYNSYM)?;
    let exported = |name: &&str| {
        symbols
            .iter()
            .filter(|symbol| symbol.st_shndx(endian) != SHN_UNDEF)
            .any(|symbol| {
                symbol
                    .name(endian, symbols.strings())
                    .is_ok_and(|found| found == name.as_bytes())
            })
    };
    Ok(names.iter().all(exported))
}

/// Whether a program brings an interpreter along that its file does not hold: it is linked to `libpython`,
/// or it is PyInstaller's, which unpacks it from a section of its own
/// (`PyInstaller/building/api.py`, `_append_data_to_exe`).
///
/// # Errors
/// As [`exports`].
pub fn brings_python<'data, R: ReadRef<'data>>(data: R) -> Result<bool, ElfError> {
    let header = FileHeader64::<LittleEndian>::parse(data)?;
    let endian = header.endian()?;
    if header.e_shnum(endian) == 0 {
        return Ok(false);
    }
    let sections = header.sections(endian, data)?;
    let named = |name: &[u8]| {
        let mut all = sections.iter();
        all.find(|section| sections.section_name(endian, section) == Ok(name))
    };
    if named(b"pydata").is_some() {
        return Ok(true);
    }
    // Also the names of the libraries it is linked to.
    let names = named(b".dynstr").filter(|names| names.sh_size(endian) <= MAX_EXPORTS_BYTES);
    let names = names.and_then(|names| names.data(endian, data).ok());
    Ok(names.is_some_and(|names| memchr::memmem::find(names, b"libpython3").is_some()))
}

/// A loadable segment, as far as it is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    address: u64,
    offset: u64,
    file_bytes: u64,
    memory_bytes: u64,
    writable: bool,
    executable: bool,
}

impl Segment {
    fn offset_of(&self, address: u64) -> Option<u64> {
        let within = address.checked_sub(self.address)?;
        if within < self.file_bytes {
            self.offset.checked_add(within)
        } else {
            None
        }
    }
}

/// A parsed file; addresses are those in the file.
pub struct Image<'data, R: ReadRef<'data>> {
    elf: ElfFile64<'data, LittleEndian, R>,
    data: R,
    machine: Machine,
    segments: Vec<Segment>,
}

impl<'data, R: ReadRef<'data>> Image<'data, R> {
    /// Parses the headers.
    ///
    /// # Errors
    /// If it is no ELF file of a supported machine.
    pub fn parse(data: R) -> Result<Self, ElfError> {
        let elf = ElfFile64::<LittleEndian, R>::parse(data)?;
        let machine = match elf.architecture() {
            Architecture::X86_64 => Machine::X86_64,
            Architecture::Aarch64 => Machine::Aarch64,
            other => return Err(ElfError::Machine(other)),
        };
        let endian = FileHeader64::<LittleEndian>::endian(elf.elf_header())?;
        let segments = elf
            .elf_program_headers()
            .iter()
            .filter(|header| header.p_type(endian) == PT_LOAD)
            .take(MAX_SEGMENTS)
            .map(|header| Segment {
                address: header.p_vaddr(endian),
                offset: header.p_offset(endian),
                file_bytes: header.p_filesz(endian),
                memory_bytes: header.p_memsz(endian),
                writable: header.p_flags(endian).contains(PF_W),
                executable: header.p_flags(endian).contains(PF_X),
            })
            .collect();
        Ok(Self {
            elf,
            data,
            machine,
            segments,
        })
    }

    /// The machine that it is built for.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Address of a defined symbol; dynamic symbols first, which `strip` leaves.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.elf
            .dynamic_symbols()
            .chain(self.elf.symbols())
            .find(|symbol| {
                symbol.is_definition() && symbol.name_bytes().is_ok_and(|n| n == name.as_bytes())
            })
            .map(|symbol| symbol.address())
    }

    /// Addresses from the first to the last variable.
    #[must_use]
    pub fn variables(&self) -> Range<u64> {
        let writable = || self.segments.iter().filter(|segment| segment.writable);
        let start = writable().map(|segment| segment.address).min();
        let end = writable().map(|segment| segment.address.saturating_add(segment.memory_bytes));
        start.unwrap_or_default()..end.max().unwrap_or_default()
    }

    /// Name, address and size of at most `limit` functions whose name `is_meant`; local functions only
    /// if the file was not stripped.
    pub(crate) fn functions(
        &self,
        is_meant: impl Fn(&[u8]) -> bool,
        limit: usize,
    ) -> Vec<(&'data [u8], u64, u64)> {
        self.elf
            .symbols()
            .filter(|symbol| symbol.is_definition() && symbol.size() > 0)
            .filter_map(|symbol| Some((symbol.name_bytes().ok()?, symbol)))
            .filter(|(name, _)| is_meant(name))
            .map(|(name, symbol)| (name, symbol.address(), symbol.size()))
            .take(limit)
            .collect()
    }

    /// Address and bytes of a section.
    pub(crate) fn section(&self, name: &str) -> Option<(u64, &'data [u8])> {
        let section = self.elf.section_by_name(name)?;
        Some((section.address(), section.data().ok()?))
    }

    /// All code, with its address.
    pub(crate) fn code(&self) -> impl Iterator<Item = (u64, &'data [u8])> {
        let code = self.segments.iter().filter(|segment| segment.executable);
        code.map(|segment| (segment.address, self.segment_bytes(segment)))
    }

    /// Offset in the file of the byte at an address; `None` if it is not in the file (`.bss`).
    #[must_use]
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments
            .iter()
            .find_map(|segment| segment.offset_of(address))
    }

    /// Up to `len` bytes from an address on; fewer at the end of a segment.
    #[must_use]
    pub fn bytes(&self, address: u64, len: u64) -> Option<&'data [u8]> {
        let segment = self
            .segments
            .iter()
            .find(|s| s.offset_of(address).is_some())?;
        let rest = segment
            .file_bytes
            .checked_sub(address.checked_sub(segment.address)?)?;
        self.data
            .read_bytes_at(segment.offset_of(address)?, len.min(rest))
            .ok()
    }

    /// The word at an address of the file.
    #[must_use]
    pub fn word(&self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(*self.bytes(address, 8)?.first_chunk()?))
    }

    /// Distance of the load address from the file's addresses: from the mapping of the code, the only
    /// one that later changes of protection do not split.
    #[must_use]
    pub fn load_bias<'m>(&self, mappings: impl IntoIterator<Item = &'m Mapping>) -> Option<u64> {
        mappings
            .into_iter()
            .filter(|mapping| mapping.executable)
            .find_map(|mapping| {
                let segment = self.segments.iter().find(|s| {
                    s.executable && s.offset & !PAGE_MASK == mapping.offset & !PAGE_MASK
                })?;
                let in_file = segment.address.wrapping_sub(segment.offset);
                Some(
                    mapping
                        .start
                        .wrapping_sub(mapping.offset)
                        .wrapping_sub(in_file),
                )
            })
    }

    /// The C function behind a method, found by its `PyMethodDef { ml_name,
    /// ml_meth, ml_flags, ml_doc }` (`Include/methodobject.h`): stripped files
    /// have no symbol for it, but Python itself needs the table. `doc` is the beginning of its doc
    /// string.
    ///
    /// # Errors
    /// Unless exactly one function is found.
    pub fn method(&self, name: &str, doc: &str) -> Result<u64, ElfError> {
        let functions = self.functions_beside(doc, |doc_at, relocated| {
            self.method_at(doc_at, name, relocated)
        });
        let (name, doc) = (name.to_owned(), doc.to_owned());
        match (functions.len(), functions.first()) {
            (1, Some(function)) => Ok(*function),
            (0, _) => Err(ElfError::NoMethod { name, doc }),
            (count, _) => Err(ElfError::ManyMethods { name, doc, count }),
        }
    }

    /// `tp_init` of a type, found by its doc string: in the static `PyTypeObject`, or from 3.12 on among the
    /// `PyType_Slot`s of its specification (`Include/cpython/object.h`).
    ///
    /// # Errors
    /// Unless exactly one function is found.
    pub fn init_of(&self, name: &str, doc: &str) -> Result<u64, ElfError> {
        let functions = self.functions_beside(doc, |doc_at, relocated| {
            let of_slots = self.init_in_slots(doc_at, relocated);
            of_slots.or_else(|| self.init_in_type(doc_at, name, relocated))
        });
        match (functions.len(), functions.first()) {
            (1, Some(function)) => Ok(*function),
            (count, _) => Err(ElfError::Types {
                name: name.to_owned(),
                doc: doc.to_owned(),
                count,
            }),
        }
    }

    /// The getter in the `PyGetSetDef { name, get, set, doc, closure }` of an attribute
    /// (`Include/descrobject.h`).
    ///
    /// # Errors
    /// Unless exactly one function is found.
    pub fn getter(&self, name: &str) -> Result<u64, ElfError> {
        let functions = self.functions_beside(&format!("{name}\0"), |name_at, relocated| {
            // Something else that has a function behind a name has none before its doc string.
            let set = self.value(name_at.checked_add(16)?, relocated)?;
            self.in_code(set)?;
            self.in_code(self.value(name_at.checked_add(8)?, relocated)?)
        });
        match (functions.len(), functions.first()) {
            (1, Some(function)) => Ok(*function),
            (count, _) => Err(ElfError::Getters {
                name: name.to_owned(),
                count,
            }),
        }
    }

    /// What `beside` finds beside each pointer to a string that begins with `text`.
    fn functions_beside(
        &self,
        text: &str,
        beside: impl Fn(u64, &HashMap<u64, u64>) -> Option<u64>,
    ) -> BTreeSet<u64> {
        let strings = self.strings_with_prefix(text.as_bytes());
        if strings.is_empty() {
            return BTreeSet::new();
        }
        // In a position-independent file the loader fills in the words.
        let relocated = self.relative_relocations();
        let by_relocation = relocated
            .iter()
            .filter(|(_, value)| strings.contains(value))
            .map(|(at, _)| *at);
        let pointers = self.words_equal_to(&strings).into_iter();
        pointers
            .chain(by_relocation)
            .filter_map(|at| beside(at, &relocated))
            .collect()
    }

    /// The word at an address, as the loader leaves it.
    fn value(&self, at: u64, relocated: &HashMap<u64, u64>) -> Option<u64> {
        relocated.get(&at).copied().or_else(|| self.word(at))
    }

    /// The address, if it is one of code.
    fn in_code(&self, function: u64) -> Option<u64> {
        let in_code = |s: &Segment| s.executable && s.offset_of(function).is_some();
        self.segments.iter().any(in_code).then_some(function)
    }

    /// `tp_init` of the `PyTypeObject` whose `tp_doc` is at this address.
    fn init_in_type(&self, doc_at: u64, name: &str, relocated: &HashMap<u64, u64>) -> Option<u64> {
        const NAME: u64 = 24;
        const DOC: u64 = 176;
        const INIT: u64 = 296;
        let class = doc_at.checked_sub(DOC)?;
        let name_len = u64::try_from(name.len()).ok()?.checked_add(1)?;
        let found = self.bytes(self.value(class.checked_add(NAME)?, relocated)?, name_len)?;
        if found.strip_suffix(b"\0")? != name.as_bytes() {
            return None;
        }
        self.in_code(self.value(class.checked_add(INIT)?, relocated)?)
    }

    /// `tp_init` among the `PyType_Slot { int slot; void *pfunc; }` around that of the doc string, whose
    /// `pfunc` is at this address (`Include/typeslots.h`).
    fn init_in_slots(&self, doc_at: u64, relocated: &HashMap<u64, u64>) -> Option<u64> {
        const DOC: u64 = 56;
        const INIT: u64 = 60;
        const SLOT_BYTES: u64 = 16;
        const MOST: u64 = 100;
        let doc = doc_at.checked_sub(8)?;
        if self.word(doc)? != DOC {
            return None;
        }
        let slot = |at: u64| self.word(at).filter(|slot| (1..MOST).contains(slot));
        let before = (1..MOST).map_while(|n| doc.checked_sub(n * SLOT_BYTES));
        let after = (1..MOST).map_while(|n| doc.checked_add(n * SLOT_BYTES));
        let before = before.take_while(|&at| slot(at).is_some());
        let after = after.take_while(|&at| slot(at).is_some());
        let init = before.chain(after).find(|&at| slot(at) == Some(INIT))?;
        self.in_code(self.value(init.checked_add(8)?, relocated)?)
    }

    fn method_at(&self, doc_at: u64, name: &str, relocated: &HashMap<u64, u64>) -> Option<u64> {
        let def = doc_at.checked_sub(24)?;
        let name_len = u64::try_from(name.len()).ok()?.checked_add(1)?;
        let found = self.bytes(self.value(def, relocated)?, name_len)?;
        if found.strip_suffix(b"\0")? != name.as_bytes() {
            return None;
        }
        self.in_code(self.value(def.checked_add(8)?, relocated)?)
    }

    fn segment_bytes(&self, segment: &Segment) -> &'data [u8] {
        self.data
            .read_bytes_at(segment.offset, segment.file_bytes)
            .unwrap_or_default()
    }

    /// Addresses of the strings that begin with `prefix`.
    fn strings_with_prefix(&self, prefix: &[u8]) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        for segment in self.segments.iter().filter(|s| !s.executable) {
            let bytes = self.segment_bytes(segment);
            let ends = bytes.iter().enumerate().filter(|&(_, &byte)| byte == 0);
            for (end, _) in ends {
                if bytes
                    .get(end + 1..)
                    .is_some_and(|next| next.starts_with(prefix))
                {
                    found.insert(segment.address.wrapping_add(end as u64 + 1));
                }
            }
        }
        found
    }

    /// Addresses of the aligned words of data that have one of these values.
    fn words_equal_to(&self, values: &BTreeSet<u64>) -> Vec<u64> {
        let mut found = Vec::new();
        for segment in self.segments.iter().filter(|s| s.writable) {
            let skip = segment.address.wrapping_neg() & 7;
            let Ok(skip_bytes) = usize::try_from(skip) else {
                continue;
            };
            let Some(bytes) = self.segment_bytes(segment).get(skip_bytes..) else {
                continue;
            };
            let mut address = segment.address.wrapping_add(skip);
            for word in bytes.as_chunks::<8>().0 {
                if values.contains(&u64::from_le_bytes(*word)) {
                    found.push(address);
                }
                address = address.wrapping_add(8);
            }
        }
        found
    }

    /// Words that the loader fills with an address of the file itself.
    fn relative_relocations(&self) -> HashMap<u64, u64> {
        let Some(relocations) = self.elf.dynamic_relocations() else {
            return HashMap::new();
        };
        let relative = self.machine.relative_relocation();
        relocations
            .filter(|(_, relocation)| {
                matches!(relocation.flags(), RelocationFlags::Elf { r_type } if r_type == relative)
            })
            .map(|(at, relocation)| (at, relocation.addend().cast_unsigned()))
            .collect()
    }
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
