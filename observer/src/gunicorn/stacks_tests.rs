use super::*;
use crate::process::memory::tests::PageMap;
use probe_ebpf::python::tables::{CPYTHON_3_8, CPYTHON_3_11 as LAYOUT, CPYTHON_3_12};
use proptest::prelude::*;
use std::cell::Cell;

const RUNTIME: u64 = 0x1000;
const INTERPRETER: u64 = 0x2000;
/// `PyThreadState` of the main thread, and of the other one.
const MAIN: u64 = 0x3000;
const OTHER: u64 = 0x4000;
/// Types.
const STR: u64 = 0x8000;
const CODE: u64 = 0x8400;
const NONE: u64 = 0x8800;

/// A process made object by object: each is a kilobyte.
#[derive(Clone, Default)]
struct Process(Vec<(u64, Vec<u8>)>);

impl Process {
    /// Two threads that run nothing.
    fn new() -> Self {
        let mut process = Self::default();
        process.set(RUNTIME, LAYOUT.runtime_interpreters, INTERPRETER);
        process.set(INTERPRETER, LAYOUT.interp_threads, OTHER);
        process.set(OTHER, LAYOUT.tstate_next, MAIN);
        for (class, name, text) in [
            (STR, 0x9000, "str"),
            (CODE, 0x9400, "code"),
            (NONE, 0x9800, "NoneType"),
        ] {
            process.set(class, LAYOUT.type_name, name);
            process.put(name, 0, text.as_bytes());
        }
        process.set(STR, LAYOUT.type_flags, 1 << 28);
        process.run(MAIN, &[]);
        process.run(OTHER, &[]);
        process
    }

    fn put(&mut self, object: u64, offset: u32, bytes: &[u8]) {
        let at = match self.0.iter().position(|(start, _)| *start == object) {
            Some(at) => at,
            None => {
                self.0.push((object, vec![0; 1024]));
                self.0.len() - 1
            }
        };
        self.0[at].1[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn set(&mut self, object: u64, offset: u32, value: u64) {
        self.put(object, offset, &value.to_le_bytes());
    }

    fn text(&mut self, object: u64, text: &str) {
        self.set(object, LAYOUT.object_type, STR);
        self.set(object, LAYOUT.str_length, text.len() as u64);
        self.set(object, LAYOUT.str_state, 1 << 2 | 1 << 5 | 1 << 6);
        self.put(object, LAYOUT.str_ascii, text.as_bytes());
    }

    /// A function whose instructions are of one line each, from line 10 on.
    fn function(&mut self, code: u64, name: &str) {
        self.set(code, LAYOUT.object_type, CODE);
        self.text(code + 0x400, name);
        self.text(code + 0x800, "/srv/app.py");
        self.set(code, LAYOUT.code_qualname, code + 0x400);
        self.set(code, LAYOUT.code_name, code + 0x400);
        self.set(code, LAYOUT.code_filename, code + 0x800);
        self.set(code, LAYOUT.code_lines, code + 0xc00);
        self.put(code, LAYOUT.code_first_line, &10_u32.to_le_bytes());
        let table = [0xe8, 0, 0xe8, 2, 0xe8, 2];
        self.set(code + 0xc00, LAYOUT.var_size, table.len() as u64);
        self.put(code + 0xc00, LAYOUT.bytes_data, &table);
    }

    /// A thread is in these frames, innermost first: frame, code, instruction.
    fn run(&mut self, tstate: u64, frames: &[(u64, u64, u64)]) {
        let current = tstate + 0x400;
        self.set(tstate, LAYOUT.tstate_frame, current);
        let first = frames.first().map_or(0, |frame| frame.0);
        self.set(current, LAYOUT.cframe_frame, first);
        for (at, &(frame, code, instruction)) in frames.iter().enumerate() {
            self.set(frame, LAYOUT.frame_code, code);
            let first = code + u64::from(LAYOUT.code_instructions);
            self.set(frame, LAYOUT.frame_instruction, first + 2 * instruction);
            let back = frames.get(at + 1).map_or(0, |frame| frame.0);
            self.set(frame, LAYOUT.frame_back, back);
        }
    }

    fn memory(&self) -> PageMap {
        let mut memory = PageMap::default();
        for (start, bytes) in &self.0 {
            memory.put(*start, bytes);
        }
        memory
    }
}

const VIEW: u64 = 0x2_0000;
const HELPER: u64 = 0x3_0000;
const FRAMES: [u64; 3] = [0x5_0000, 0x5_1000, 0x5_2000];

/// A view is in the other thread.
fn process() -> Process {
    let mut process = Process::new();
    process.function(VIEW, "view");
    process.function(HELPER, "helper");
    process.run(OTHER, &[(FRAMES[0], VIEW, 0)]);
    process
}

/// What is told of the other thread when each look finds the next of these; and how many looks
/// there were at it.
fn told(each: impl Fn(usize) -> Process) -> (Stack, usize) {
    let looks = Cell::new(0);
    let look = || {
        let number = looks.get();
        looks.set(number + 1);
        each(number).memory()
    };
    (stack(&look, &LAYOUT, OTHER), looks.get())
}

fn functions(stack: &Stack) -> Vec<(String, Option<u32>)> {
    let frames = stack.frames.iter();
    frames
        .map(|frame| (frame.function.clone().unwrap(), frame.line))
        .collect()
}

#[test]
fn each_thread_is_told_the_main_one_first() {
    let mut process = process();
    let none = 0x6_0000;
    process.set(none, LAYOUT.object_type, NONE);
    let (view, shim) = ((FRAMES[1], VIEW, 2), (FRAMES[2], none, 0));
    process.run(OTHER, &[(FRAMES[0], HELPER, 1), view, shim]);
    let tasks = Tasks {
        process: 77,
        ..Tasks::default()
    };
    let found = stacks(|| process.memory(), &LAYOUT, RUNTIME, &tasks).unwrap();
    let main = Stack {
        tid: Some(77),
        is_main: true,
        ..Stack::default()
    };
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], main);
    assert_eq!((found[1].tid, found[1].is_main), (None, false));
    assert!(!found[1].is_changing);
    let frames = functions(&found[1]);
    assert_eq!(
        frames,
        [
            ("helper".to_owned(), Some(11)),
            ("view".to_owned(), Some(12))
        ]
    );
    let file = found[1].frames[0].file.as_deref();
    assert_eq!(file, Some("/srv/app.py"));
}

