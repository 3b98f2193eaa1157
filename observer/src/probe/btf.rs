//! Reads BTF, the kernel's description of its own types, to find the offsets of fields. The format is
//! that of the kernel's `Documentation/bpf/btf.rst`.

use memchr::memmem;
use std::ops::Range;

/// `BTF_KIND_…` of `linux/btf.h`.
mod kind {
    pub const INT: u32 = 1;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
    /// The last known kind.
    pub const LAST: u32 = ENUM64;
}

const MAGIC: u16 = 0xeb9f;
/// `struct btf_type`: name, info, size or type.
const TYPE_BYTES: usize = 12;
/// `struct btf_member`: name, type, offset.
const MEMBER_BYTES: usize = 12;
/// Deepest nesting of anonymous members and typedefs that is followed.
const MAX_DEPTH: u32 = 16;

/// The types of a kernel.
pub struct Btf {
    data: Vec<u8>,
    types: Range<usize>,
    strings: Range<usize>,
    /// Offset of each type, by id; id 0 is `void`.
    starts: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Type {
    /// Offset of its first word in the type section.
    start: usize,
    name: u32,
    kind: u32,
    /// Number of members, where it has any.
    len: usize,
    /// Whether the offsets of its members carry bit field sizes.
    flag: bool,
    /// The type it refers to, or its size.
    target: u32,
}

impl Btf {
    /// Reads the header and finds the types; `None` if it is no little-endian BTF or has an unknown
    /// kind.
    #[must_use]
    pub fn parse(data: Vec<u8>) -> Option<Self> {
        let magic = u16::from_le_bytes(*data.first_chunk()?);
        let header_len = usize::try_from(word(&data, 4)?).ok()?;
        let section = |at: usize| {
            let start = header_len.checked_add(usize::try_from(word(&data, at)?).ok()?)?;
            let len = usize::try_from(word(&data, at + 4)?).ok()?;
            let section = start..start.checked_add(len)?;
            data.get(section.clone()).map(|_| section)
        };
        let (types, strings) = (section(8)?, section(16)?);
        let len = types.len();
        let mut btf = Self {
            data,
            types,
            strings,
            starts: vec![usize::MAX],
        };
        let mut start = 0;
        while start < len {
            let found = btf.type_at(start)?;
            btf.starts.push(start);
            start = start.checked_add(TYPE_BYTES + found.rest()?)?;
        }
        (magic == MAGIC && start == len).then_some(btf)
    }

    /// Byte offset of `structure.path[0].path[1]…`.
    #[must_use]
    pub fn offset(&self, structure: &str, path: &[&str]) -> Option<u32> {
        let mut candidates = self.named(kind::STRUCT, structure);
        let bits = candidates.find_map(|found| self.path_bits(found, path))?;
        Some(bits / 8)
    }

    /// Whether there is a function of this name.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.named(kind::FUNC, name).next().is_some()
    }

    /// Whether there is a type definition of this name.
    #[must_use]
    pub fn has_typedef(&self, name: &str) -> bool {
        self.named(kind::TYPEDEF, name).next().is_some()
    }

    /// The types of this name. Strings are there once each (`btf__dedup` of libbpf), so that one
    /// search finds the number which all of them have.
    fn named(&self, kind: u32, name: &str) -> impl Iterator<Item = Type> {
        let name = self.name_offset(name);
        let types = self.starts.iter().skip(1);
        let types = types.filter_map(|&start| self.type_at(start));
        types.filter(move |it| Some(it.name) == name && it.kind == kind)
    }

    fn name_offset(&self, name: &str) -> Option<u32> {
        let whole = [b"\0", name.as_bytes(), b"\0"].concat();
        u32::try_from(memmem::find(self.strings(), &whole)? + 1).ok()
    }

    fn path_bits(&self, container: Type, path: &[&str]) -> Option<u32> {
        let (first, rest) = path.split_first()?;
        let (bits, inner) = self.member_bits(container, first.as_bytes(), MAX_DEPTH)?;
        if rest.is_empty() {
            return Some(bits);
        }
        bits.checked_add(self.path_bits(self.behind(inner)?, rest)?)
    }

