//! Dictionaries, and the attributes of instances and classes.

use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::InlineValues;

use super::object::{MAX_ITEMS, Objects, add, type_flag};

/// Base classes looked at.
const MAX_BASES: usize = 64;

impl<M: Memory> Objects<'_, M> {
    /// Keys and values of a `dict`, or an instance of a subclass of it.
    ///
    /// # Errors
    /// [`Fault`], also when it is none or has more than 4096.
    pub fn entries(&self, dict: u64) -> Result<Vec<(u64, u64)>, Fault> {
        self.expect(dict, type_flag::DICT)?;
        let keys = self.field(dict, self.layout.dict_keys)?;
        match self.field(dict, self.layout.dict_values)? {
            0 => self.table(keys, None),
            values => self.table(keys, Some(values)),
        }
    }

    /// The value of a string key of a `dict`.
    ///
    /// # Errors
    /// As [`Objects::entries`].
    pub fn get(&self, dict: u64, key: &str) -> Result<Option<u64>, Fault> {
        Ok(self.find(self.entries(dict)?, key))
    }

    /// An attribute as `getattr` finds it on plain classes: of the instance,
    /// else of its class or one of its bases.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn attribute(&self, object: u64, name: &str) -> Result<Option<u64>, Fault> {
        match self.find(self.instance_attributes(object)?, name) {
            Some(value) => Ok(Some(value)),
            None => self.class_attribute(self.type_of(object)?, name),
        }
    }

    /// An attribute of a class or one of its first bases.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn class_attribute(&self, type_object: u64, name: &str) -> Result<Option<u64>, Fault> {
        let mut class = type_object;
        for _ in 0..MAX_BASES {
            let dict = self.field(class, self.layout.type_dict)?;
            if dict != 0
                && let Some(value) = self.get(dict, name)?
            {
                return Ok(Some(value));
            }
            class = self.field(class, self.layout.type_base)?;
            if class == 0 {
                return Ok(None);
            }
        }
        Err(Fault)
    }

    /// Names and values of an instance's own attributes.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn instance_attributes(&self, object: u64) -> Result<Vec<(u64, u64)>, Fault> {
        let class = self.type_of(object)?;
        if self.flags(class)? & type_flag::MANAGED_DICT == 0 {
            return match self
                .field(class, self.layout.type_dictoffset)?
                .cast_signed()
            {
                // Negative ones count from the end of objects of varying size, such as `int`s.
                ..=0 => Ok(Vec::new()),
                offset => self.dict_or_nothing(
                    self.mem
                        .word(object.checked_add_signed(offset).ok_or(Fault)?)?,
                ),
            };
        }
        if self.layout.inline_values != InlineValues::Before32 as u32 {
            return Err(Fault);
        }
        // `_PyObject_ValuesPointer`, `_PyObject_ManagedDictPointer` of 3.11
        // (`Include/internal/pycore_object.h`).
        match self.mem.word(object.checked_sub(32).ok_or(Fault)?)? {
            0 => self.dict_or_nothing(self.mem.word(object.checked_sub(24).ok_or(Fault)?)?),
            values => self.table(
                self.field(class, self.layout.type_cached_keys)?,
                Some(values),
            ),
        }
    }

    fn dict_or_nothing(&self, dict: u64) -> Result<Vec<(u64, u64)>, Fault> {
        if dict == 0 {
            Ok(Vec::new())
        } else {
            self.entries(dict)
        }
    }

    /// Entries of a `PyDictKeysObject`, with the values of another block where
    /// the keys are shared. Deleted entries have no value.
    fn table(&self, keys: u64, values: Option<u64>) -> Result<Vec<(u64, u64)>, Fault> {
        let layout = self.layout;
        let [log2_index_bytes] = self.bytes(add(keys, u64::from(layout.keys_log2_index_bytes))?)?;
        let [kind] = self.bytes(add(keys, u64::from(layout.keys_kind))?)?;
        let count = self.field(keys, layout.keys_nentries)?;
        if log2_index_bytes > 24 || count > MAX_ITEMS {
            return Err(Fault);
        }
        let first = add(
            keys,
            u64::from(layout.keys_entries) + (1 << log2_index_bytes),
        )?;
        // `PyDictKeyEntry` is hash, key, value; `PyDictUnicodeEntry` key, value
        // (`Include/internal/pycore_dict.h`).
        let (entry_bytes, key_at) = if kind == 0 { (24, 8) } else { (16, 0) };
        let mut found = Vec::new();
        for i in 0..count {
            let entry = add(first, entry_bytes * i)?;
            let key = self.mem.word(add(entry, key_at)?)?;
            let value = match values {
                None => self.mem.word(add(entry, key_at + 8)?)?,
                Some(values) => self
                    .mem
                    .word(add(values, u64::from(layout.values_first) + 8 * i)?)?,
            };
            if key != 0 && value != 0 {
                found.push((key, value));
            }
        }
        Ok(found)
    }

    fn find(&self, entries: Vec<(u64, u64)>, name: &str) -> Option<u64> {
        let length = name.len() as u64;
        entries.into_iter().find_map(|(key, value)| {
            let same = self.field(key, self.layout.str_length) == Ok(length)
                && self.text(key).is_ok_and(|text| text == name);
            same.then_some(value)
        })
    }
}
