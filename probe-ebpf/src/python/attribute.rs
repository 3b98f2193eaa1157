//! Where dictionaries keep their entries, and instances their attributes.

use super::{DIRECT, InlineValues, Layout};
use crate::memory::{Fault, Memory};

/// Names and values of a `PyDictObject` or an instance, side by side or apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// `PyDictKeysObject`; 0 when there are no entries.
    pub keys: u64,
    /// Address of the first value, where other objects share the keys; 0 where each value is in its
    /// key's entry.
    pub values: u64,
}

impl Storage {
    const EMPTY: Self = Self { keys: 0, values: 0 };
}

/// Position of the entries of a `PyDictKeysObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries {
    /// Address of the first entry.
    pub first: u64,
    /// Bytes of an entry: `PyDictKeyEntry` is hash, key, value, and
    /// `PyDictUnicodeEntry` key, value (`Include/internal/pycore_dict.h`).
    pub size: u64,
}

impl Entries {
    /// Address of the key of the entry at an index; its value follows.
    #[inline(always)]
    #[must_use]
    pub fn key_at(&self, index: u64) -> u64 {
        let key = self.size - 16;
        self.first
            .wrapping_add(index.wrapping_mul(self.size))
            .wrapping_add(key)
    }
}

impl Layout {
    /// Storage of a `dict`.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    #[inline(always)]
    pub fn dict_storage<M: Memory>(&self, mem: &M, dict: u64) -> Result<Storage, Fault> {
        let keys = self.field(mem, dict, self.dict_keys)?;
        let values = match self.field(mem, dict, self.dict_values)? {
            0 => 0,
            values => values.wrapping_add(u64::from(self.values_first)),
        };
        Ok(Storage { keys, values })
    }

    /// Storage of an instance's attributes.
    ///
    /// 3.11: `_PyObject_ValuesPointer`, `_PyObject_ManagedDictPointer`; 3.12:
    /// `_PyObject_DictOrValuesPointer`; 3.13+: `_PyObject_ManagedDictPointer`,
    /// `_PyObject_InlineValues` (`Include/internal/pycore_object.h`).
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    #[inline(always)]
    pub fn instance_storage<M: Memory>(&self, mem: &M, object: u64) -> Result<Storage, Fault> {
        /// `Py_TPFLAGS_INLINE_VALUES` of 3.13, `Py_TPFLAGS_MANAGED_DICT` of 3.11 (`Include/object.h`).
        const INLINE_VALUES: u64 = 1 << 2;
        const MANAGED_DICT: u64 = 1 << 4;
        let class = self.field(mem, object, self.object_type)?;
        let flags = self.field(mem, class, self.type_flags)?;
        let first = u64::from(self.values_first);
        let (values, dict) =
            if self.inline_values == InlineValues::Dict as u32 || flags & MANAGED_DICT == 0 {
                let offset = self.field(mem, class, self.type_dictoffset)?;
                if offset == 0 || offset >= 1 << 63 {
                    // No dict, or one counted from the end of an object of variable size, such as an `int`.
                    return Ok(Storage::EMPTY);
                }
                (0, mem.word(object.wrapping_add(offset))?)
            } else if self.inline_values == InlineValues::Before32 as u32 {
                let values = mem.word(object.wrapping_sub(32))?;
                (values, mem.word(object.wrapping_sub(24))?)
            } else {
                let word = mem.word(object.wrapping_sub(24))?;
                if self.inline_values == InlineValues::Tagged24 as u32 {
                    match word & 1 {
                        0 => (0, word),
                        _ => (word.wrapping_add(1).wrapping_add(first), 0),
                    }
                } else if word == 0 && flags & INLINE_VALUES != 0 {
                    let size = self.field(mem, class, self.type_basicsize)?;
                    (object.wrapping_add(size).wrapping_add(first), 0)
                } else {
                    (0, word)
                }
            };
        match (values, dict) {
            (0, 0) => Ok(Storage::EMPTY),
            (0, dict) => self.dict_storage(mem, dict),
            (values, _) => Ok(Storage {
                keys: self.field(mem, class, self.type_cached_keys)?,
                values,
            }),
        }
    }

