extern crate std;

use super::*;
use crate::python::test_heap::{TestHeap, layouts};
use std::vec::Vec;

const NAMES: [Name; FIELDS] = [
    Name::new("method"),
    Name::new("path"),
    Name::new("unreader"),
    Name::new("lacking"),
    Name::new("lacking_too"),
];
/// Attributes of the class, in order.
const KEYS: [&str; 5] = ["meth", "method", "paths", "path", "unreader"];

/// Where an object keeps its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Beside the object.
    Inline,
    /// In a dictionary that shares the keys of its class.
    Shared,
    /// In a dictionary of its own.
    Own,
}

const WAYS: [Way; 3] = [Way::Inline, Way::Shared, Way::Own];

/// A class, and the names that its objects share.
struct Class {
    heap: TestHeap,
    class: u64,
    names: Vec<u64>,
}

impl Class {
    fn new(layout: Layout) -> Self {
        let mut heap = TestHeap::new(layout);
        let dict = heap.dict(&KEYS.map(|name| (name, 0)));
        let keys = heap.word(dict + u64::from(layout.dict_keys)).unwrap();
        let class = heap.with(layout.type_cached_keys, keys);
        let entries = layout.entries(&heap, keys).unwrap();
        let names = (0..KEYS.len() as u64).map(|n| heap.word(entries.key_at(n)).unwrap());
        let names = names.collect();
        Self { heap, class, names }
    }

    fn keys(&self) -> u64 {
        let at = self.class + u64::from(self.heap.layout.type_cached_keys);
        self.heap.word(at).unwrap()
    }

    /// An object whose attributes count up from `first`.
    fn object(&mut self, way: Way, first: u64) -> u64 {
        let object = self.heap.new_object() + 64;
        self.heap
            .set(object, self.heap.layout.object_type, self.class);
        self.keep(object, way, first);
        object
    }

    /// Moves the attributes of an object.
    fn keep(&mut self, object: u64, way: Way, first: u64) {
        let layout = self.heap.layout;
        let values: Vec<u64> = (first..).take(KEYS.len()).collect();
        let block = self.heap.new_object();
        for (at, value) in (block + u64::from(layout.values_first)..)
            .step_by(8)
            .zip(&values)
        {
            self.heap.put(at, &value.to_le_bytes());
        }
        let dict = match way {
            Way::Inline => 0,
            Way::Shared => {
                let dict = self.heap.with(layout.dict_keys, self.keys());
                self.heap.set(dict, layout.dict_values, block);
                dict
            }
            Way::Own => {
                let entries: Vec<_> = KEYS.into_iter().zip(values).collect();
                let dict = self.heap.dict(&entries);
                let keys = self.heap.word(dict + u64::from(layout.dict_keys)).unwrap();
                // Names are interned: each is one object.
                let places = layout.entries(&self.heap, keys).unwrap();
                for (n, name) in (0..).zip(&self.names) {
                    self.heap.put(places.key_at(n), &name.to_le_bytes());
                }
                dict
            }
        };
        self.link(object, block, dict);
    }

    /// Lets an object find its values or its dictionary.
    fn link(&mut self, object: u64, block: u64, dict: u64) {
        let layout = self.heap.layout;
        let (before32, before24) = (object - 32, object - 24);
        let words = if layout.inline_values == InlineValues::Dict as u32 {
            [(object + 16, dict), (before24, 0)]
        } else if layout.inline_values == InlineValues::Before32 as u32 {
            [
                (before32, if dict == 0 { block } else { 0 }),
                (before24, dict),
            ]
        } else if layout.inline_values == InlineValues::Tagged24 as u32 {
            [
                (before32, 0),
                (before24, if dict == 0 { block - 1 } else { dict }),
            ]
        } else {
            let mut values = [0; 64];
            if self.heap.read(block, &mut values).is_ok() {
                self.heap.put(object + 16, &values);
            }
            [(before32, 0), (before24, dict)]
        };
        for (at, word) in words {
            self.heap.put(at, &word.to_le_bytes());
        }
    }

    fn learn(&self, object: u64) -> Result<Shape, Fault> {
        let mut shape = Shape::NONE;
        let layout = &self.heap.layout;
        learn(
            &self.heap,
            layout,
            object,
            &NAMES,
            &mut shape,
            &mut [0; SPACE],
        )
        .map(|()| shape)
    }

    fn read(&self, object: u64, shape: &Shape) -> Result<[u64; FIELDS], Fault> {
        read(
            &self.heap,
            &self.heap.layout,
            object,
            shape,
            &mut [0; SPACE],
        )
    }
}

/// Each way of each version, with a new class.
fn all() -> Vec<(Way, Class)> {
    let mut all = Vec::new();
    for (_, layout) in layouts() {
        let has_inline = layout.inline_values != InlineValues::Dict as u32;
        for way in WAYS {
            if has_inline || way != Way::Inline {
                all.push((way, Class::new(layout)));
            }
        }
    }
    all
}

