extern crate std;

use super::super::test_heap::{TestHeap, layouts};
use super::*;
use proptest::prelude::*;
use std::string::String;
use std::vec::Vec;

fn class_of(heap: &TestHeap, class: u64) -> (String, String) {
    let mut names = ClassNames::EMPTY;
    heap.layout.class_names(heap, class, &mut names);
    let end = names.name.iter().position(|&byte| byte == 0);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        text(&names.module[..usize::from(names.module_len)]),
        text(&names.name[..end.unwrap_or(CLASS_BYTES)]),
    )
}

/// A class with this `tp_name`.
fn class(heap: &mut TestHeap, name: &str) -> u64 {
    let text = heap.new_object();
    heap.put(text, name.as_bytes());
    heap.with(heap.layout.type_name, text)
}

/// A class as `class …:` makes it: its module is at index `at` of its dictionary.
fn heap_class(heap: &mut TestHeap, name: &str, module: u64, at: usize) -> u64 {
    let mut entries = std::vec![("__qualname__", 0); at];
    entries.push(("__module__", module));
    let dict = heap.dict(&entries);
    let class = class(heap, name);
    heap.set(class, heap.layout.type_dict, dict);
    class
}

#[test]
fn a_class_has_its_name_and_its_module() {
    for (version, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let module = heap.str("shop.errors");
        for at in [0, 1, 5] {
            let of_heap = heap_class(&mut heap, "OutOfStock", module, at);
            let (module, name) = class_of(&heap, of_heap);
            assert_eq!(
                (&*module, &*name),
                ("shop.errors", "OutOfStock"),
                "{version}"
            );
        }
        let late = heap_class(&mut heap, "OutOfStock", module, 6);
        let (module, name) = class_of(&heap, late);
        assert_eq!((&*module, &*name), ("", "OutOfStock"), "{version}");
        let of_c = class(&mut heap, "zlib.error");
        let (module, name) = class_of(&heap, of_c);
        assert_eq!((&*module, &*name), ("", "zlib.error"), "{version}");
    }
}

#[test]
fn a_key_that_only_begins_with_the_wanted_name_does_not_match() {
    for (version, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let (wrong, right) = (heap.str("wrong"), heap.str("right"));
        let dict = heap.dict(&[("__module__x", wrong), ("__module__", right)]);
        let class = class(&mut heap, "E");
        heap.set(class, layout.type_dict, dict);
        assert_eq!(class_of(&heap, class).0, "right", "{version}");
    }
}

#[test]
fn names_longer_than_their_buffer_are_cut() {
    for (version, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        for length in [1, 7, 8, 9, 63, 64, 65, 500] {
            let name = "n".repeat(length);
            let module = heap.str(&name);
            let class = heap_class(&mut heap, &name, module, 0);
            let (module, kept) = class_of(&heap, class);
            assert_eq!(kept.len(), length.min(CLASS_BYTES), "{version}");
            assert_eq!(module.len(), length.min(MODULE_BYTES), "{version}");
        }
    }
}

#[test]
fn a_module_with_a_wide_name_is_left_out() {
    for (version, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let latin1 = heap.str_of(1, false, b"caf\xe9");
        let wide = heap.str_of(2, false, &[0x16, 0x04]);
        let mut names = ClassNames::EMPTY;
        for (module, expected) in [(latin1, &b"caf\xe9"[..]), (wide, b"")] {
            let class = heap_class(&mut heap, "E", module, 0);
            layout.class_names(&heap, class, &mut names);
            let kept = &names.module[..usize::from(names.module_len)];
            assert_eq!(kept, expected, "{version}");
        }
    }
}

/// A frame of a function with this name, in a file and a module.
fn frame(heap: &mut TestHeap, function: u64, file: u64, globals: u64) -> u64 {
    let layout = heap.layout;
    let code = heap.with(layout.code_filename, file);
    if layout.code_qualname == DIRECT {
        heap.set(code, layout.code_name, function);
    } else {
        let short = heap.str("not this");
        heap.set(code, layout.code_name, short);
        heap.set(code, layout.code_qualname, function);
    }
    let frame = heap.with(layout.frame_code, code);
    heap.set(frame, layout.frame_globals, globals);
    frame
}

