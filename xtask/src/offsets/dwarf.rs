//! Offsets of members of C structures, from the debug information of a built file.

use std::{borrow::Cow, collections::HashMap, fmt, fs, path::Path};

use anyhow::{Context as _, Result, anyhow, bail};
use gimli::{
    AttributeValue, DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian, SectionId, Unit,
    UnitOffset,
    constants::{
        DW_AT_bit_offset, DW_AT_bit_size, DW_AT_byte_size, DW_AT_data_bit_offset,
        DW_AT_data_member_location, DW_AT_declaration, DW_AT_name, DW_AT_type, DW_TAG_const_type,
        DW_TAG_member, DW_TAG_structure_type, DW_TAG_typedef, DW_TAG_union_type,
        DW_TAG_volatile_type,
    },
};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

type Bytes<'data> = EndianSlice<'data, LittleEndian>;
type Entry<'data> = DebuggingInformationEntry<Bytes<'data>>;

/// A bound on typedefs and qualifiers between a member and its structure; real ones are a handful.
const MAX_ALIASES: usize = 16;

/// The sections of debug information of a file.
pub struct Sections {
    data: Vec<u8>,
}

impl Sections {
    pub fn read(path: &Path) -> Result<Self> {
        let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { data })
    }

    /// Up to this many bytes of a variable's initial value.
    pub fn variable(&self, name: &str, bytes: usize) -> Result<&[u8]> {
        let file = object::File::parse(&*self.data)?;
        let found = file
            .symbol_by_name(name)
            .or_else(|| {
                file.dynamic_symbols()
                    .find(|symbol| symbol.name() == Ok(name))
            })
            .with_context(|| format!("no variable `{name}`"))?;
        let section = found
            .section_index()
            .with_context(|| format!("`{name}` is not defined"))?;
        let section = file.section_by_index(section)?;
        let at = found.address().checked_sub(section.address());
        let rest = at
            .and_then(|at| section.data().ok()?.get(usize::try_from(at).ok()?..))
            .with_context(|| format!("`{name}` is not in the file"))?;
        Ok(rest.get(..bytes).unwrap_or(rest))
    }

    /// Finds these structures, unions and typedefs. Reads units until all are found; a missing one is
    /// no error yet.
    pub fn types<'data>(&'data self, wanted: &[&str]) -> Result<Types<'data>> {
        let file = object::File::parse(&*self.data)?;
        let section = |id: SectionId| -> Result<Bytes<'data>> {
            let Some(section) = file.section_by_name(id.name()) else {
                return Ok(Bytes::new(&[], LittleEndian));
            };
            match section.uncompressed_data()? {
                Cow::Borrowed(data) => Ok(Bytes::new(data, LittleEndian)),
                Cow::Owned(_) => bail!("section {} is compressed", id.name()),
            }
        };
        let mut types = Types {
            dwarf: Dwarf::load(section)?,
            units: Vec::new(),
            named: HashMap::new(),
        };
        types.index(wanted)?;
        Ok(types)
    }
}

/// A type's entry: its unit, and its offset there.
type At = (usize, UnitOffset);

/// The place and width of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Offset in bytes; of a bit field, that of its first byte.
    pub offset: u64,
    /// Of a bit field, its first bit in that byte.
    pub bit: u64,
    /// Of a bit field, its width.
    pub bits: Option<u64>,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, bit, bits } = self;
        match bits {
            Some(bits) => write!(f, "{offset}, {bits} bits from bit {bit}"),
            None => write!(f, "{offset}"),
        }
    }
}

/// The requested types.
pub struct Types<'data> {
    dwarf: Dwarf<Bytes<'data>>,
    units: Vec<Unit<Bytes<'data>>>,
    named: HashMap<String, At>,
}

