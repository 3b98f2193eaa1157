use super::*;
use crate::cpython::test_heap::{LAYOUT, TestHeap, garbage};
use crate::cpython::test_tasks::{AWAIT, Classes, RUNTIME};
use proptest::prelude::*;

/// The section of 3.14.10 as Debian builds it.
const PUBLISHED: [u64; 13] = [
    168, 136, 96, 108, 109, 128, 152, 225_864, 10_880, 936, 864, 872, 880,
];

fn section(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A coroutine that awaits a future.
fn coroutine(heap: &mut TestHeap, classes: &Classes) -> u64 {
    let code = classes.code(heap, "f", "/a.py", &[]);
    let future = classes.future(heap);
    classes.suspended(heap, classes.coroutine, code, &[], (AWAIT, future))
}

#[test]
fn the_lists_are_where_the_section_has_them() {
    let lists = TaskLists {
        node: 152,
        of_interpreter: 10_880,
        of_thread: 880,
    };
    assert_eq!(TaskLists::of(&section(&PUBLISHED)), Some(lists));
    assert_eq!(TaskLists::of(&section(&PUBLISHED[..12])), None);
    for at in [6, 8, 12] {
        for wrong in [153, 225_856, u64::MAX] {
            let mut words = PUBLISHED;
            words[at] = wrong;
            assert_eq!(TaskLists::of(&section(&words)), None);
        }
    }
}

#[test]
fn the_tasks_are_those_of_the_module() {
    let mut heap = TestHeap::new();
    let classes = Classes::new(&mut heap);
    let running = coroutine(&mut heap, &classes);
    let derived = heap.class("MyTask", classes.task);
    let one = classes.task(&mut heap, classes.task, running, "one");
    let other = classes.task(&mut heap, derived, running, "other");
    let dead = heap.words(&[1, crate::cpython::test_heap::NONE_TYPE]);
    classes.interpreter(&mut heap, &[one, other, dead]);
    let objects = heap.objects();
    let tasks = Tasks::read(&objects, RUNTIME, None).unwrap();
    assert_eq!(tasks.found, [one, other, dead]);
    assert!(!tasks.is_cut);
    let read = |task| Task::read(&objects, task).unwrap();
    for (task, name) in [(one, "one"), (other, "other")] {
        let expected = Task {
            coroutine: running,
            name: Some(name.into()),
        };
        assert_eq!(read(task), Some(expected));
        assert!(Task::is(&objects, task));
    }
    assert_eq!(read(dead), None);
    assert!(!Task::is(&objects, dead));
}

#[test]
fn a_task_whose_name_nobody_has_asked_for_has_a_number() {
    let mut heap = TestHeap::new();
    let classes = Classes::new(&mut heap);
    let running = coroutine(&mut heap, &classes);
    let task = classes.task(&mut heap, classes.task, running, "");
    let number = heap.int(&[12], false);
    heap.put_word(task, 144, number);
    let found = Task::read(&heap.objects(), task).unwrap().unwrap();
    assert_eq!(found.name, Some("Task-12".into()));
}

#[test]
fn a_task_that_is_not_written_in_c_has_attributes() {
    let mut heap = TestHeap::new();
    let classes = Classes::new(&mut heap);
    let running = coroutine(&mut heap, &classes);
    let name = heap.str("pure");
    let class = heap.class("Task", 0);
    let task = heap.instance(class, "Task", &[("_coro", running), ("_name", name)]);
    let expected = Task {
        coroutine: running,
        name: Some("pure".into()),
    };
    assert_eq!(Task::read(&heap.objects(), task), Ok(Some(expected)));
}

#[test]
fn the_lists_of_threads_and_interpreters_are_followed_to_their_heads() {
    let lists = TaskLists {
        node: 152,
        of_interpreter: 0x800,
        of_thread: 0x900,
    };
    let mut heap = TestHeap::new();
    let classes = Classes::new(&mut heap);
    classes.interpreter(&mut heap, &[]);
    let (interpreter, thread) = (0x2000 + 0x800, 0x3000 + 0x900);
    let tasks = [(); 3].map(|()| heap.words(&[0; 22]));
    heap.put_word(interpreter, 0, tasks[0] + 152);
    heap.put_word(tasks[0] + 152, 0, interpreter);
    heap.put_word(thread, 0, tasks[1] + 152);
    heap.put_word(tasks[1] + 152, 0, tasks[2] + 152);
    heap.put_word(tasks[2] + 152, 0, thread);
    let found = Tasks::read(&heap.objects(), RUNTIME, Some(lists)).unwrap();
    assert_eq!(found.found, tasks);
    // A list without an end, and one that is changed meanwhile.
    heap.put_word(tasks[2] + 152, 0, tasks[2] + 152);
    let found = Tasks::read(&heap.objects(), RUNTIME, Some(lists)).unwrap();
    assert!(found.is_cut);
    heap.put_word(tasks[2] + 152, 0, 0);
    assert_eq!(
        Tasks::read(&heap.objects(), RUNTIME, Some(lists)),
        Err(Fault)
    );
}

#[test]
fn a_program_without_asyncio_has_no_tasks() {
    let mut heap = TestHeap::new();
    let classes = Classes::new(&mut heap);
    classes.interpreter(&mut heap, &[]);
    let modules = heap.named(&[]);
    let sys = heap.named(&[("modules", modules)]);
    heap.put_word(0x2000, LAYOUT.interp_sysdict, sys);
    let found = Tasks::read(&heap.objects(), RUNTIME, None);
    assert_eq!(found, Ok(Tasks::default()));
}

#[test]
fn a_set_has_its_items_without_the_deleted_ones() {
    let mut heap = TestHeap::new();
    let classes = Classes::new(&mut heap);
    let mut items = vec![0; 512];
    (items[0], items[7], items[300], items[511]) = (0x70, 1, 0x80, 0x90);
    let set = classes.set(&mut heap, &items);
    assert_eq!(heap.objects().set_items(set), Ok(vec![0x70, 0x80, 0x90]));
    heap.put_word(set, LAYOUT.set_mask, u64::MAX);
    assert_eq!(heap.objects().set_items(set), Err(Fault));
    assert_eq!(heap.objects().set_items(classes.task), Err(Fault));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_memory_is_read_without_panic(map in garbage(), at: u64, words: [u64; 13]) {
        let objects = Objects::new(&map, &LAYOUT);
        for at in [at, 0x1000 + at % 0x4000] {
            let _ = Task::read(&objects, at);
            let lists = TaskLists::of(&section(&words.map(|word| word % 0x400)));
            let _ = Tasks::read(&objects, at, lists);
        }
    }
}
