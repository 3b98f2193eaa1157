//! For tests: objects of CPython 3.11 in a made-up process.

use super::object::{Objects, type_flag};
use crate::process::memory::tests::PageMap;
use probe_ebpf::python::Layout;
use probe_ebpf::python::tables::CPYTHON_3_11;
use proptest::prelude::*;

/// `Py_TPFLAGS_MANAGED_DICT`.
pub const MANAGED_DICT: u64 = 1 << 4;

pub static LAYOUT: Layout = CPYTHON_3_11;

/// Addresses of the types; objects follow.
pub const STR: u64 = 0x10_0000;
pub const INT: u64 = 0x11_0000;
pub const LIST: u64 = 0x12_0000;
pub const TUPLE: u64 = 0x13_0000;
pub const DICT: u64 = 0x14_0000;
pub const NONE_TYPE: u64 = 0x15_0000;
pub const FIRST_OBJECT: u64 = 0x20_0000;

#[derive(Default)]
pub struct TestHeap {
    pub map: PageMap,
    next: u64,
}

impl TestHeap {
    pub fn new() -> Self {
        let mut heap = Self {
            map: PageMap::default(),
            next: FIRST_OBJECT,
        };
        for (at, name, flag) in [
            (STR, "str", type_flag::UNICODE),
            (INT, "int", type_flag::LONG),
            (LIST, "list", type_flag::LIST),
            (TUPLE, "tuple", type_flag::TUPLE),
            (DICT, "dict", type_flag::DICT),
            (NONE_TYPE, "NoneType", 0),
        ] {
            heap.type_at(at, name, flag, 0, 0, 0);
        }
        heap
    }

    pub fn place(&mut self, bytes: &[u8]) -> u64 {
        let at = self.next;
        self.next += (bytes.len() as u64 + 63) & !15;
        self.map.put(at, bytes);
        at
    }

    pub fn words(&mut self, words: &[u64]) -> u64 {
        self.place(
            &words
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect::<Vec<_>>(),
        )
    }

    pub fn type_at(&mut self, at: u64, name: &str, flags: u64, base: u64, dict: u64, keys: u64) {
        let name = self.place(format!("{name}\0").as_bytes());
        let mut words = [0; 110];
        for (offset, value) in [
            (24, name),
            (168, flags),
            (256, base),
            (264, dict),
            (872, keys),
        ] {
            words[offset / 8] = value;
        }
        self.map.put_words(at, &words);
    }

    pub fn str_of(&mut self, kind: u64, ascii: bool, length: u64, data: &[u8]) -> u64 {
        let state = kind << 2 | 1 << 5 | u64::from(ascii) << 6;
        let mut words = vec![1, STR, length, 0, state, 0];
        if !ascii {
            words.extend([0, 0, 0]);
        }
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(data);
        bytes.extend([0; 4]);
        self.place(&bytes)
    }

    pub fn str(&mut self, text: &str) -> u64 {
        self.str_of(1, true, text.len() as u64, text.as_bytes())
    }

    pub fn int(&mut self, digits: &[u32], negative: bool) -> u64 {
        let size = (digits.len() as i64) * if negative { -1 } else { 1 };
        let mut bytes: Vec<u8> = [1, INT, size.cast_unsigned()]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        bytes.extend(digits.iter().flat_map(|digit| digit.to_le_bytes()));
        self.place(&bytes)
    }

    pub fn keys(&mut self, kind: u8, entries: &[(u64, u64)]) -> u64 {
        let mut bytes = vec![0; 32 + 8];
        (bytes[9], bytes[10]) = (3, kind);
        bytes[24..32].copy_from_slice(&(entries.len() as u64).to_le_bytes());
        for (key, value) in entries {
            if kind == 0 {
                bytes.extend([0xff; 8]);
            }
            bytes.extend(key.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        self.place(&bytes)
    }

    pub fn dict(&mut self, kind: u8, entries: &[(u64, u64)]) -> u64 {
        let keys = self.keys(kind, entries);
        self.words(&[1, DICT, 0, 0, keys, 0])
    }

    /// An instance of a class of this name, with these attributes in a dictionary.
    pub fn instance(&mut self, class: u64, name: &str, attributes: &[(&str, u64)]) -> u64 {
        let entries: Vec<_> = attributes
            .iter()
            .map(|&(name, value)| (self.str(name), value))
            .collect();
        let dict = self.dict(1, &entries);
        self.type_at(class, name, MANAGED_DICT, 0, 0, 0);
        self.words(&[0, dict, 0, 0, 1, class]) + 32
    }

    pub fn objects(&self) -> Objects<'_, PageMap> {
        Objects::new(&self.map, &LAYOUT)
    }
}

/// Memory full of words that mostly point into itself, or are small.
pub fn garbage() -> impl Strategy<Value = PageMap> {
    let word = prop_oneof![
        4 => (0_u64..0x800).prop_map(|at| 0x1000 + at * 8),
        2 => 0_u64..16,
        1 => any::<u64>(),
        1 => Just(u64::MAX),
    ];
    proptest::collection::vec(word, 0x900).prop_map(|words| {
        let mut map = PageMap::default();
        map.put_words(0x1000, &words);
        map
    })
}
