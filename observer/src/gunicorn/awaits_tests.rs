use super::*;
use crate::cpython::test_heap::{LAYOUT, TestHeap, garbage};
use crate::cpython::test_tasks::{AWAIT, Classes, RUNTIME};
use crate::process::memory::tests::PageMap;
use proptest::prelude::*;
use std::cell::Cell;

const URLS: &str = "/lib/uvicorn/protocols/http/httptools_impl.py";

/// The scope of a request, as a server makes it.
fn scope(heap: &mut TestHeap, kind: &str, path: &str) -> u64 {
    let [kind, method, path] = [kind, "GET", path].map(|text| heap.str(text));
    heap.named(&[("type", kind), ("method", method), ("path", path)])
}

/// A task of Uvicorn: `run_asgi` of a request of this path, which awaits an object.
fn serving(heap: &mut TestHeap, classes: &Classes, path: &str, object: u64) -> u64 {
    let scope = scope(heap, "http", path);
    let class = heap.class("RequestResponseCycle", 0);
    let cycle = heap.instance(class, "RequestResponseCycle", &[("scope", scope)]);
    let view = classes.code(heap, "view", "/srv/app.py", &[]);
    let view = classes.suspended(heap, classes.coroutine, view, &[], (AWAIT, object));
    let run = classes.code(
        heap,
        "RequestResponseCycle.run_asgi",
        URLS,
        &["app", "self"],
    );
    let locals = [0, cycle];
    let run = classes.suspended(heap, classes.coroutine, run, &locals, (AWAIT, view));
    classes.task(heap, classes.task, run, &format!("Task of {path}"))
}

fn read(heap: &TestHeap) -> Suspended {
    suspended(|| heap.map.clone(), &LAYOUT, RUNTIME, None).unwrap()
}

/// Path, functions and names of the awaited tasks.
fn shown(task: &Task) -> (Option<&str>, Vec<&str>, Vec<&str>) {
    let request = task.request.as_ref();
    let path = request.and_then(|it| Some(it.path.as_ref()?.raw()));
    let frames = task.frames.iter();
    let functions = frames.map(|it| it.function.as_ref().unwrap().raw());
    let awaited = task.awaits_tasks.iter().map(Untrusted::raw);
    (path, functions.collect(), awaited.collect())
}

#[test]
fn each_task_has_its_request_and_what_it_awaits() {
    let mut heap = TestHeap::new();
    let classes = Classes::new(&mut heap);
    let tasks = ["/b", "/a"].map(|path| {
        let future = classes.future(&mut heap);
        serving(&mut heap, &classes, path, future)
    });
    classes.interpreter(&mut heap, &tasks);
    let found = read(&heap);
    assert!(!found.is_cut);
    let shown: Vec<_> = found.tasks.iter().map(shown).collect();
    let functions = vec!["view", "RequestResponseCycle.run_asgi"];
    assert_eq!(
        shown,
        [
            (Some("/a"), functions.clone(), vec![]),
            (Some("/b"), functions, vec![])
        ]
    );
    let task = &found.tasks[0];
    assert_eq!(task.awaits, Some("_asyncio.Future".into()));
    assert_eq!(task.frames[0].line, Some(10));
    let method = task.request.as_ref().and_then(|it| it.method.clone());
    assert_eq!(method, Some("GET".into()));
}

#[test]
fn a_task_that_a_request_awaits_serves_it_too() {
    let mut heap = TestHeap::new();
    let classes = Classes::new(&mut heap);
    let future = classes.future(&mut heap);
    let leaf = classes.code(&mut heap, "leaf", "/srv/app.py", &[]);
    let leaf = classes.suspended(&mut heap, classes.coroutine, leaf, &[], (AWAIT, future));
    let children =
        ["child", "other child"].map(|name| classes.task(&mut heap, classes.task, leaf, name));
    let list = {
        let words = heap.words(&children);
        heap.words(&[1, crate::cpython::test_heap::LIST, 2, words])
    };
    let class = heap.class("_GatheringFuture", 0);
    let gathering = heap.instance(class, "_GatheringFuture", &[("_children", list)]);
    let iterator = classes.around(&mut heap, classes.iterator, gathering);
    let parent = serving(&mut heap, &classes, "/gather", iterator);
    let idle = classes.task(&mut heap, classes.task, leaf, "idle");
    classes.interpreter(&mut heap, &[children[0], children[1], parent, idle]);
    let found = read(&heap);
    let shown: Vec<_> = found.tasks.iter().map(shown).collect();
    let path = Some("/gather");
    let functions = vec!["view", "RequestResponseCycle.run_asgi"];
    assert_eq!(
        shown,
        [
            (path, vec!["leaf"], vec![]),
            (path, vec!["leaf"], vec![]),
            (path, functions, vec!["child", "other child"]),
            (None, vec!["leaf"], vec![]),
        ]
    );
}