    /// Bit offset and type of a member, searched in anonymous members too.
    fn member_bits(&self, container: Type, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        if !matches!(container.kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        for index in 0..container.len {
            let at = container.start + TYPE_BYTES + index * MEMBER_BYTES;
            let (member, inner) = (
                self.name(word(self.types(), at)?)?,
                word(self.types(), at + 4)?,
            );
            let offset = word(self.types(), at + 8)?;
            let bits = if container.flag {
                offset & 0xff_ffff
            } else {
                offset
            };
            if member == name {
                return Some((bits, inner));
            }
            let nested = || self.member_bits(self.behind(inner)?, name, depth.checked_sub(1)?);
            if member.is_empty()
                && let Some((further, found)) = nested()
            {
                return Some((bits.checked_add(further)?, found));
            }
        }
        None
    }

    /// The type with this id, behind `typedef`, `const` and the like.
    fn behind(&self, id: u32) -> Option<Type> {
        let mut found = self.type_of(id)?;
        for _ in 0..MAX_DEPTH {
            match found.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    found = self.type_of(found.target)?;
                }
                _ => return Some(found),
            }
        }
        None
    }

    fn type_of(&self, id: u32) -> Option<Type> {
        self.type_at(*self.starts.get(usize::try_from(id).ok()?)?)
    }

    fn type_at(&self, start: usize) -> Option<Type> {
        let info = word(self.types(), start.checked_add(4)?)?;
        Some(Type {
            start,
            name: word(self.types(), start)?,
            kind: info >> 24 & 0x1f,
            len: usize::try_from(info & 0xffff).ok()?,
            flag: info >> 31 == 1,
            target: word(self.types(), start.checked_add(8)?)?,
        })
    }

    fn types(&self) -> &[u8] {
        self.data.get(self.types.clone()).unwrap_or_default()
    }

    fn strings(&self) -> &[u8] {
        self.data.get(self.strings.clone()).unwrap_or_default()
    }

    fn name(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.strings().get(usize::try_from(offset).ok()?..)?;
        rest.split(|&byte| byte == 0).next()
    }
}

impl Type {
    /// Bytes that follow the type itself.
    fn rest(&self) -> Option<usize> {
        match self.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => Some(4),
            kind::ARRAY => Some(12),
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => Some(self.len * 12),
            kind::ENUM | kind::FUNC_PROTO => Some(self.len * 8),
            1..=kind::LAST => Some(0),
            _ => None,
        }
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `struct task { int pid; struct { struct { long fsbase; } thread; int flag:1; }; }`
    /// with `thread` behind a typedef.
    fn test_btf() -> Vec<u8> {
        let strings = b"\0task\0pid\0thread\0fsbase\0flag\0thread_t\0";
        let name = |text: &str| {
            let found = strings.windows(text.len() + 2).position(|window| {
                window[0] == 0
                    && window[text.len() + 1] == 0
                    && window[1..].starts_with(text.as_bytes())
            });
            u32::try_from(found.unwrap() + 1).unwrap()
        };
        let info = |kind: u32, len: u32| kind << 24 | len;
        let flag = 1 << 31;
        let types: Vec<u32> = [
            // 1: int, 2: the structure of `thread`, 3: its typedef
            vec![0, info(kind::INT, 0), 4, 32],
            vec![0, info(kind::STRUCT, 1), 8, name("fsbase"), 1, 32],
            vec![name("thread_t"), info(kind::TYPEDEF, 0), 2],
            // 4: the anonymous structure, 5: task
            vec![
                0,
                info(kind::STRUCT, 2) | flag,
                16,
                name("thread"),
                3,
                64,
                name("flag"),
                1,
                1 << 24 | 128,
            ],
            vec![
                name("task"),
                info(kind::STRUCT, 2),
                24,
                name("pid"),
                1,
                0,
                0,
                4,
                64,
            ],
        ]
        .concat();
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let header = [24, 0, len(&types), len(&types), len(strings)];
        let mut data = vec![0x9f, 0xeb, 1, 0];
        data.extend(header.iter().flat_map(|word| word.to_le_bytes()));
        data.extend(types);
        data.extend(strings);
        data
    }

    #[test]
    fn fields_are_found_through_anonymous_members_and_typedefs() {
        let data = test_btf();
        let btf = Btf::parse(data).unwrap();
        assert_eq!(btf.offset("task", &["pid"]), Some(0));
        assert_eq!(btf.offset("task", &["thread"]), Some(16));
        assert_eq!(btf.offset("task", &["thread", "fsbase"]), Some(20));
        assert_eq!(btf.offset("task", &["flag"]), Some(24));
        assert!(btf.has_typedef("thread_t") && !btf.has_typedef("task"));
    }

    #[test]
    fn a_missing_field_has_no_offset() {
        let data = test_btf();
        let btf = Btf::parse(data).unwrap();
        assert_eq!(btf.offset("task", &["tgid"]), None);
        assert_eq!(btf.offset("task", &["pid", "x"]), None);
        assert_eq!(btf.offset("task", &[]), None);
        assert_eq!(btf.offset("thread_t", &["fsbase"]), None);
        assert!(Btf::parse(Vec::new()).is_none());
    }

    proptest! {
        #[test]
        fn damaged_data_is_refused_or_read_without_panic(at in 0usize..300, byte: u8, cut in 0usize..400) {
            let mut data = test_btf();
            let len = data.len();
            data[at % len] = byte;
            data.truncate(cut);
            if let Some(btf) = Btf::parse(data) {
                let _ = btf.offset("task", &["thread", "fsbase"]);
            }
        }
    }
}