impl<'data> Types<'data> {
    /// Whether none was found.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    fn index(&mut self, wanted: &[&str]) -> Result<()> {
        let mut headers = self.dwarf.units();
        while let Some(header) = headers.next()? {
            if wanted.iter().all(|name| self.named.contains_key(*name)) {
                break;
            }
            let unit = self.dwarf.unit(header)?;
            let found = self.named_in(&unit, wanted)?;
            for (name, offset) in found {
                self.named.entry(name).or_insert((self.units.len(), offset));
            }
            self.units.push(unit);
        }
        Ok(())
    }

    /// Complete types of the unit's top level with one of the names.
    fn named_in(
        &self,
        unit: &Unit<Bytes<'data>>,
        wanted: &[&str],
    ) -> Result<Vec<(String, UnitOffset)>> {
        let mut found = Vec::new();
        let mut tree = unit.entries_tree(None)?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            if !is_aggregate(entry) && entry.tag() != DW_TAG_typedef {
                continue;
            }
            if entry.attr(DW_AT_declaration).is_some() {
                continue;
            }
            let Some(name) = self.name(unit, entry)? else {
                continue;
            };
            if !wanted.contains(&name.as_str()) {
                continue;
            }
            // A typedef may come before the structure behind it is known, in this unit or ever.
            if entry.tag() == DW_TAG_typedef && Self::structure(unit, entry.offset())?.is_none() {
                continue;
            }
            found.push((name, entry.offset()));
        }
        Ok(found)
    }

    fn name(&self, unit: &Unit<Bytes<'data>>, entry: &Entry<'data>) -> Result<Option<String>> {
        let Some(value) = entry.attr_value(DW_AT_name) else {
            return Ok(None);
        };
        let name = self.dwarf.attr_string(unit, value)?;
        Ok(Some(name.to_string_lossy().into_owned()))
    }

    /// The complete structure or union behind a type's name, if there is one.
    fn structure(unit: &Unit<Bytes<'data>>, at: UnitOffset) -> Result<Option<UnitOffset>> {
        let mut at = at;
        for _ in 0..MAX_ALIASES {
            let entry = unit.entry(at)?;
            if is_aggregate(&entry) {
                let complete = entry.attr(DW_AT_declaration).is_none();
                return Ok(complete.then_some(at));
            }
            let alias = [DW_TAG_typedef, DW_TAG_const_type, DW_TAG_volatile_type];
            if !alias.contains(&entry.tag()) {
                return Ok(None);
            }
            let Some(next) = type_of(&entry) else {
                return Ok(None);
            };
            at = next;
        }
        bail!("more than {MAX_ALIASES} typedefs lead to a structure");
    }

    fn find(&self, name: &str) -> Result<(&Unit<Bytes<'data>>, UnitOffset)> {
        let missing = || anyhow!("no complete structure `{name}` in the debug information");
        let (unit, at) = self.named.get(name).ok_or_else(missing)?;
        let unit = self.units.get(*unit).ok_or_else(missing)?;
        Ok((unit, Self::structure(unit, *at)?.ok_or_else(missing)?))
    }

    /// The size of a structure in bytes.
    pub fn size(&self, structure: &str) -> Result<u64> {
        let (unit, at) = self.find(structure)?;
        number(&unit.entry(at)?, DW_AT_byte_size)
            .with_context(|| format!("`{structure}` has no size"))
    }

    /// The place of a member in a structure: `a.b.c`, also through unnamed members.
    pub fn member(&self, structure: &str, path: &str) -> Result<Member> {
        let (unit, mut at) = self.find(structure)?;
        let mut found = Member {
            offset: 0,
            bit: 0,
            bits: None,
        };
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let (member, entry) = self
                .member_of(unit, at, name)?
                .with_context(|| format!("`{structure}` has no `{path}`: no `{name}`"))?;
            found = Member {
                offset: found.offset + member.offset,
                ..member
            };
            if names.peek().is_some() {
                at = type_of(&entry)
                    .map(|at| Self::structure(unit, at))
                    .transpose()?
                    .flatten()
                    .with_context(|| format!("`{name}` of `{structure}.{path}` is no structure"))?;
            }
        }
        Ok(found)
    }

    fn member_of(
        &self,
        unit: &Unit<Bytes<'data>>,
        structure: UnitOffset,
        wanted: &str,
    ) -> Result<Option<(Member, Entry<'data>)>> {
        let mut tree = unit.entries_tree(Some(structure))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            if entry.tag() != DW_TAG_member {
                continue;
            }
            let here = place(entry);
            match self.name(unit, entry)? {
                Some(name) if name == wanted => return Ok(Some((here, entry.clone()))),
                Some(_) => {}
                None => {
                    let inner = type_of(entry)
                        .map(|at| Self::structure(unit, at))
                        .transpose()?;
                    let Some(inner) = inner.flatten() else {
                        continue;
                    };
                    if let Some((member, entry)) = self.member_of(unit, inner, wanted)? {
                        let offset = here.offset + member.offset;
                        return Ok(Some((Member { offset, ..member }, entry)));
                    }
                }
            }
        }
        Ok(None)
    }
}

