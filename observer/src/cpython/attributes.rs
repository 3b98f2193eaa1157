//! Dictionaries, and the attributes of instances and classes.

use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::attribute::Storage;

use super::object::{MAX_ITEMS, Objects, add, type_flag};

/// Base classes that are searched.
const MAX_BASES: usize = 64;
/// Modules that are searched.
const MAX_MODULES: u64 = 1 << 16;

impl<M: Memory> Objects<'_, M> {
    /// Keys and values of a `dict`, or an instance of a subclass of it.
    ///
    /// # Errors
    /// [`Fault`], also if it is no `dict` or has more than 4096 entries.
    pub fn entries(&self, dict: u64) -> Result<Vec<(u64, u64)>, Fault> {
        self.expect(dict, type_flag::DICT)?;
        self.stored(self.layout.dict_storage(self.mem, dict)?)
    }

    /// The value of a string key of a `dict`.
    ///
    /// # Errors
    /// As [`Objects::entries`].
    pub fn get(&self, dict: u64, key: &str) -> Result<Option<u64>, Fault> {
        Ok(self.find(&self.entries(dict)?, key))
    }

    /// The value of a string key of `sys.modules`, which may have many entries.
    ///
    /// # Errors
    /// [`Fault`], also if it has more than 65,536 entries.
    pub fn get_module(&self, modules: u64, name: &str) -> Result<Option<u64>, Fault> {
        self.expect(modules, type_flag::DICT)?;
        let storage = self.layout.dict_storage(self.mem, modules)?;
        Ok(self.find(&self.stored_up_to(storage, MAX_MODULES)?, name))
    }

    /// An attribute as `getattr` finds it on plain classes: of the instance, else of its class or
    /// one of its bases.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn attribute(&self, object: u64, name: &str) -> Result<Option<u64>, Fault> {
        if let Some(value) = self.find(&self.instance_attributes(object)?, name) {
            return Ok(Some(value));
        }
        match self.class_attribute(self.type_of(object)?, name)? {
            Some(member) if self.is_member(member) => self.slot(object, member),
            other => Ok(other),
        }
    }

    fn is_member(&self, object: u64) -> bool {
        let name = self.type_of(object).and_then(|class| self.type_name(class));
        name.is_ok_and(|name| name == "member_descriptor")
    }

    /// The value of one of `__slots__`; `None` while it is unbound. Its offset is that of the
    /// `PyMemberDef` that `PyMemberDescrObject.d_member` points to (`Include/cpython/descrobject.h`,
    /// `Include/descrobject.h`, the same since 3.8).
    fn slot(&self, object: u64, member: u64) -> Result<Option<u64>, Fault> {
        let definition = self.field(member, self.layout.object_type + 32)?;
        let offset = self.mem.word(add(definition, 16)?)?;
        let value = self.mem.word(add(object, offset)?)?;
        Ok((value != 0).then_some(value))
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
        self.stored(self.layout.instance_storage(self.mem, object)?)
    }

    /// Names and values of a storage; deleted entries have no value.
    fn stored(&self, storage: Storage) -> Result<Vec<(u64, u64)>, Fault> {
        self.stored_up_to(storage, MAX_ITEMS)
    }

    fn stored_up_to(&self, storage: Storage, limit: u64) -> Result<Vec<(u64, u64)>, Fault> {
        if storage.keys == 0 {
            return Ok(Vec::new());
        }
        let count = self.field(storage.keys, self.layout.keys_nentries)?;
        if count > limit {
            return Err(Fault);
        }
        let entries = self.layout.entries(self.mem, storage.keys)?;
        let mut found = Vec::new();
        for index in 0..count {
            let at = entries.key_at(index);
            let key = self.mem.word(at)?;
            let value = self.mem.word(match storage.values {
                0 => add(at, 8)?,
                values => add(values, 8 * index)?,
            })?;
            if key != 0 && value != 0 {
                found.push((key, value));
            }
        }
        Ok(found)
    }

    /// The value of a string key, of keys and values.
    pub(crate) fn find(&self, entries: &[(u64, u64)], name: &str) -> Option<u64> {
        let (_, value) = self.find_entry(entries, name)?;
        Some(value)
    }

    /// The key of a string key, of keys and values.
    pub(crate) fn find_key(&self, entries: &[(u64, u64)], name: &str) -> Option<u64> {
        let (key, _) = self.find_entry(entries, name)?;
        Some(key)
    }

    fn find_entry(&self, entries: &[(u64, u64)], name: &str) -> Option<(u64, u64)> {
        let length = name.len() as u64;
        let is_it = |key| {
            self.field(key, self.layout.str_length) == Ok(length)
                && self.text(key).is_ok_and(|text| text == name)
        };
        entries.iter().copied().find(|&(key, _)| is_it(key))
    }
}
