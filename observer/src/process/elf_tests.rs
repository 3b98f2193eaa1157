//! On the test's own executable, made-up files and damaged ones.

use super::*;
use probe_ebpf::memory::Memory;

fn own() -> Vec<u8> {
    std::fs::read("/proc/self/exe").unwrap()
}

#[test]
fn a_symbol_of_the_own_executable_is_found_in_file_and_memory() {
    let bytes = own();
    let image = Image::parse(bytes.as_slice()).unwrap();
    let address = image.symbol("main").unwrap();
    let maps = super::super::maps::parse(&std::fs::read("/proc/self/maps").unwrap());
    let exe = std::env::current_exe().unwrap();
    let bias = image
        .load_bias(maps.iter().filter(|m| m.path == exe))
        .unwrap();
    let memory = super::super::memory::ProcessMemory::new(std::process::id());
    assert_eq!(
        memory.word(bias.wrapping_add(address)).ok(),
        image.word(address)
    );
    assert!(image.file_offset(address).is_some());
    assert!(image.word(address).is_some());
}

#[test]
fn a_file_without_the_method_says_so() {
    let bytes = own();
    let image = Image::parse(bytes.as_slice()).unwrap();
    let error = image
        .method("now", &["now(", "$nothing"].concat())
        .unwrap_err();
    assert!(matches!(error, ElfError::NoMethod { .. }), "{error}");
}

#[test]
fn a_file_that_is_not_elf_is_refused() {
    assert!(Image::parse(b"#!/bin/sh\n".as_slice()).is_err());
    assert!(Image::parse(b"".as_slice()).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(1024))]
    #[test]
    fn a_damaged_file_never_panics(damage: Vec<(u16, u8)>, cut in 0usize..0x400) {
        let mut bytes = with_methods(&["new", "now"]);
        bytes.truncate(0x400 - cut);
        for (at, value) in damage {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        if let Ok(image) = Image::parse(bytes.as_slice()) {
            let _ = image.symbol("x");
            let _ = image.method("now", "now($type");
            let _ = image.init_of("now", "now($type");
            let _ = image.getter("now");
            let _ = image.file_offset(0x1000);
        }
    }
}

/// A file of two segments: code at 0x40_0200, and data at 0x50_0300 that holds
/// the strings and, 64 bytes on, a method definition per given name.
fn with_methods(names: &[&str]) -> Vec<u8> {
    const DATA: u64 = 0x50_0300;
    let mut bytes = vec![0; 0x400];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0, 1]); // ET_EXEC, EM_X86_64
    put(32, &64_u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 2, 0, 64]);
    for (at, flags, offset, address) in [(64, 5, 0x200, 0x40_0200_u64), (120, 6, 0x300, DATA)] {
        put(at, &1_u32.to_le_bytes());
        put(at + 4, &[flags]);
        for (i, word) in [offset, address, address, 0x100, 0x100, 0x1000]
            .into_iter()
            .enumerate()
        {
            put(at + 8 + 8 * i, &word.to_le_bytes());
        }
    }
    put(0x300, b"x\0now($type, tz=None)\n\0now\0new\0");
    for (i, name) in names.iter().enumerate() {
        let name = if *name == "now" { DATA + 23 } else { DATA + 27 };
        let function = 0x40_0210 + 8 * i as u64;
        for (j, word) in [name, function, 0x92, DATA + 2].into_iter().enumerate() {
            put(0x340 + 32 * i + 8 * j, &word.to_le_bytes());
        }
    }
    bytes
}

#[test]
fn a_method_is_found_by_its_definition_alone() {
    let find = |names: &[&str]| {
        let bytes = with_methods(names);
        let image = Image::parse(bytes.as_slice()).unwrap();
        image
            .method("now", "now($type")
            .map(|at| (at, image.file_offset(at)))
    };
    assert_eq!(find(&["now"]).unwrap(), (0x40_0210, Some(0x210)));
    assert_eq!(find(&["new", "now"]).unwrap(), (0x40_0218, Some(0x218)));
    assert!(matches!(find(&["new"]), Err(ElfError::NoMethod { .. })));
    assert!(matches!(
        find(&["now", "now"]),
        Err(ElfError::ManyMethods { count: 2, .. })
    ));
}

