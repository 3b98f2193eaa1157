//! Objects of CPython 3.11 written into a made-up process, and garbage.

use super::super::threads;
use super::*;
use crate::gunicorn::arbiter::Arbiter;
use crate::gunicorn::handling;
use crate::gunicorn::worker;
use crate::gunicorn::worker::{Stage, StageNames, WorkerObject};
use crate::process::memory::Snapshot;
use crate::process::memory::tests::PageMap;
use probe_ebpf::python::tables::CPYTHON_3_11;
use proptest::prelude::*;

/// `Py_TPFLAGS_MANAGED_DICT`.
const MANAGED_DICT: u64 = 1 << 4;

static LAYOUT: Layout = CPYTHON_3_11;

/// Where the types of the made-up process are; instances follow.
const STR: u64 = 0x10_0000;
const INT: u64 = 0x11_0000;
const LIST: u64 = 0x12_0000;
const TUPLE: u64 = 0x13_0000;
const DICT: u64 = 0x14_0000;
const NONE_TYPE: u64 = 0x15_0000;
const FIRST_OBJECT: u64 = 0x20_0000;

#[derive(Default)]
struct Heap {
    map: PageMap,
    next: u64,
}

impl Heap {
    fn new() -> Self {
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

    fn place(&mut self, bytes: &[u8]) -> u64 {
        let at = self.next;
        self.next += (bytes.len() as u64 + 63) & !15;
        self.map.put(at, bytes);
        at
    }

    fn words(&mut self, words: &[u64]) -> u64 {
        self.place(
            &words
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect::<Vec<_>>(),
        )
    }

    fn type_at(&mut self, at: u64, name: &str, flags: u64, base: u64, dict: u64, keys: u64) {
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

    fn str_of(&mut self, kind: u64, ascii: bool, length: u64, data: &[u8]) -> u64 {
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

    fn str(&mut self, text: &str) -> u64 {
        self.str_of(1, true, text.len() as u64, text.as_bytes())
    }

    fn int(&mut self, digits: &[u32], negative: bool) -> u64 {
        let size = (digits.len() as i64) * if negative { -1 } else { 1 };
        let mut bytes: Vec<u8> = [1, INT, size.cast_unsigned()]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        bytes.extend(digits.iter().flat_map(|digit| digit.to_le_bytes()));
        self.place(&bytes)
    }

    fn keys(&mut self, kind: u8, entries: &[(u64, u64)]) -> u64 {
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

    fn dict(&mut self, kind: u8, entries: &[(u64, u64)]) -> u64 {
        let keys = self.keys(kind, entries);
        self.words(&[1, DICT, 0, 0, keys, 0])
    }

    fn objects(&self) -> Objects<'_, PageMap> {
        Objects::new(&self.map, &LAYOUT)
    }
}

#[test]
fn strings_of_every_width_are_read() {
    let mut heap = Heap::new();
    let ascii = heap.str("shop:app");
    let latin1 = heap.str_of(1, false, 4, b"caf\xe9");
    let ucs2 = heap.str_of(2, false, 2, &[0x16, 0x04, 0x00, 0xd8]);
    let ucs4 = heap.str_of(4, false, 1, &[0x80, 0xf9, 0x01, 0x00]);
    let endless = heap.str_of(1, true, u64::MAX, b"");
    let long = heap.str_of(1, true, 4097, &[b'x'; 4097]);
    let objects = heap.objects();
    assert_eq!(objects.text(ascii).as_deref(), Ok("shop:app"));
    assert_eq!(objects.text(latin1).as_deref(), Ok("café"));
    assert_eq!(objects.text(ucs2).as_deref(), Ok("Ж\u{fffd}"));
    assert_eq!(objects.text(ucs4).as_deref(), Ok("🦀"));
    assert_eq!(objects.text(endless), Err(Fault));
    assert_eq!(objects.text(long), Err(Fault));
    assert_eq!(objects.text(STR), Err(Fault));
}

#[test]
fn integers_of_either_sign_are_read_unless_too_large() {
    let mut heap = Heap::new();
    let cases = [
        (heap.int(&[], false), Ok(0)),
        (heap.int(&[30], false), Ok(30)),
        (heap.int(&[1, 1], true), Ok(-(1 + (1 << 30)))),
        (heap.int(&[0, 0, 8], true), Ok(i64::MIN)),
        (heap.int(&[0, 0, 8], false), Err(Fault)),
        (heap.int(&[1 << 30], false), Err(Fault)),
        (heap.int(&[1, 1, 1, 1], false), Err(Fault)),
        (heap.str("30"), Err(Fault)),
    ];
    for (object, expected) in cases {
        assert_eq!(heap.objects().int(object), expected);
    }
}

#[test]
fn a_list_and_a_tuple_give_their_items_and_a_huge_one_an_error() {
    let mut heap = Heap::new();
    let items = heap.words(&[7, 8, 9]);
    let list = heap.words(&[1, LIST, 3, items]);
    let tuple = heap.words(&[1, TUPLE, 2, 5, 6]);
    let huge = heap.words(&[1, LIST, 1 << 40, items]);
    let objects = heap.objects();
    assert_eq!(objects.items(list), Ok(vec![7, 8, 9]));
    assert_eq!(objects.items(tuple), Ok(vec![5, 6]));
    assert_eq!(objects.items(huge), Err(Fault));
}

#[test]
fn dictionaries_of_both_entry_sizes_skip_what_was_deleted() {
    let mut heap = Heap::new();
    let (name, other) = (heap.str("bind"), heap.str("workers"));
    for kind in [0, 1] {
        let dict = heap.dict(kind, &[(other, 0), (name, 0x77)]);
        assert_eq!(heap.objects().entries(dict), Ok(vec![(name, 0x77)]));
        assert_eq!(heap.objects().get(dict, "bind"), Ok(Some(0x77)));
        assert_eq!(heap.objects().get(dict, "workers"), Ok(None));
    }
}

#[test]
fn attributes_come_from_values_then_dict_then_class_then_its_base() {
    let mut heap = Heap::new();
    let (age, pid, workers) = (heap.str("age"), heap.str("pid"), heap.str("WORKERS"));
    let base_dict = heap.dict(1, &[(workers, 0x51)]);
    let class_dict = heap.dict(1, &[(age, 0x52)]);
    let keys = heap.keys(2, &[(age, 0), (pid, 0)]);
    heap.type_at(0x30_0000, "Base", MANAGED_DICT, 0, base_dict, 0);
    heap.type_at(
        0x31_0000,
        "Child",
        MANAGED_DICT,
        0x30_0000,
        class_dict,
        keys,
    );
    let values = heap.words(&[0, 0x61]);
    let by_values = heap.words(&[values, 0, 0, 0, 1, 0x31_0000]) + 32;
    let dict = heap.dict(1, &[(age, 0x71)]);
    let by_dict = heap.words(&[0, dict, 0, 0, 1, 0x31_0000]) + 32;
    let objects = heap.objects();
    assert_eq!(objects.attribute(by_values, "pid"), Ok(Some(0x61)));
    assert_eq!(objects.attribute(by_values, "age"), Ok(Some(0x52)));
    assert_eq!(objects.attribute(by_dict, "age"), Ok(Some(0x71)));
    assert_eq!(objects.attribute(by_dict, "pid"), Ok(None));
    assert_eq!(objects.attribute(by_dict, "WORKERS"), Ok(Some(0x51)));
    assert_eq!(objects.type_name(0x31_0000).as_deref(), Ok("Child"));
}

#[test]
fn a_class_that_is_its_own_base_is_an_error() {
    let mut heap = Heap::new();
    heap.type_at(0x30_0000, "Loop", 0, 0x30_0000, 0, 0);
    assert_eq!(heap.objects().class_attribute(0x30_0000, "x"), Err(Fault));
}

const FUNCTION: u64 = 0x16_0000;

/// What a method is, of which a class consists here: its file, and a name its code uses.
type Method<'a> = (&'a str, &'a str, &'a str);

/// A class behind others in the order its methods are looked for.
fn class(heap: &mut Heap, at: u64, name: &str, methods: &[Method<'_>], behind: &[u64]) -> u64 {
    let mut entries = Vec::new();
    for (method, file, uses) in methods {
        let (name, file, uses) = (heap.str(method), heap.str(file), heap.str(uses));
        let names = heap.words(&[1, TUPLE, 1, uses]);
        let mut code = [0; 20];
        (code[4], code[14], code[15]) = (names, file, name);
        let code = heap.words(&code);
        entries.push((name, heap.words(&[1, FUNCTION, 0, 0, 0, 0, code])));
    }
    let dict = heap.dict(1, &entries);
    heap.type_at(FUNCTION, "function", 0, 0, 0, 0);
    heap.type_at(at, name, 0, 0, dict, 0);
    let order: Vec<u64> = behind.iter().copied().chain([at]).rev().collect();
    let mro = [&[1, TUPLE, order.len() as u64], order.as_slice()].concat();
    let mro = heap.words(&mro);
    heap.map.put_words(at + 344, &[mro]);
    at
}

#[test]
fn a_class_is_seen_in_python_if_its_methods_lead_to_gunicorns() {
    const FILE: &str = "/venv/lib/gunicorn/workers/sync.py";
    let mut heap = Heap::new();
    let sync = [
        ("run", FILE, "x"),
        ("handle", FILE, "x"),
        ("handle_request", FILE, "x"),
    ];
    let sync = class(&mut heap, 0x30_0000, "SyncWorker", &sync, &[]);
    let mut derived = |at, method: Method<'_>| class(&mut heap, at, "Mine", &[method], &[sync]);
    let named = derived(0x31_0000, ("init_process", "/a.py", "x"));
    let calls_on = derived(0x32_0000, ("handle_request", "/a.py", "handle_request"));
    let own = derived(0x33_0000, ("handle_request", "/a.py", "x"));
    let own_run = derived(0x34_0000, ("run", "/a.py", "serve_forever"));
    let server = derived(0x35_0000, ("server_class", "/a.py", "x"));
    let none = class(&mut heap, 0x36_0000, "UvicornWorker", &[], &[]);
    let objects = heap.objects();
    for seen in [sync, named, calls_on] {
        assert_eq!(handling::own_way(&objects, seen), Ok(None));
    }
    for (class, reason) in [
        (own, "Mine has a handle_request of its own"),
        (own_run, "Mine has a run of its own"),
        (server, "Mine hands its connections to another server"),
        (none, "UvicornWorker has no handle_request"),
    ] {
        let found = handling::own_way(&objects, class).unwrap().unwrap();
        assert!(found.contains(reason), "{found}");
    }
    assert_eq!(handling::own_way(&objects, 0x99_0000), Err(Fault));
}

/// An instance of a class of this name, with these attributes in a dictionary.
fn instance(heap: &mut Heap, class: u64, name: &str, attributes: &[(&str, u64)]) -> u64 {
    let entries: Vec<_> = attributes
        .iter()
        .map(|&(name, value)| (heap.str(name), value))
        .collect();
    let dict = heap.dict(1, &entries);
    heap.type_at(class, name, MANAGED_DICT, 0, 0, 0);
    heap.words(&[0, dict, 0, 0, 1, class]) + 32
}

#[test]
fn a_heartbeat_is_that_of_the_file_with_or_without_a_buffer() {
    let mut heap = Heap::new();
    heap.type_at(0x30_0000, "_io.FileIO", 0, 0, 0, 0);
    heap.type_at(0x31_0000, "_io.BufferedRandom", 0, 0, 0, 0);
    let file = heap.words(&[1, 0x30_0000, 7]);
    let closed = heap.words(&[1, 0x30_0000, u64::from(u32::MAX)]);
    let buffered = heap.words(&[1, 0x31_0000, file]);
    let odd = heap.words(&[1, 0x31_0000, buffered]);
    let text = heap.str("7");
    let found = [file, buffered, closed, odd, text].map(|file| {
        let tmp = instance(&mut heap, 0x32_0000, "WorkerTmp", &[("_tmp", file)]);
        worker::heartbeat_fd(&heap.objects(), tmp)
    });
    assert_eq!(found, [Ok(7), Ok(7), Err(Fault), Err(Fault), Err(Fault)]);
}

#[test]
fn a_worker_tells_how_far_it_is_as_far_as_it_can_be_read() {
    let mut heap = Heap::new();
    let (no, yes, other) = (
        heap.int(&[], false),
        heap.int(&[1], false),
        heap.int(&[2], false),
    );
    let stage = |heap: &Heap, address| {
        let objects = heap.objects();
        let attributes = objects.instance_attributes(address);
        let object = WorkerObject {
            address,
            heartbeat_fd: None,
            names: StageNames::among(&objects, &attributes.unwrap_or_default()),
        };
        object.stage(&objects)
    };
    let worker = [("age", other), ("booted", no), ("alive", yes)];
    let worker = instance(&mut heap, 0x30_0000, "SyncWorker", &worker);
    let half = instance(&mut heap, 0x30_0000, "SyncWorker", &[("booted", other)]);
    let (booted, alive) = (Some(false), Some(true));
    assert_eq!(stage(&heap, worker), Stage { booted, alive });
    assert_eq!(stage(&heap, half), Stage::default());
    assert_eq!(stage(&heap, 0x99_0000), Stage::default());
}

#[test]
fn the_listeners_of_a_master_are_sockets_of_the_interpreters_own() {
    let mut heap = Heap::new();
    heap.type_at(0x30_0000, "_socket.socket", 0, 0, 0, 0);
    heap.type_at(0x31_0000, "socket", 0, 0x30_0000, 0, 0);
    heap.type_at(0x32_0000, "socket", 0, 0, 0, 0);
    let sockets = [(0x30_0000, 5), (0x31_0000, 6), (0x32_0000, 7)];
    let [plain, derived, replaced] = sockets.map(|(class, fd)| {
        let socket = heap.words(&[1, class, fd]);
        instance(&mut heap, 0x33_0000, "TCPSocket", &[("sock", socket)])
    });
    let found = [vec![plain, derived], vec![plain, replaced], vec![]].map(|listeners| {
        let items = heap.words(&listeners);
        let list = heap.words(&[1, LIST, listeners.len() as u64, items]);
        let arbiter = instance(&mut heap, 0x34_0000, "Arbiter", &[("LISTENERS", list)]);
        Arbiter::at(arbiter, 0).listeners(&heap.objects())
    });
    assert_eq!(found, [Ok(vec![5, 6]), Err(Fault), Ok(vec![])]);
}

/// Memory full of words that mostly point into itself, or are small.
fn garbage() -> impl Strategy<Value = PageMap> {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_never_panics_and_never_loops(map in garbage(), start in 0_u64..0x800) {
        let memory = Snapshot::new(map);
        let objects = Objects::new(&memory, &LAYOUT);
        for at in [0x1000 + start * 8, start, u64::MAX - start] {
            let _ = objects.text(at);
            let _ = objects.int(at);
            let _ = objects.is_none(at);
            let _ = objects.items(at);
            let _ = objects.entries(at);
            let _ = objects.attribute(at, "pid");
            let _ = threads::threads(&memory, &LAYOUT, at);
            let _ = threads::frames(&memory, &LAYOUT, at);
            if let Ok(Some(arbiter)) = Arbiter::find(&objects, at) {
                let _ = arbiter.workers(&objects);
                let _ = arbiter.settings(&objects);
            }
            let arbiter = Arbiter::at(at, at);
            let _ = arbiter.workers(&objects);
            let _ = arbiter.settings(&objects);
            let _ = arbiter.listeners(&objects);
            let _ = arbiter.own_way(&objects);
            let _ = worker::heartbeat_fd(&objects, at);
            let object = WorkerObject {
                address: at,
                heartbeat_fd: None,
                names: StageNames::default(),
            };
            let _ = object.stage(&objects);
            let _ = handling::own_way(&objects, at);
        }
    }
}