    /// Position of the entries of a `PyDictKeysObject`.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read, or its numbers are impossible.
    #[inline(always)]
    pub fn entries<M: Memory>(&self, mem: &M, keys: u64) -> Result<Entries, Fault> {
        let index_bytes = if self.keys_size == DIRECT {
            let log2 = byte(mem, keys, self.keys_log2_index_bytes)?;
            if log2 > 32 {
                return Err(Fault);
            }
            1 << log2
        } else {
            // `DK_IXSIZE` (`Objects/dict-common.h`).
            let size = self.field(mem, keys, self.keys_size)?;
            let width = if size <= 0xff {
                1
            } else if size <= 0xffff {
                2
            } else if size <= 0xffff_ffff {
                4
            } else {
                return Err(Fault);
            };
            size.wrapping_mul(width)
        };
        let general = self.keys_kind == DIRECT || byte(mem, keys, self.keys_kind)? == 0;
        Ok(Entries {
            first: keys
                .wrapping_add(u64::from(self.keys_indices))
                .wrapping_add(index_bytes),
            size: if general { 24 } else { 16 },
        })
    }

    #[inline(always)]
    pub(super) fn field<M: Memory>(&self, mem: &M, base: u64, offset: u32) -> Result<u64, Fault> {
        mem.word(base.wrapping_add(u64::from(offset)))
    }
}

