//! A heap for tests, built object by object in the layout of each version.

extern crate std;

use super::debug_offsets;
use super::tables::{CPYTHON_3_8, CPYTHON_3_11, CPYTHON_3_12};
use super::{DIRECT, Layout};
use crate::memory::{Fault, Memory};
use std::vec::Vec;

/// Versions with different layouts.
pub fn layouts() -> Vec<(&'static str, Layout)> {
    let published = [
        ("3.13", &include_bytes!("fixtures/debug_offsets_3.13.5")[..]),
        ("3.14", include_bytes!("fixtures/debug_offsets_3.14.10")),
        ("3.15", include_bytes!("fixtures/debug_offsets_3.15.2")),
    ];
    let published = published.map(|(version, bytes)| (version, debug_offsets::layout(bytes)));
    let mut all = std::vec![
        ("3.8", CPYTHON_3_8),
        ("3.11", CPYTHON_3_11),
        ("3.12", CPYTHON_3_12),
    ];
    all.extend(published.map(|(version, layout)| (version, layout.unwrap())));
    all
}

/// First mapped address.
const START: usize = 0x10000;
/// Bytes of every object: enough for any structure.
const ROOM: usize = 1024;

/// A heap whose objects are zeros until a test fills them.
pub struct TestHeap {
    bytes: Vec<u8>,
    pub layout: Layout,
}

impl Memory for TestHeap {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let at = usize::try_from(address).map_err(|_| Fault)?;
        let at = at.checked_sub(START).ok_or(Fault)?;
        let end = at.checked_add(buf.len()).ok_or(Fault)?;
        buf.copy_from_slice(self.bytes.get(at..end).ok_or(Fault)?);
        Ok(())
    }
}

impl TestHeap {
    pub fn new(layout: Layout) -> Self {
        let bytes = Vec::new();
        Self { bytes, layout }
    }

    /// A structure of zeros.
    pub fn new_object(&mut self) -> u64 {
        self.new_bytes(ROOM)
    }

    /// Zeros.
    pub fn new_bytes(&mut self, len: usize) -> u64 {
        let address = START + self.bytes.len();
        self.bytes.resize(self.bytes.len() + len, 0);
        address as u64
    }

    pub fn put(&mut self, address: u64, bytes: &[u8]) {
        let at = usize::try_from(address).unwrap() - START;
        self.bytes[at..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Sets a field.
    pub fn set(&mut self, object: u64, offset: u32, value: u64) {
        assert_ne!(offset, DIRECT, "this version has no such field");
        self.put(object + u64::from(offset), &value.to_le_bytes());
    }

    /// An object with one field.
    pub fn with(&mut self, offset: u32, value: u64) -> u64 {
        let object = self.new_object();
        self.set(object, offset, value);
        object
    }

    /// A `str` whose characters are `width` bytes wide.
    pub fn str_of(&mut self, width: u64, is_ascii: bool, data: &[u8]) -> u64 {
        let layout = self.layout;
        let length = data.len() as u64 / width;
        let state = width << 2 | 1 << 5 | u64::from(is_ascii) << 6;
        let object = self.with(layout.str_length, length);
        self.set(object, layout.str_state, state);
        let at = if is_ascii {
            layout.str_ascii
        } else {
            layout.str_latin1
        };
        self.put(object + u64::from(at), data);
        object
    }

    pub fn str(&mut self, text: &str) -> u64 {
        self.str_of(1, true, text.as_bytes())
    }

    /// An `int` below 2^60.
    pub fn int(&mut self, value: u64) -> u64 {
        const DIGIT_BITS: u32 = 30;
        let digits = [value & ((1 << DIGIT_BITS) - 1), value >> DIGIT_BITS];
        let count = digits.iter().filter(|&&digit| digit != 0).count() as u64;
        let layout = self.layout;
        let object = self.with(layout.int_size, count << layout.int_size_shift);
        self.set(object, layout.int_digits, digits[0] | digits[1] << 32);
        object
    }

    /// A `dict` with these keys.
    pub fn dict(&mut self, entries: &[(&str, u64)]) -> u64 {
        let layout = self.layout;
        let keys = self.new_object();
        let entry_bytes = if layout.keys_size == DIRECT {
            self.put(keys + u64::from(layout.keys_log2_index_bytes), &[4]);
            self.put(keys + u64::from(layout.keys_kind), &[1]);
            16
        } else {
            self.set(keys, layout.keys_size, 16);
            24
        };
        self.set(keys, layout.keys_nentries, entries.len() as u64);
        // Sixteen one-byte indices precede the entries.
        let first = keys + u64::from(layout.keys_indices) + 16 + (entry_bytes - 16);
        for (index, (name, value)) in entries.iter().enumerate() {
            let at = first + index as u64 * entry_bytes;
            let key = self.str(name);
            self.put(at, &key.to_le_bytes());
            self.put(at + 8, &value.to_le_bytes());
        }
        self.with(layout.dict_keys, keys)
    }

    fn tuple(&mut self, names: &[&str]) -> u64 {
        let layout = self.layout;
        let tuple = self.with(layout.var_size, names.len() as u64);
        for (at, name) in (layout.tuple_items..).step_by(8).zip(names) {
            let name = self.str(name);
            self.set(tuple, at, name);
        }
        tuple
    }

    /// The code object of a function in the file of this name, with its local variables and its cells.
    pub fn code(&mut self, file: u64, name: &str, locals: &[&str], cells: &[&str]) -> u64 {
        let layout = self.layout;
        let code = self.new_object();
        let name = self.str(name);
        self.set(code, layout.code_name, name);
        self.set(code, layout.code_filename, file);
        if layout.code_instructions == DIRECT {
            let (locals, cells) = (self.tuple(locals), self.tuple(cells));
            self.set(code, layout.code_filename - 32, locals);
            self.set(code, layout.code_filename - 16, cells);
            return code;
        }
        let others = cells.iter().filter(|cell| !locals.contains(cell));
        let all: Vec<&str> = locals.iter().chain(others).copied().collect();
        let names = self.tuple(&all);
        self.set(code, layout.code_filename - 16, names);
        let kinds = self.new_object();
        for (at, name) in (kinds + u64::from(layout.bytes_data)..).zip(&all) {
            let local = if locals.contains(name) { 0x20 } else { 0 };
            let cell = if cells.contains(name) { 0x40 } else { 0 };
            self.put(at, &[local | cell]);
        }
        self.set(code, layout.code_filename - 8, kinds);
        code
    }

    /// An exception with a class of its own.
    pub fn exception(&mut self) -> u64 {
        // `Py_TPFLAGS_BASE_EXC_SUBCLASS` (`Include/object.h`).
        let class = self.with(self.layout.type_flags, 1 << 30);
        let metaclass = self.with(self.layout.type_flags, 1 << 31);
        self.set(class, self.layout.object_type, metaclass);
        self.with(self.layout.object_type, class)
    }

    /// An object that is no exception, such as `None`.
    pub fn none(&mut self) -> u64 {
        let class = self.with(self.layout.type_flags, 1 << 31 | 1 << 12);
        self.with(self.layout.object_type, class)
    }
}
