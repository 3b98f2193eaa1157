//! On made-up objects of CPython 3.11, and on garbage.

use super::super::test_heap::{LAYOUT, LIST, MANAGED_DICT, STR, TUPLE, TestHeap, garbage};
use super::super::threads;
use super::*;
use crate::process::memory::Snapshot;
use proptest::prelude::*;

#[test]
fn strings_of_every_width_are_read() {
    let mut heap = TestHeap::new();
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
    let mut heap = TestHeap::new();
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
    let mut heap = TestHeap::new();
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
    let mut heap = TestHeap::new();
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
    let mut heap = TestHeap::new();
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
fn a_slot_is_read_from_the_object_itself() {
    let mut heap = TestHeap::new();
    heap.type_at(0x32_0000, "member_descriptor", 0, 0, 0, 0);
    let (sock, hub) = (heap.str("_sock"), heap.str("hub"));
    let definitions = [40, 48].map(|offset| heap.words(&[0, 16, offset]));
    let [of_sock, of_hub] =
        definitions.map(|definition| heap.words(&[1, 0x32_0000, 0, 0, 0, definition]));
    let class_dict = heap.dict(1, &[(sock, of_sock), (hub, of_hub)]);
    heap.type_at(0x33_0000, "socket", MANAGED_DICT, 0, class_dict, 0);
    let object = heap.words(&[0, 0, 0, 0, 1, 0x33_0000, 0, 0, 0, 0x77, 0]) + 32;
    let objects = heap.objects();
    assert_eq!(objects.attribute(object, "_sock"), Ok(Some(0x77)));
    assert_eq!(objects.attribute(object, "hub"), Ok(None), "it is unbound");
}

#[test]
fn a_class_that_is_its_own_base_is_an_error() {
    let mut heap = TestHeap::new();
    heap.type_at(0x30_0000, "Loop", 0, 0x30_0000, 0, 0);
    assert_eq!(heap.objects().class_attribute(0x30_0000, "x"), Err(Fault));
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
        }
    }
}