fn is_aggregate(entry: &Entry<'_>) -> bool {
    [DW_TAG_structure_type, DW_TAG_union_type].contains(&entry.tag())
}

fn number(entry: &Entry<'_>, attribute: gimli::DwAt) -> Option<u64> {
    entry.attr_value(attribute)?.udata_value()
}

/// Members of a union have no offset: they begin where the union does.
fn place(entry: &Entry<'_>) -> Member {
    let bits = number(entry, DW_AT_bit_size);
    let bit = number(entry, DW_AT_data_bit_offset).or_else(|| bit_from_the_top(entry, bits?));
    let bit = bit.unwrap_or(0);
    Member {
        offset: number(entry, DW_AT_data_member_location).unwrap_or(0) + bit / 8,
        bit: bit % 8,
        bits,
    }
}

/// Up to DWARF 4 bit fields are counted from the highest bit of a unit of so many bytes.
fn bit_from_the_top(entry: &Entry<'_>, bits: u64) -> Option<u64> {
    let unit_bits = number(entry, DW_AT_byte_size)?.checked_mul(8)?;
    let above = number(entry, DW_AT_bit_offset)?;
    unit_bits.checked_sub(above)?.checked_sub(bits)
}

fn type_of(entry: &Entry<'_>) -> Option<UnitOffset> {
    match entry.attr_value(DW_AT_type)? {
        AttributeValue::UnitRef(at) => Some(at),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const SOURCE: &str = "
        typedef struct inner { char c; int _key; } Inner;
        typedef const Inner Alias;
        struct later;
        typedef struct later Later;
        struct later { long first, second; };
        typedef struct {
            long head;
            union { int x; struct { short y, z; }; };
            Alias inner;
            struct { unsigned a : 2; unsigned kind : 3; } state;
            char rest[];
        } Outer;
        Outer *outer; Later *later;
    ";

    fn built(folder: &Path, version: &str) -> Sections {
        let source = folder.join("types.c");
        let file = folder.join("types.so");
        fs::write(&source, SOURCE).unwrap();
        let status = Command::new("cc")
            .args([version, "-shared", "-fPIC", "-o"])
            .args([&file, &source])
            .status();
        assert!(status.unwrap().success());
        Sections::read(&file).unwrap()
    }

    #[test]
    fn members_are_where_the_compiler_puts_them() {
        for version in ["-gdwarf-4", "-gdwarf-5"] {
            members_of(version);
        }
    }

    fn members_of(version: &str) {
        let folder = tempfile::tempdir().unwrap();
        let sections = built(folder.path(), version);
        let types = sections
            .types(&["Outer", "Later", "inner", "Gone"])
            .unwrap();
        let at = |structure, path| types.member(structure, path).unwrap().to_string();
        assert_eq!(at("Outer", "head"), "0");
        assert_eq!(at("Outer", "x"), "8");
        assert_eq!(at("Outer", "z"), "10");
        assert_eq!(at("Outer", "inner._key"), "16");
        assert_eq!(at("Outer", "state"), "20");
        assert_eq!(at("Outer", "state.kind"), "20, 3 bits from bit 2");
        assert_eq!(at("Outer", "rest"), "24");
        assert_eq!(at("Later", "second"), "8");
        assert_eq!(types.size("inner").unwrap(), 8);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let sections = built(folder.path(), "-g");
        let types = sections.types(&["Outer", "Gone"]).unwrap();
        let refused = |structure, path| types.member(structure, path).unwrap_err().to_string();
        assert_eq!(
            refused("Outer", "inner.no"),
            "`Outer` has no `inner.no`: no `no`"
        );
        assert_eq!(
            refused("Outer", "head.no"),
            "`head` of `Outer.head.no` is no structure"
        );
        assert_eq!(
            refused("Gone", "x"),
            "no complete structure `Gone` in the debug information"
        );
    }
}
