extern crate std;

use super::super::tables::CPYTHON_3_10;
use super::super::test_heap::{TestHeap, layouts};
use super::*;
use std::vec::Vec;

/// A coroutine whose frame has these states; `code` is the opcode or argument that follows.
struct Made {
    heap: TestHeap,
    object: u64,
    frame: u64,
}

/// Numbers of `PyFrameState`: created, yielded, awaits, running, finished.
fn states(suspension: u32) -> [i8; 5] {
    match suspension {
        2 => [-2, -1, -1, 0, 4],
        3 | 4 => [-3, -2, -1, 0, 4],
        _ => [0, 1, 2, 4, 5],
    }
}

fn layouts_with_3_10() -> Vec<(&'static str, Layout)> {
    let mut all = layouts();
    all.push(("3.10", CPYTHON_3_10));
    all
}

const AWAITED: u64 = 0x7777_0000;

/// A coroutine in one of the five states.
fn coroutine(layout: Layout, state: usize) -> Made {
    let mut heap = TestHeap::new(layout);
    let code = heap.new_object();
    let object = heap.new_object();
    let awaits = state == 2;
    if layout.generator_state == DIRECT {
        let frame = heap.new_object();
        let stack = heap.new_object();
        let bytes = heap.new_object();
        heap.put(stack, &AWAITED.to_le_bytes());
        heap.set(code, layout.code_bytes, bytes);
        // The third instruction was the last; the next awaits, or not.
        let opcode = if awaits { YIELD_FROM } else { 1 };
        heap.put(bytes + u64::from(layout.bytes_data) + 6, &[opcode, 0]);
        heap.set(frame, layout.frame_code, code);
        let is_3_10 = layout.suspension == Suspension::Depth as u32;
        let last: i32 = match (state, is_3_10) {
            (0, _) => -1,
            (_, true) => 2,
            (_, false) => 4,
        };
        heap.put(
            frame + u64::from(layout.frame_instruction),
            &last.to_le_bytes(),
        );
        let at = frame + u64::from(layout.frame_stack_top);
        let is_running = state == 3;
        if is_3_10 {
            heap.set(frame, layout.frame_stack, stack);
            let depth: i32 = if is_running { -1 } else { 1 };
            heap.put(at, &depth.to_le_bytes());
        } else {
            let top = if is_running { 0 } else { stack + 8 };
            heap.put(at, &top.to_le_bytes());
        }
        let frame = if state == 4 { 0 } else { frame };
        heap.set(object, layout.generator_frame, frame);
        return Made {
            heap,
            object,
            frame,
        };
    }
    let frame = object + u64::from(layout.generator_frame);
    let byte = states(layout.suspension)[state].cast_unsigned();
    heap.put(object + u64::from(layout.generator_state), &[byte]);
    let last = code + u64::from(layout.code_instructions) + 8;
    heap.set(frame, layout.frame_instruction, last);
    let argument = if awaits { 3 } else { 1 };
    heap.put(last + 2, &[151, argument]);
    let slot = frame + u64::from(layout.frame_localsplus) + 8 * 4;
    let (value, top): (u64, u64) = match layout.suspension {
        2 | 3 => (AWAITED, 5),
        // References are tagged.
        4 => (AWAITED | 1, slot + 8),
        _ => (AWAITED | 1, slot + 16),
    };
    heap.put(slot, &value.to_le_bytes());
    let stack_top = frame + u64::from(layout.frame_stack_top);
    if top == 5 {
        heap.put(stack_top, &5_i32.to_le_bytes());
    } else {
        heap.put(stack_top, &top.to_le_bytes());
    }
    Made {
        heap,
        object,
        frame,
    }
}

#[test]
fn each_version_has_the_state_of_a_coroutine_and_what_it_awaits() {
    for (version, layout) in layouts_with_3_10() {
        for state in 0..5 {
            let Made {
                heap,
                object,
                frame,
            } = coroutine(layout, state);
            let expected = [
                Coroutine::Created { frame },
                Coroutine::Suspended { frame, awaited: 0 },
                Coroutine::Suspended {
                    frame,
                    awaited: AWAITED,
                },
                Coroutine::Running { frame },
                Coroutine::Finished,
            ];
            let found = layout.coroutine(&heap, object);
            assert_eq!(found, Ok(expected[state]), "{version}, state {state}");
        }
    }
}

#[test]
fn an_impossible_stack_is_an_error() {
    for (version, layout) in layouts_with_3_10() {
        let Made {
            mut heap,
            object,
            frame,
        } = coroutine(layout, 2);
        let at = frame + u64::from(layout.frame_stack_top);
        heap.put(at, &(u64::MAX >> 1).to_le_bytes());
        heap.put(at, &(1_u32 << 30).to_le_bytes());
        assert_eq!(layout.coroutine(&heap, object), Err(Fault), "{version}");
        assert_eq!(layout.coroutine(&heap, u64::MAX), Err(Fault), "{version}");
    }
}