#[test]
fn an_application_has_its_request_in_its_scope() {
    for (kind, method) in [
        ("http", Some("GET")),
        ("websocket", Some("WEBSOCKET")),
        ("lifespan", None),
    ] {
        let mut heap = TestHeap::new();
        let classes = Classes::new(&mut heap);
        let scope = scope(&mut heap, kind, "/a?b");
        let scope = classes.cell(&mut heap, scope);
        let future = classes.future(&mut heap);
        let code = classes.code(&mut heap, "App.__call__", "/srv/app.py", &["scope"]);
        let app = classes.suspended(
            &mut heap,
            classes.coroutine,
            code,
            &[scope],
            (AWAIT, future),
        );
        let task = classes.task(&mut heap, classes.task, app, "Task-1");
        classes.interpreter(&mut heap, &[task]);
        let found = read(&heap).tasks.remove(0).request;
        let expected = method.map(|method| Request {
            method: Some(method.into()),
            path: Some("/a".into()),
        });
        assert_eq!(found, expected);
    }
}

/// The task of a process that is another at each read after the first `same` ones, and the number of
/// reads.
fn changing(same: usize) -> (Option<Task>, usize) {
    let mut heap = TestHeap::new();
    let classes = Classes::new(&mut heap);
    let futures = [classes.future(&mut heap), classes.future(&mut heap)];
    let code = classes.code(&mut heap, "f", "/a.py", &[]);
    let coroutine = classes.suspended(&mut heap, classes.coroutine, code, &[], (AWAIT, 0));
    let task_at = classes.task(&mut heap, classes.task, coroutine, "Task-1");
    let frame = coroutine + u64::from(LAYOUT.generator_frame);
    let reads = Cell::new(0);
    let memory = || {
        let number = reads.get();
        reads.set(number + 1);
        let awaited = futures[if number < same { number % 2 } else { 0 }];
        let mut map = heap.map.clone();
        let stack = frame + u64::from(LAYOUT.frame_localsplus);
        map.patch(stack, &awaited.to_le_bytes());
        map
    };
    let task = task(&memory, &LAYOUT, task_at, &mut Shared::default());
    (task, reads.get())
}

#[test]
fn a_task_that_changes_meanwhile_is_read_again() {
    let (task, reads) = changing(0);
    assert_eq!((task.unwrap().is_changing, reads), (false, 2));
    let (task, reads) = changing(5);
    assert_eq!((task.unwrap().frames.len(), reads), (1, 6));
    let (task, reads) = changing(usize::MAX);
    let task = task.unwrap();
    assert!(task.is_changing && task.frames.is_empty());
    assert_eq!(task.name, Some("Task-1".into()));
    assert_eq!(reads, 2 * MAX_ATTEMPTS);
}

#[test]
fn a_task_that_is_done_is_left_out() {
    let mut heap = TestHeap::new();
    let classes = Classes::new(&mut heap);
    let code = classes.code(&mut heap, "f", "/a.py", &[]);
    let coroutine = classes.suspended(&mut heap, classes.coroutine, code, &[], (AWAIT, 0));
    let state = coroutine + u64::from(LAYOUT.generator_state);
    heap.map.patch(state, &[4]);
    let task = classes.task(&mut heap, classes.task, coroutine, "Task-1");
    let none = heap.words(&[1, crate::cpython::test_heap::NONE_TYPE]);
    classes.interpreter(&mut heap, &[task, none]);
    assert_eq!(read(&heap).tasks, []);
}

#[test]
fn tasks_that_cannot_be_listed_are_an_error() {
    let found = suspended(PageMap::default, &LAYOUT, RUNTIME, None);
    assert_eq!(found, Err(Fault));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_memory_is_read_without_panic(map in garbage(), at: u64) {
        let _ = suspended(|| map.clone(), &LAYOUT, 0x1000 + at % 0x4000, None);
        let _ = task(&|| map.clone(), &LAYOUT, 0x1000 + at % 0x4000, &mut Shared::default());
    }
}