#[test]
fn a_loop_that_goes_on_in_one_frame_holds_still() {
    let (stack, looks) = told(|number| {
        let mut process = process();
        process.run(OTHER, &[(FRAMES[0], VIEW, number as u64 % 3)]);
        process
    });
    assert!(!stack.is_changing);
    assert_eq!((functions(&stack).len(), looks), (1, 2));
}

#[test]
fn a_thread_that_calls_and_returns_is_read_again() {
    let (stack, looks) = told(|number| {
        let mut process = process();
        let view = (FRAMES[1], VIEW, 1);
        match number {
            0 => process.run(OTHER, &[view]),
            1 => process.run(OTHER, &[(FRAMES[0], HELPER, 0), view]),
            _ => process.run(OTHER, &[(FRAMES[0], HELPER, 2), view]),
        }
        process
    });
    assert!(!stack.is_changing);
    assert_eq!(looks, 4);
    let frames = functions(&stack);
    assert_eq!(
        frames,
        [
            ("helper".to_owned(), Some(12)),
            ("view".to_owned(), Some(11))
        ]
    );
}

#[test]
fn of_a_thread_that_never_holds_still_the_frames_that_stayed_are_told() {
    let (stack, looks) = told(|number| {
        let mut process = process();
        let code = if number % 2 == 0 { VIEW } else { HELPER };
        let frames = [(FRAMES[0], code, 0), (FRAMES[1], VIEW, 1)];
        process.run(OTHER, &frames);
        process
    });
    assert!(stack.is_changing);
    assert_eq!(functions(&stack), [("view".to_owned(), Some(11))]);
    assert_eq!(looks, 2 * MAX_LOOKS);
    // Not even a frame can be read.
    let (stack, looks) = told(|_| Process::default());
    assert!(stack.is_changing && stack.frames.is_empty());
    assert_eq!(looks, MAX_LOOKS);
}

#[test]
fn a_call_from_another_line_is_a_change() {
    let chain = |instruction| Chain {
        frames: [(1, Some(7)), (2, instruction)]
            .map(|(at, instruction)| Frame {
                at,
                code: 3,
                instruction,
            })
            .to_vec(),
        is_cut: false,
    };
    assert_eq!(chain(Some(4)).held(&chain(Some(4))), 2);
    assert_eq!(chain(Some(4)).held(&chain(Some(6))), 0);
    assert_eq!(chain(Some(4)).held(&Chain::default()), 0);
}

#[test]
fn frames_without_end_are_cut() {
    let (stack, _) = told(|_| {
        let mut process = process();
        process.set(FRAMES[0], LAYOUT.frame_back, FRAMES[0]);
        process
    });
    assert!(stack.is_cut);
    assert_eq!(stack.frames.len(), MAX_FRAMES);
}

#[test]
fn threads_that_cannot_be_listed_are_an_error() {
    let look = PageMap::default;
    let found = stacks(look, &LAYOUT, RUNTIME, &Tasks::default());
    assert_eq!(found, Err(Fault));
}

/// The same few bytes over and over, wherever one reads.
#[derive(Clone)]
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
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_memory_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 1..64), at: u64) {
        let memory = Everywhere(bytes);
        for layout in [CPYTHON_3_8, LAYOUT, CPYTHON_3_12] {
            let _ = stacks(|| memory.clone(), &layout, at, &Tasks::default());
            stack(&|| memory.clone(), &layout, at);
            let objects = Objects::new(&memory, &layout);
            Position::of(&objects, at, Some(4));
            let _ = Request::of(&objects, at, at);
        }
    }
}