#[inline(always)]
fn byte<M: Memory>(mem: &M, base: u64, offset: u32) -> Result<u8, Fault> {
    let mut buf = [0];
    mem.read(base.wrapping_add(u64::from(offset)), &mut buf)?;
    Ok(buf[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::tables::{CPYTHON_3_10, CPYTHON_3_11, CPYTHON_3_12};

    /// One page of memory at address 0x1000.
    struct Page([u8; 0x1000]);

    impl Page {
        fn put(&mut self, address: usize, bytes: &[u8]) {
            self.0[address - 0x1000..][..bytes.len()].copy_from_slice(bytes);
        }

        fn put_word(&mut self, address: usize, word: u64) {
            self.put(address, &word.to_le_bytes());
        }
    }

    impl Memory for Page {
        fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
            let start = usize::try_from(address)
                .map_err(|_| Fault)?
                .checked_sub(0x1000);
            let range = start.ok_or(Fault)?..;
            let source = self
                .0
                .get(range)
                .and_then(|rest| rest.get(..buf.len()))
                .ok_or(Fault)?;
            buf.copy_from_slice(source);
            Ok(())
        }
    }

    const OBJECT: usize = 0x1100;
    const CLASS: usize = 0x1200;
    const KEYS: usize = 0x1700;
    const VALUES: usize = 0x1900;
    const DICT: usize = 0x1980;
    const NAMES: [&str; 3] = ["meth", "method", "path"];

    /// Keys `meth`, `method` and `path` with the values 100, 101 and 102, beside the keys or apart.
    fn page(layout: &Layout, apart: bool) -> Page {
        let mut page = Page([0; 0x1000]);
        page.put_word(OBJECT + 8, CLASS as u64);
        page.put_word(CLASS + layout.type_flags as usize, 1 << 4 | 1 << 2);
        page.put_word(CLASS + layout.type_cached_keys as usize, KEYS as u64);
        let entry_bytes = if layout.keys_size == DIRECT {
            page.put(KEYS + layout.keys_log2_index_bytes as usize, &[3]); // eight one-byte indices
            page.put(KEYS + layout.keys_kind as usize, &[1]);
            16
        } else {
            page.put_word(KEYS + layout.keys_size as usize, 8);
            24
        };
        let entries = KEYS + layout.keys_indices as usize + 8 + (entry_bytes - 16);
        for (index, name) in NAMES.iter().enumerate() {
            let key = 0x1a00 + index * 0x80;
            page.put(key + layout.str_ascii as usize, name.as_bytes());
            page.put_word(entries + index * entry_bytes, key as u64);
            let value = if apart {
                VALUES + layout.values_first as usize + index * 8
            } else {
                entries + index * entry_bytes + 8
            };
            page.put_word(value, 100 + index as u64);
        }
        page.put_word(DICT + layout.dict_keys as usize, KEYS as u64);
        if apart {
            page.put_word(DICT + layout.dict_values as usize, VALUES as u64);
        }
        page
    }

    /// An instance for each way in which some version keeps attributes.
    fn instances() -> [(&'static str, Layout, Page); 8] {
        let trailing = Layout {
            inline_values: InlineValues::Trailing as u32,
            values_first: 8,
            ..CPYTHON_3_12
        };
        let with = |layout: Layout, apart, at: usize, word: usize| {
            let mut page = page(&layout, apart);
            page.put_word(at, word as u64);
            page.put_word(CLASS + layout.type_dictoffset as usize, 16);
            (layout, page)
        };
        let mut values_behind = with(trailing, true, OBJECT - 24, 0);
        let size = VALUES - OBJECT;
        values_behind.1.put_word(CLASS + 32, size as u64);
        [
            ("3.10, split", with(CPYTHON_3_10, true, OBJECT + 16, DICT)),
            (
                "3.10, combined",
                with(CPYTHON_3_10, false, OBJECT + 16, DICT),
            ),
            (
                "3.11, values",
                with(CPYTHON_3_11, true, OBJECT - 32, VALUES),
            ),
            ("3.11, dict", with(CPYTHON_3_11, false, OBJECT - 24, DICT)),
            (
                "3.12, values",
                with(CPYTHON_3_12, true, OBJECT - 24, VALUES - 1),
            ),
            ("3.12, dict", with(CPYTHON_3_12, false, OBJECT - 24, DICT)),
            ("3.13, values", values_behind),
            ("3.13, dict", with(trailing, false, OBJECT - 24, DICT)),
        ]
        .map(|(name, (layout, page))| (name, layout, page))
    }

    /// The value of an attribute.
    fn attribute(page: &Page, layout: &Layout, object: u64, name: &[u8]) -> Result<u64, Fault> {
        let Storage { keys, values } = layout.instance_storage(page, object)?;
        let entries = layout.entries(page, keys)?;
        for index in 0..NAMES.len() as u64 {
            let at = entries.key_at(index);
            let mut found = [0; 8];
            let key = page.word(at)? + u64::from(layout.str_ascii);
            page.read(key, &mut found[..name.len() + 1])?;
            if found.strip_prefix(name).is_some_and(|end| end[0] == 0) {
                return page.word(if values == 0 {
                    at + 8
                } else {
                    values + index * 8
                });
            }
        }
        Err(Fault)
    }

    #[test]
    fn an_attribute_is_found_by_its_whole_name_in_every_storage() {
        for (kept, layout, page) in instances() {
            let find = |name: &[u8]| attribute(&page, &layout, OBJECT as u64, name);
            assert_eq!(find(b"meth"), Ok(100), "{kept}");
            assert_eq!(find(b"method"), Ok(101), "{kept}");
            assert_eq!(find(b"path"), Ok(102), "{kept}");
            assert_eq!(find(b"uri"), Err(Fault), "{kept}");
        }
    }

    #[test]
    fn an_unreadable_object_has_no_attributes() {
        for (kept, layout, page) in instances() {
            for object in [0, 0x1f00, u64::MAX] {
                let found = attribute(&page, &layout, object, b"path");
                assert_eq!(found, Err(Fault), "{kept}");
            }
        }
    }
}
