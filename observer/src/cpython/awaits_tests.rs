use super::*;
use crate::cpython::test_heap::{LAYOUT, TestHeap, garbage};
use crate::cpython::test_tasks::{AWAIT, Classes, YIELD};
use proptest::prelude::*;

/// Two coroutines with a wrapper between them, the inner one of which awaits an object.
fn chain(heap: &mut TestHeap, resume: u8, object: impl Fn(&mut TestHeap, &Classes) -> u64) -> u64 {
    let classes = Classes::new(heap);
    let object = object(heap, &classes);
    let [inner, outer] = ["inner", "outer"].map(|name| classes.code(heap, name, "/a.py", &["x"]));
    let inner = classes.suspended(heap, classes.generator, inner, &[0], (resume, object));
    let wrapper = classes.around(heap, classes.wrapper, inner);
    classes.suspended(heap, classes.coroutine, outer, &[0], (AWAIT, wrapper))
}

#[test]
fn each_coroutine_is_followed_to_the_future_that_the_innermost_awaits() {
    let mut heap = TestHeap::new();
    let outer = chain(&mut heap, AWAIT, |heap, classes| classes.future(heap));
    let objects = heap.objects();
    let found = Awaits::read(&objects, outer).unwrap();
    assert_eq!(found.state, State::Suspended);
    assert_eq!(found.frames.len(), 2);
    let frame = outer + u64::from(LAYOUT.generator_frame);
    assert_eq!(
        (found.frames[0].at, found.frames[0].instruction),
        (frame, Some(0))
    );
    let class = objects.type_of(found.object.unwrap()).unwrap();
    assert_eq!(objects.type_name(class), Ok("_asyncio.Future".to_owned()));
}

#[test]
fn a_generator_that_only_yields_awaits_nothing() {
    let mut heap = TestHeap::new();
    let outer = chain(&mut heap, YIELD, |heap, classes| classes.future(heap));
    let found = Awaits::read(&heap.objects(), outer).unwrap();
    assert_eq!((found.frames.len(), found.object), (2, None));
}

#[test]
fn a_coroutine_that_a_thread_runs_or_that_is_done_has_no_more_frames() {
    for (state, expected, frames) in [
        (0_i8, State::Running, 1),
        (-2, State::Created, 1),
        (4, State::Finished, 0),
    ] {
        let mut heap = TestHeap::new();
        let outer = chain(&mut heap, AWAIT, |heap, classes| classes.future(heap));
        let at = outer + u64::from(LAYOUT.generator_state);
        heap.map.patch(at, &state.to_le_bytes());
        let found = Awaits::read(&heap.objects(), outer).unwrap();
        assert_eq!((found.state, found.frames.len()), (expected, frames));
    }
}

#[test]
fn coroutines_that_await_each_other_are_cut() {
    let mut heap = TestHeap::new();
    let classes = Classes::new(&mut heap);
    let code = classes.code(&mut heap, "f", "/a.py", &[]);
    let one = classes.suspended(&mut heap, classes.coroutine, code, &[], (AWAIT, 0));
    let frame = one + u64::from(LAYOUT.generator_frame);
    heap.put_word(frame, LAYOUT.frame_localsplus, one);
    let found = Awaits::read(&heap.objects(), one).unwrap();
    assert!(found.is_cut);
    assert_eq!(found.frames.len(), MAX_STEPS);
}

#[test]
fn a_variable_is_found_by_its_name_also_in_a_cell() {
    let mut heap = TestHeap::new();
    let classes = Classes::new(&mut heap);
    let value = heap.str("value");
    let cell = classes.cell(&mut heap, value);
    let empty = classes.cell(&mut heap, 0);
    let code = classes.code(&mut heap, "f", "/a.py", &["a", "b", "c", "d"]);
    let values = [value, cell, empty, 0];
    let coroutine = classes.suspended(&mut heap, classes.coroutine, code, &values, (AWAIT, 1));
    let frame = coroutine + u64::from(LAYOUT.generator_frame);
    let objects = heap.objects();
    let local = |name| objects.local(frame, code, name);
    assert_eq!([local("a"), local("b")], [Ok(Some(value)); 2]);
    assert_eq!([local("c"), local("d"), local("e")], [Ok(None); 3]);
    assert_eq!(objects.local(frame, 8, "a"), Err(Fault));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_memory_is_followed_without_panic(map in garbage(), at: u64) {
        let objects = Objects::new(&map, &LAYOUT);
        for at in [at, 0x1000 + at % 0x4000] {
            let _ = Awaits::read(&objects, at);
            let _ = objects.local(at, at ^ 8, "scope");
            let _ = objects.set_items(at);
        }
    }
}