#[test]
fn attributes_are_read_where_they_were_found() {
    for (way, mut class) in all() {
        let [first, second] = [class.object(way, 100), class.object(way, 200)];
        let shape = class.learn(first).unwrap();
        assert_eq!(shape.class, class.class);
        assert_eq!(
            class.read(first, &shape),
            Ok([101, 103, 104, 0, 0]),
            "{way:?}"
        );
        assert_eq!(
            class.read(second, &shape),
            Ok([201, 203, 204, 0, 0]),
            "{way:?}"
        );
    }
}

#[test]
fn an_object_that_changes_its_way_is_learned_again() {
    for (way, mut class) in all() {
        for other in WAYS.into_iter().filter(|&other| other != way) {
            if class.heap.layout.inline_values == InlineValues::Dict as u32 && other == Way::Inline
            {
                continue;
            }
            let object = class.object(way, 100);
            let shape = class.learn(object).unwrap();
            class.keep(object, other, 300);
            let is_alike = way != Way::Own && other != Way::Own;
            let expected = if is_alike {
                Ok([301, 303, 304, 0, 0])
            } else {
                Err(Fault)
            };
            assert_eq!(class.read(object, &shape), expected, "{way:?} {other:?}");
            let shape = class.learn(object).unwrap();
            assert_eq!(class.read(object, &shape), Ok([301, 303, 304, 0, 0]));
        }
    }
}

#[test]
fn a_shape_is_that_of_its_class_only() {
    for (way, mut class) in all() {
        let object = class.object(way, 100);
        let shape = class.learn(object).unwrap();
        assert_eq!(class.read(object, &Shape::NONE), Err(Fault));
        class.class = class.heap.new_object();
        let other = class.object(Way::Own, 100);
        assert_eq!(class.read(other, &shape), Err(Fault), "{way:?}");
    }
}

#[test]
fn a_dictionary_with_other_names_is_noticed() {
    for (way, mut class) in all() {
        if way == Way::Inline {
            continue;
        }
        let object = class.object(way, 100);
        let shape = class.learn(object).unwrap();
        // Another order of keys.
        let last = class.names.pop().unwrap();
        class.names.insert(0, last);
        class.keep(object, Way::Own, 100);
        assert_eq!(class.read(object, &shape), Err(Fault), "{way:?}");
    }
}

#[test]
fn an_unreadable_object_has_no_attributes() {
    for (way, mut class) in all() {
        let object = class.object(way, 100);
        let shape = class.learn(object).unwrap();
        for bad in [0, 8, u64::MAX, u64::MAX - 40, 1 << 40] {
            assert_eq!(class.learn(bad), Err(Fault));
            assert_eq!(class.read(bad, &shape), Err(Fault));
        }
    }
}

#[test]
fn what_an_object_leads_to_may_be_unreadable() {
    for (way, mut class) in all() {
        let object = class.object(way, 100);
        let shape = class.learn(object).unwrap();
        let is_trailing = class.heap.layout.inline_values == InlineValues::Trailing as u32;
        if way == Way::Inline && is_trailing {
            continue; // its values are its own memory
        }
        let bad = u64::MAX - 63;
        class.link(object, bad, if way == Way::Inline { 0 } else { bad });
        assert_eq!(class.read(object, &shape), Err(Fault), "{way:?}");
        // Its class alone leads to the names of values beside the object.
        assert_eq!(class.learn(object).is_ok(), way == Way::Inline, "{way:?}");
    }
}

/// Where other keys follow in memory, of another dictionary.
#[test]
fn keys_behind_the_last_are_of_something_else() {
    let (_, layout) = layouts().remove(0);
    let mut heap = TestHeap::new(layout);
    let mut entries = [("other", 0); 31];
    (entries[29], entries[30]) = (("path", 5), ("path", 6));
    let dict = heap.dict(&entries);
    let keys = heap.word(dict + u64::from(layout.dict_keys)).unwrap();
    heap.set(keys, layout.keys_nentries, 30);
    let class = heap.new_object();
    let object = heap.new_object() + 64;
    heap.set(object, layout.object_type, class);
    heap.put(object + 16, &dict.to_le_bytes());
    let class = Class {
        heap,
        class,
        names: Vec::new(),
    };
    let shape = class.learn(object).unwrap();
    assert_eq!(class.read(object, &shape), Ok([0, 5, 0, 0, 0]));
}

#[test]
fn names_of_any_length_are_whole_names_up_to_eight_letters() {
    let text = |text: &[u8]| {
        let mut bytes = [0xff; 16];
        bytes[..text.len()].copy_from_slice(text);
        bytes[text.len()] = 0;
        u64::from_le_bytes(*bytes.first_chunk().unwrap())
    };
    let all = "abcdefgh";
    for length in 1..=8 {
        for other in 0..=8 {
            let is = Name::new(&all[..length]).is(text(&all.as_bytes()[..other]));
            let wanted = if length == other { u64::MAX } else { 0 };
            assert_eq!(is, wanted, "{length} {other}");
        }
    }
    // More letters than are compared.
    assert_eq!(Name::new("abcdefgh_").is(text(b"abcdefghi")), u64::MAX);
    assert_eq!(Name::NONE.is(0), 0);
}