/// A file of two segments: code at 0x40_0200, and data at 0x50_0300 that holds these words and, behind them,
/// this string.
fn with_data(words: &[u64], string: &[u8]) -> Vec<u8> {
    let mut bytes = with_methods(&[]);
    let data_bytes = 0x400_u64.to_le_bytes();
    bytes[120 + 32..120 + 40].copy_from_slice(&data_bytes);
    bytes[120 + 40..120 + 48].copy_from_slice(&data_bytes);
    bytes.truncate(0x300);
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend(string);
    bytes.resize(0x300 + 0x400, 0);
    bytes
}

const DATA: u64 = 0x50_0300;
const INIT: u64 = 0x40_0210;

#[test]
fn the_init_of_a_type_is_found_by_its_doc_string() {
    const STRINGS: &[u8] = b"\0_x.Task\0Task(coro, *)\0";
    let find = |words: &[u64]| {
        let bytes = with_data(words, STRINGS);
        let image = Image::parse(bytes.as_slice()).unwrap();
        image.init_of("_x.Task", "Task(coro")
    };
    // Of a static type: `tp_name`, `tp_doc`, `tp_init`.
    let mut words = [0; 40];
    let strings = DATA + 8 * 40;
    (words[3], words[22], words[37]) = (strings + 1, strings + 9, INIT);
    assert_eq!(find(&words).unwrap(), INIT);
    words[3] = strings + 9;
    assert!(matches!(
        find(&words),
        Err(ElfError::Types { count: 0, .. })
    ));
    // Among slots: `tp_dealloc`, `tp_doc`, `tp_init`, and the end.
    for slots in [
        [52, 0x40_0280, 56, DATA + 73, 60, INIT, 0, 0],
        [60, INIT, 52, 0x40_0280, 56, DATA + 73, 0, 0],
    ] {
        assert_eq!(find(&slots).unwrap(), INIT);
    }
    let without = [52, 0x40_0280, 56, DATA + 73, 0, 0, 60, INIT];
    assert!(find(&without).is_err());
    let in_data = [60, DATA, 56, DATA + 73, 0, 0, 0, 0];
    assert!(find(&in_data).is_err());
}

#[test]
fn a_getter_is_found_by_the_name_of_its_attribute() {
    let find = |words: &[u64]| {
        let bytes = with_data(words, b"\0__traceback__\0");
        let image = Image::parse(bytes.as_slice()).unwrap();
        image.getter("__traceback__")
    };
    // `PyGetSetDef`: name, getter, setter, doc string, closure.
    let name = DATA + 41;
    assert_eq!(find(&[name, INIT, 0x40_0280, 0, 0]).unwrap(), INIT);
    // Another table that names it.
    let error = find(&[name, INIT, 0, 0, 0]);
    assert!(matches!(error, Err(ElfError::Getters { count: 0, .. })));
    let other = find(&[name, DATA, 0x40_0280, 0, 0]);
    assert!(matches!(other, Err(ElfError::Getters { count: 0, .. })));
}

#[test]
fn the_load_bias_is_none_for_a_file_that_is_not_moved() {
    let bytes = with_methods(&[]);
    let image = Image::parse(bytes.as_slice()).unwrap();
    let maps = super::super::maps::parse(b"400000-401000 r-xp 0 0:0 1 /python3.11");
    assert_eq!(image.load_bias(&maps), Some(0));
    let maps = super::super::maps::parse(b"7f0000400000-7f0000401000 r-xp 0 0:0 1 /python3.11");
    assert_eq!(image.load_bias(&maps), Some(0x7f00_0000_0000));
    assert_eq!(image.load_bias(&[]), None);
}

#[test]
fn exported_symbols_are_distinguished_from_imported_ones() {
    let maps = super::super::maps::parse(&std::fs::read("/proc/self/maps").unwrap());
    let libc = maps.iter().find(|m| m.file_name() == "libc.so.6").unwrap();
    let libc = std::fs::read(&libc.path).unwrap();
    assert!(exports(libc.as_slice(), &["malloc", "free"]).unwrap());
    assert!(!exports(libc.as_slice(), &["malloc", "_PyRuntime"]).unwrap());
    assert!(!exports(own().as_slice(), &["malloc"]).unwrap());
    assert!(!exports(with_methods(&[]).as_slice(), &["malloc"]).unwrap());
    assert!(exports(b"#!/bin/sh\n".as_slice(), &[]).is_err());
}