fn names_of(heap: &TestHeap, frame: u64) -> FrameNames {
    let mut names = FrameNames::EMPTY;
    heap.layout.frame_names(heap, frame, &mut names);
    names
}

#[test]
fn a_frame_has_the_names_of_its_function_file_and_module() {
    for (version, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let (function, file) = (heap.str("Cart.total"), heap.str("/srv/shop/cart.py"));
        let module = heap.str("shop.cart");
        let globals = heap.dict(&[("__name__", module)]);
        let plain = frame(&mut heap, function, file, globals);
        // From 3.14 on references are tagged.
        let code = heap.peek(plain + u64::from(layout.frame_code));
        let tagged = heap.with(layout.frame_code, code | 1);
        heap.set(tagged, layout.frame_globals, globals);
        for frame in [plain, tagged] {
            let names = names_of(&heap, frame);
            assert_eq!(&names.function[..10], b"Cart.total", "{version}");
            assert_eq!(&names.file[..17], b"/srv/shop/cart.py", "{version}");
            assert_eq!(&names.module[..9], b"shop.cart", "{version}");
            let lengths = [names.function_len, names.file_len, names.module_len];
            assert_eq!(lengths, [10, 17, 9], "{version}");
            assert_eq!([names.function_width, names.file_width], [1, 1]);
        }
    }
}

#[test]
fn long_names_keep_whole_characters_of_their_end_at_every_width() {
    for (version, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let globals = heap.dict(&[("__file__", 0)]);
        for (width, is_ascii) in [(1, true), (1, false), (2, false), (4, false)] {
            for characters in [0, 1, 15, 16, 17, 33, 129] {
                let bytes: Vec<u8> = (0..characters * width)
                    .map(|at| u8::try_from(at / width).unwrap())
                    .collect();
                let text = heap.str_of(width as u64, is_ascii, &bytes);
                let frame = frame(&mut heap, text, text, globals);
                let names = names_of(&heap, frame);
                let tail = |room: usize| &bytes[bytes.len().saturating_sub(room)..];
                let function = &names.function[..usize::from(names.function_len)];
                let file = &names.file[..usize::from(names.file_len)];
                assert_eq!(function, tail(FUNCTION_BYTES), "{version} {width}");
                assert_eq!(file, tail(FILE_BYTES), "{version} {width}");
                assert_eq!(usize::from(names.function_width), width);
                assert_eq!(usize::from(names.file_width), width);
                assert_eq!(names.module_len, 0);
            }
        }
    }
}

#[test]
fn unreadable_memory_has_empty_names() {
    for (version, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let zeros = heap.new_object();
        let nowhere = class(&mut heap, "");
        heap.set(nowhere, layout.type_name, u64::MAX - 3);
        heap.set(nowhere, layout.type_dict, 0xdead_0000);
        for address in [0, 1, 0xffff, zeros, nowhere, u64::MAX - 50, u64::MAX] {
            let empty = (String::new(), String::new());
            assert_eq!(class_of(&heap, address), empty, "{version} {address:#x}");
            let names = names_of(&heap, address);
            let lengths = [names.function_len, names.file_len, names.module_len];
            assert_eq!(lengths, [0; 3], "{version} {address:#x}");
        }
    }
}

/// Memory that repeats the same few bytes at every address.
struct Everywhere(Vec<u8>);

impl Memory for Everywhere {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
        for (at, byte) in buf.iter_mut().enumerate() {
            let at = address.wrapping_add(at as u64) % self.0.len() as u64;
            *byte = self.0[usize::try_from(at).unwrap()];
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn any_memory_is_read_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 1..64), at: u64) {
        let memory = Everywhere(bytes);
        for (_, layout) in layouts() {
            let mut names = ClassNames::EMPTY;
            layout.class_names(&memory, at, &mut names);
            prop_assert!(usize::from(names.module_len) <= MODULE_BYTES);
            let mut names = FrameNames::EMPTY;
            layout.frame_names(&memory, at, &mut names);
            prop_assert!(usize::from(names.function_len) <= FUNCTION_BYTES);
            prop_assert!(usize::from(names.file_len) <= FILE_BYTES);
            layout.handled_exception(&memory, at);
            layout.raised_exception(&memory, at);
            layout.root_cause(&memory, at);
            layout.caught_in(&memory, at);
        }
    }
}
