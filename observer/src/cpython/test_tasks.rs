//! For tests: tasks of asyncio on the heap of CPython 3.11.

use super::test_heap::{DICT, LAYOUT, TUPLE, TestHeap};

pub const RUNTIME: u64 = 0x1000;
const INTERPRETER: u64 = 0x2000;
const THREAD: u64 = 0x3000;
/// Place of the coroutine in a task of 3.11.
const TASK_COROUTINE: u32 = 136;
const TASK_BYTES: usize = 176;
/// Argument of the `RESUME` behind an `await`, and behind a `yield`.
pub const AWAIT: u8 = 3;
pub const YIELD: u8 = 1;

/// Types by name.
pub struct Classes {
    pub coroutine: u64,
    pub generator: u64,
    pub wrapper: u64,
    pub iterator: u64,
    pub task: u64,
    pub future: u64,
    code: u64,
    cell: u64,
    module: u64,
    set: u64,
    reference: u64,
}

impl Classes {
    pub fn new(heap: &mut TestHeap) -> Self {
        let mut class = |name| heap.class(name, 0);
        let [coroutine, generator, wrapper, iterator] = [
            "coroutine",
            "generator",
            "coroutine_wrapper",
            "_asyncio.FutureIter",
        ]
        .map(&mut class);
        let [task, future] = ["_asyncio.Task", "_asyncio.Future"].map(&mut class);
        let [code, cell, module, set, reference] =
            ["code", "cell", "module", "set", "weakref"].map(&mut class);
        heap.put_word(task, LAYOUT.type_basicsize, TASK_BYTES as u64);
        heap.put_word(module, LAYOUT.type_dictoffset, 16);
        Self {
            coroutine,
            generator,
            wrapper,
            iterator,
            task,
            future,
            code,
            cell,
            module,
            set,
            reference,
        }
    }

    /// A function with these variables; its one line is 10.
    pub fn code(&self, heap: &mut TestHeap, name: &str, file: &str, variables: &[&str]) -> u64 {
        let code = heap.object(self.code, 64);
        let names: Vec<_> = variables.iter().map(|name| heap.str(name)).collect();
        let table = heap.place(&[[0; 32].as_slice(), &[0xe8, 0]].concat());
        heap.put_word(table, LAYOUT.var_size, 2);
        let mut words = vec![1, TUPLE, names.len() as u64];
        words.extend(names);
        for (offset, value) in [
            (LAYOUT.code_qualname, heap.str(name)),
            (LAYOUT.code_filename, heap.str(file)),
            (LAYOUT.code_lines, table),
            (LAYOUT.code_variables, heap.words(&words)),
        ] {
            heap.put_word(code, offset, value);
        }
        let first_line = code + u64::from(LAYOUT.code_first_line);
        heap.map.patch(first_line, &[10, 0, 0, 0]);
        code
    }

    /// A suspended coroutine, or generator, of this class.
    pub fn suspended(
        &self,
        heap: &mut TestHeap,
        class: u64,
        code: u64,
        variables: &[u64],
        (resume, awaited): (u8, u64),
    ) -> u64 {
        let object = heap.object(class, 64);
        let state = object + u64::from(LAYOUT.generator_state);
        heap.map.patch(state, &[0xff]);
        let frame = object + u64::from(LAYOUT.generator_frame);
        let first = code + u64::from(LAYOUT.code_instructions);
        heap.map.patch(first, &[0, 0, 151, resume]);
        heap.put_word(frame, LAYOUT.frame_instruction, first);
        heap.put_word(frame, LAYOUT.frame_code, code);
        let depth = u32::try_from(variables.len()).expect("too many") + 1;
        let top = frame + u64::from(LAYOUT.frame_stack_top);
        heap.map.patch(top, &depth.to_le_bytes());
        for (slot, &value) in (0..).zip(variables.iter().chain([&awaited])) {
            heap.put_word(frame, LAYOUT.frame_localsplus + 8 * slot, value);
        }
        object
    }

    /// An object whose first field is another.
    pub fn around(&self, heap: &mut TestHeap, class: u64, object: u64) -> u64 {
        heap.words(&[1, class, object, 0])
    }

    pub fn cell(&self, heap: &mut TestHeap, object: u64) -> u64 {
        self.around(heap, self.cell, object)
    }

    /// A future that nobody has completed, as a coroutine awaits it.
    pub fn future(&self, heap: &mut TestHeap) -> u64 {
        let future = heap.object(self.future, 20);
        self.around(heap, self.iterator, future)
    }

    pub fn task(&self, heap: &mut TestHeap, class: u64, coroutine: u64, name: &str) -> u64 {
        let task = heap.object(class, TASK_BYTES / 8);
        let name = heap.str(name);
        heap.put_word(task, TASK_COROUTINE, coroutine);
        heap.put_word(task, TASK_COROUTINE + 8, name);
        task
    }

    /// A set of a power of two of entries; 0 for one that was never used, 1 for a deleted one.
    pub fn set(&self, heap: &mut TestHeap, items: &[u64]) -> u64 {
        let entry = |&item: &u64| [item, if item == 1 { u64::MAX } else { item * 3 }];
        let entries: Vec<_> = items.iter().flat_map(entry).collect();
        let table = heap.words(&entries);
        let set = heap.object(self.set, 25);
        heap.put_word(set, LAYOUT.set_mask, items.len() as u64 - 1);
        heap.put_word(set, LAYOUT.set_table, table);
        set
    }

    /// An interpreter whose `asyncio.tasks` has these tasks.
    pub fn interpreter(&self, heap: &mut TestHeap, tasks: &[u64]) {
        let mut references: Vec<_> = tasks
            .iter()
            .map(|&task| self.around(heap, self.reference, task))
            .collect();
        references.resize(references.len().next_power_of_two(), 0);
        let data = self.set(heap, &references);
        let class = heap.class("WeakSet", 0);
        let weak_set = heap.instance(class, "WeakSet", &[("data", data)]);
        let names = heap.named(&[("_all_tasks", weak_set)]);
        let module = self.around(heap, self.module, names);
        let modules = heap.named(&[("asyncio.tasks", module)]);
        let sys = heap.named(&[("modules", modules)]);
        heap.map.put(RUNTIME, &[0; 0x3000]);
        heap.put_word(RUNTIME, LAYOUT.runtime_interpreters, INTERPRETER);
        heap.put_word(INTERPRETER, LAYOUT.interp_sysdict, sys);
        heap.put_word(INTERPRETER, LAYOUT.interp_threads, THREAD);
    }
}

impl TestHeap {
    /// A new type.
    pub fn class(&mut self, name: &str, base: u64) -> u64 {
        let at = self.words(&[0; 110]);
        self.type_at(at, name, 0, base, 0, 0);
        at
    }

    /// An object of this many words, all zero but its type.
    pub fn object(&mut self, class: u64, words: usize) -> u64 {
        let object = self.words(&vec![0; words]);
        self.put_word(object, LAYOUT.object_type, class);
        object
    }

    pub fn put_word(&mut self, object: u64, offset: u32, value: u64) {
        let at = object + u64::from(offset);
        self.map.patch(at, &value.to_le_bytes());
    }

    /// A `dict` with these keys.
    pub fn named(&mut self, entries: &[(&str, u64)]) -> u64 {
        let entries: Vec<_> = entries
            .iter()
            .map(|&(name, value)| (self.str(name), value))
            .collect();
        let dict = self.dict(1, &entries);
        assert_eq!(self.objects().type_of(dict), Ok(DICT));
        dict
    }
}
