extern crate std;

use super::super::test_heap::{TestHeap, layouts};
use super::*;
use std::vec::Vec;

fn for_each_version(mut test: impl FnMut(&str, Layout, TestHeap)) {
    for (version, layout) in layouts() {
        test(version, layout, TestHeap::new(layout));
    }
}

/// Value of one item on the stack of handled exceptions.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Item {
    /// The initial value.
    Null,
    None,
    Exception,
}

#[test]
fn the_handled_exception_is_that_of_the_innermost_generator_with_one() {
    use Item::{Exception, None, Null};
    for_each_version(|version, layout, mut heap| {
        for items in [
            &[] as &[Item],
            &[Null],
            &[None],
            &[Exception],
            &[None, Exception],
            &[Null, None, Exception, Exception],
            &[None, None, None, Exception],
            // Starlette has five coroutines between its handler and Uvicorn; middleware adds more.
            &[None, Null, None, Null, None, None, None, None, Exception],
        ] {
            let mut previous = 0;
            let mut expected = 0;
            for item in items.iter().rev() {
                let value = match item {
                    Null => 0,
                    None => heap.none(),
                    Exception => heap.exception(),
                };
                if *item == Exception {
                    expected = value;
                }
                previous = {
                    let stack_item = heap.with(layout.handled_previous, previous);
                    heap.set(stack_item, layout.handled_value, value);
                    stack_item
                };
            }
            let tstate = heap.with(layout.tstate_exc_info, previous);
            let found = layout.handled_exception(&heap, tstate);
            assert_eq!(found, expected, "{version} {items:?}");
        }
    });
}

#[test]
fn a_cycle_of_generators_is_not_followed_for_ever() {
    for_each_version(|version, layout, mut heap| {
        let none = heap.none();
        let item = heap.with(layout.handled_value, none);
        heap.set(item, layout.handled_previous, item);
        let tstate = heap.with(layout.tstate_exc_info, item);
        assert_eq!(layout.handled_exception(&heap, tstate), 0, "{version}");
    });
}

const NOTHING: Raised = Raised {
    class: 0,
    object: 0,
    is_made: false,
    has_traceback: false,
};

#[test]
fn from_3_12_on_the_raised_exception_is_an_object() {
    for_each_version(|version, layout, mut heap| {
        if matches!(version, "3.8" | "3.11") {
            return;
        }
        let exception = heap.exception();
        let class = heap.peek(exception + u64::from(layout.object_type));
        let tstate = heap.with(layout.tstate_raised, exception);
        for traceback in [0, 7] {
            heap.set(exception, layout.exception_traceback, traceback);
            let raised = layout.raised_exception(&heap, tstate);
            let expected = Raised {
                class,
                object: exception,
                is_made: true,
                has_traceback: traceback != 0,
            };
            assert_eq!(raised, expected, "{version}");
        }
        let quiet = heap.new_object();
        assert_eq!(layout.raised_exception(&heap, quiet), NOTHING, "{version}");
    });
}

#[test]
fn before_3_12_the_raised_exception_is_a_class_and_a_value() {
    for_each_version(|version, layout, mut heap| {
        if !matches!(version, "3.8" | "3.11") {
            return;
        }
        let exception = heap.exception();
        let class = heap.peek(exception + u64::from(layout.object_type));
        let message = heap.str("no such key");
        for (object, is_made) in [(0, false), (message, false), (exception, true)] {
            for traceback in [0, 7] {
                let tstate = heap.with(layout.tstate_raised, class);
                heap.set(tstate, layout.tstate_raised + 8, object);
                heap.set(tstate, layout.tstate_raised + 16, traceback);
                let raised = layout.raised_exception(&heap, tstate);
                let expected = Raised {
                    class,
                    object,
                    is_made,
                    has_traceback: traceback != 0,
                };
                assert_eq!(raised, expected, "{version}");
            }
        }
    });
}

#[test]
fn an_exception_comes_from_its_cause_else_from_its_unsuppressed_context() {
    for_each_version(|version, layout, mut heap| {
        let [cause, context] = [heap.exception(), heap.exception()];
        // The flag is one byte; the bytes behind it may hold anything.
        let [off, on] = [0xffff_ff00, 0xffff_ff01];
        for (has, expected) in [
            ([0, 0, off], 0),
            ([cause, 0, off], cause),
            ([0, context, off], context),
            ([cause, context, off], cause),
            ([0, context, on], 0),
            // `raise … from …` sets all three.
            ([cause, context, on], cause),
        ] {
            let exception = heap.exception();
            heap.set(exception, layout.exception_cause, has[0]);
            heap.set(exception, layout.exception_context, has[1]);
            heap.set(exception, layout.exception_suppress_context, has[2]);
            assert_eq!(layout.came_from(&heap, exception), expected, "{version}");
        }
    });
}

#[test]
fn the_root_is_the_first_exception_of_the_chain() {
    for_each_version(|version, layout, mut heap| {
        let chain: Vec<u64> = (0..4).map(|_| heap.exception()).collect();
        for (at, pair) in chain.windows(2).enumerate() {
            let link = if at % 2 == 0 {
                layout.exception_cause
            } else {
                layout.exception_context
            };
            heap.set(pair[0], link, pair[1]);
        }
        for exception in &chain {
            let root = layout.root_cause(&heap, *exception);
            assert_eq!(root, chain[3], "{version}");
        }
        // `raise … from None` in the middle cuts the chain.
        heap.set(chain[1], layout.exception_suppress_context, 1);
        assert_eq!(layout.root_cause(&heap, chain[0]), chain[1], "{version}");
    });
}

#[test]
fn a_cycle_of_exceptions_has_one_of_them_as_its_root() {
    for_each_version(|version, layout, mut heap| {
        let circle = [heap.exception(), heap.exception(), heap.exception()];
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            heap.set(circle[from], layout.exception_context, circle[to]);
        }
        let root = layout.root_cause(&heap, circle[0]);
        assert!(circle.contains(&root), "{version}");
    });
}

#[test]
fn the_frame_that_caught_an_exception_is_the_first_of_its_traceback() {
    for_each_version(|version, layout, mut heap| {
        let frame = heap.new_object();
        let object = if layout.frame_object_frame == DIRECT {
            frame
        } else {
            heap.with(layout.frame_object_frame, frame)
        };
        let traceback = heap.with(layout.traceback_frame, object);
        let exception = heap.exception();
        assert_eq!(layout.caught_in(&heap, exception), 0, "{version}");
        heap.set(exception, layout.exception_traceback, traceback);
        assert_eq!(layout.caught_in(&heap, exception), frame, "{version}");
    });
}

#[test]
fn unreadable_memory_reads_as_no_exception() {
    for_each_version(|version, layout, heap| {
        for address in [0, 1, 0xfff8, u64::MAX - 100, u64::MAX] {
            assert_eq!(layout.handled_exception(&heap, address), 0, "{version}");
            assert_eq!(layout.raised_exception(&heap, address), NOTHING);
            assert!(!layout.is_exception(&heap, address));
            assert_eq!(layout.came_from(&heap, address), 0);
            assert_eq!(layout.root_cause(&heap, address), address);
            assert_eq!(layout.caught_in(&heap, address), 0);
        }
    });
}
