//! On made-up masters and workers, and on garbage.

use super::*;
use crate::cpython::test_heap::{LAYOUT, LIST, MANAGED_DICT, TUPLE, TestHeap, garbage};
use crate::gunicorn::handling::{Handling, Server};
use crate::gunicorn::worker::Stage;
use crate::process::memory::Snapshot;
use proptest::prelude::*;

impl Arbiter {
    fn at(object: u64, globals: u64) -> Self {
        Self {
            object,
            pid: None,
            globals,
        }
    }
}

/// Address of the type `function`.
const FUNCTION: u64 = 0x16_0000;

/// A method: its name, its file, and a name that its code uses.
type Method<'a> = (&'a str, &'a str, &'a str);

/// A class with these methods; `behind` are its bases in reverse method resolution order.
fn class(heap: &mut TestHeap, at: u64, name: &str, methods: &[Method<'_>], behind: &[u64]) -> u64 {
    let mut entries = Vec::new();
    for (method, file, uses) in methods {
        let (name, file, uses) = (heap.str(method), heap.str(file), heap.str(uses));
        let names = heap.words(&[1, TUPLE, 1, uses]);
        let mut code = [0; 20];
        (code[4], code[14], code[15]) = (names, file, name);
        let code = heap.words(&code);
        entries.push((name, heap.words(&[1, FUNCTION, 0, 0, 0, 0, code])));
    }
    let dict = heap.dict(1, &entries);
    heap.type_at(FUNCTION, "function", 0, 0, 0, 0);
    heap.type_at(at, name, 0, 0, dict, 0);
    let order: Vec<u64> = behind.iter().copied().chain([at]).rev().collect();
    let mro = [&[1, TUPLE, order.len() as u64], order.as_slice()].concat();
    let mro = heap.words(&mro);
    heap.map.put_words(at + 344, &[mro]);
    at
}

#[test]
fn a_class_uses_gunicorns_handling_if_its_methods_lead_there() {
    const FILE: &str = "/venv/lib/gunicorn/workers/sync.py";
    let mut heap = TestHeap::new();
    let sync = [
        ("run", FILE, "x"),
        ("handle", FILE, "x"),
        ("handle_request", FILE, "x"),
    ];
    let sync = class(&mut heap, 0x30_0000, "SyncWorker", &sync, &[]);
    let mut derived = |at, method: Method<'_>| class(&mut heap, at, "Mine", &[method], &[sync]);
    let named = derived(0x31_0000, ("init_process", "/a.py", "x"));
    let calls_on = derived(0x32_0000, ("handle_request", "/a.py", "handle_request"));
    let own = derived(0x33_0000, ("handle_request", "/a.py", "x"));
    let own_run = derived(0x34_0000, ("run", "/a.py", "serve_forever"));
    let server = derived(0x35_0000, ("server_class", "/a.py", "x"));
    let none = class(&mut heap, 0x36_0000, "UvicornWorker", &[], &[]);
    let of = |heap: &mut TestHeap, at, module, name, behind: &[u64]| {
        let class = class(heap, at, name, &[], behind);
        let (key, module) = (heap.str("__module__"), heap.str(module));
        let dict = heap.dict(1, &[(key, module)]);
        heap.map.put_words(class + 264, &[dict]);
        class
    };
    let uvicorn = of(
        &mut heap,
        0x37_0000,
        "uvicorn.workers",
        "UvicornWorker",
        &[],
    );
    let derived = of(&mut heap, 0x38_0000, "shop", "Mine", &[uvicorn]);
    let asgi = of(
        &mut heap,
        0x39_0000,
        "gunicorn.workers.gasgi",
        "ASGIWorker",
        &[],
    );
    let objects = heap.objects();
    for seen in [sync, named, calls_on] {
        assert_eq!(handling::handling(&objects, seen), Ok(Handling::Gunicorns));
    }
    for (class, reason) in [
        (own, "Mine has a handle_request of its own"),
        (own_run, "Mine has a run of its own"),
        (server, "Mine passes its connections to another server"),
        (none, "UvicornWorker has no handle_request"),
    ] {
        let Ok(Handling::Own(found)) = handling::handling(&objects, class) else {
            panic!("{reason}");
        };
        assert!(found.raw().contains(reason), "{found:?}");
    }
    for (class, server) in [
        (uvicorn, Server::Uvicorn),
        (derived, Server::Uvicorn),
        (asgi, Server::Gunicorn),
    ] {
        let on_tasks = Ok(Handling::Tasks(server));
        assert_eq!(handling::handling(&objects, class), on_tasks);
    }
    assert_eq!(handling::handling(&objects, 0x99_0000), Err(Fault));
}

#[test]
fn the_heartbeat_file_is_found_with_or_without_a_buffer() {
    let mut heap = TestHeap::new();
    heap.type_at(0x30_0000, "_io.FileIO", 0, 0, 0, 0);
    heap.type_at(0x31_0000, "_io.BufferedRandom", 0, 0, 0, 0);
    let file = heap.words(&[1, 0x30_0000, 7]);
    let closed = heap.words(&[1, 0x30_0000, u64::from(u32::MAX)]);
    let buffered = heap.words(&[1, 0x31_0000, file]);
    let odd = heap.words(&[1, 0x31_0000, buffered]);
    let text = heap.str("7");
    let found = [file, buffered, closed, odd, text].map(|file| {
        let tmp = heap.instance(0x32_0000, "WorkerTmp", &[("_tmp", file)]);
        worker::heartbeat_fd(&heap.objects(), tmp)
    });
    assert_eq!(found, [Ok(7), Ok(7), Err(Fault), Err(Fault), Err(Fault)]);
}

#[test]
fn the_stage_of_a_worker_is_read_as_far_as_possible() {
    let mut heap = TestHeap::new();
    let (no, yes, other) = (
        heap.int(&[], false),
        heap.int(&[1], false),
        heap.int(&[2], false),
    );
    let stage = |heap: &TestHeap, address| {
        let objects = heap.objects();
        let attributes = objects.instance_attributes(address);
        let object = WorkerObject {
            address,
            heartbeat_fd: None,
            names: StageNames::among(&objects, &attributes.unwrap_or_default()),
        };
        object.stage(&objects)
    };
    let worker = [("age", other), ("booted", no), ("alive", yes)];
    let worker = heap.instance(0x30_0000, "SyncWorker", &worker);
    let half = heap.instance(0x30_0000, "SyncWorker", &[("booted", other)]);
    let (booted, alive) = (Some(false), Some(true));
    assert_eq!(stage(&heap, worker), Stage { booted, alive });
    assert_eq!(stage(&heap, half), Stage::default());
    assert_eq!(stage(&heap, 0x99_0000), Stage::default());
}

#[test]
fn the_listeners_of_a_master_are_sockets_of_the_interpreters_own_or_hold_one() {
    let mut heap = TestHeap::new();
    heap.type_at(0x30_0000, "_socket.socket", 0, 0, 0, 0);
    heap.type_at(0x31_0000, "socket", 0, 0x30_0000, 0, 0);
    let sockets = [(0x30_0000, 5), (0x31_0000, 6)];
    let [plain, derived] = sockets.map(|(class, fd)| heap.words(&[1, class, fd]));
    let inner = heap.words(&[1, 0x30_0000, 7]);
    let of_gevent = heap.instance(0x32_0000, "socket", &[("_sock", inner)]);
    let of_eventlet = heap.instance(0x32_0000, "GreenSocket", &[("fd", derived)]);
    let seven = heap.int(&[7], false);
    let other = heap.instance(0x32_0000, "socket", &[("fd", seven)]);
    let sockets = [plain, derived, of_gevent, of_eventlet, other]
        .map(|socket| heap.instance(0x33_0000, "TCPSocket", &[("sock", socket)]));
    let [plain, derived, of_gevent, of_eventlet, other] = sockets;
    let cases = [
        (vec![plain, derived], Ok(vec![5, 6])),
        (vec![of_gevent, of_eventlet], Ok(vec![7, 6])),
        (vec![plain, other], Err(Fault)),
        (vec![], Ok(vec![])),
    ];
    for (listeners, expected) in cases {
        let items = heap.words(&listeners);
        let list = heap.words(&[1, LIST, listeners.len() as u64, items]);
        let arbiter = heap.instance(0x34_0000, "Arbiter", &[("LISTENERS", list)]);
        assert_eq!(Arbiter::at(arbiter, 0).listeners(&heap.objects()), expected);
    }
}

#[test]
fn the_listeners_of_a_worker_are_sockets_or_hold_one() {
    let mut heap = TestHeap::new();
    heap.type_at(0x30_0000, "_socket.socket", 0, 0, 0, 0);
    let [plain, inner] = [5, 6].map(|fd| heap.words(&[1, 0x30_0000, fd]));
    let held = heap.instance(0x33_0000, "TCPSocket", &[("sock", plain)]);
    // As `GeventWorker.patch` leaves them.
    let of_gevent = heap.instance(0x32_0000, "socket", &[("_sock", inner)]);
    let other = heap.instance(0x34_0000, "Server", &[]);
    let cases = [
        (vec![held, of_gevent], Ok(vec![5, 6])),
        (vec![held; 100], Ok(vec![5; 64])),
        (vec![held, other], Err(Fault)),
        (vec![], Ok(vec![])),
    ];
    for (sockets, expected) in cases {
        let items = heap.words(&sockets);
        let list = heap.words(&[1, LIST, sockets.len() as u64, items]);
        let object = WorkerObject {
            address: heap.instance(0x35_0000, "SyncWorker", &[("sockets", list)]),
            heartbeat_fd: None,
            names: StageNames::default(),
        };
        assert_eq!(object.listeners(&heap.objects()), expected);
    }
}

/// A method of an object.
fn method(heap: &mut TestHeap, object: u64) -> u64 {
    heap.type_at(0x17_0000, "method", 0, 0, 0, 0);
    heap.words(&[1, 0x17_0000, 0, object])
}

/// An instance of a class `Arbiter` of this module, or of a class derived from it.
fn arbiter(heap: &mut TestHeap, module: &str, pid: u32, is_derived: bool) -> u64 {
    let [class, derived] = [0x50_0000, 0x51_0000].map(|at| at + u64::from(pid) * 0x2_0000);
    let names = ["__module__", "run"].map(|name| heap.str(name));
    let module = heap.str(module);
    heap.type_at(FUNCTION, "function", 0, 0, 0, 0);
    let globals = heap.dict(1, &[]);
    let run = heap.words(&[1, FUNCTION, globals, 0, 0, 0, 0]);
    let dict = heap.dict(1, &[(names[0], module), (names[1], run)]);
    let pid = heap.int(&[pid], false);
    let (own, name) = if is_derived {
        (derived, "Mine")
    } else {
        (class, "Arbiter")
    };
    let object = heap.instance(own, name, &[("pid", pid)]);
    if is_derived {
        heap.type_at(class, "Arbiter", 0, 0, dict, 0);
    } else {
        heap.type_at(class, "Arbiter", MANAGED_DICT, 0, dict, 0);
    }
    let order: &[u64] = if is_derived {
        &[derived, class]
    } else {
        &[class]
    };
    let mro = [&[1, TUPLE, order.len() as u64], order].concat();
    let mro = heap.words(&mro);
    heap.map.put_words(own + 344, &[mro]);
    object
}

#[test]
fn an_arbiter_is_found_by_the_signals_that_it_handles() {
    let mut heap = TestHeap::new();
    let default = heap.int(&[0], false);
    let others = arbiter(&mut heap, "shop.arbiter", 1, false);
    let own = arbiter(&mut heap, "gunicorn.arbiter", 2, false);
    let derived = arbiter(&mut heap, "gunicorn.arbiter", 3, true);
    let [others, own, derived] = [others, own, derived].map(|object| method(&mut heap, object));
    let found = |handlers: &[u64]| {
        let arbiter = Arbiter::find(&heap.objects(), handlers).unwrap();
        arbiter.map(|arbiter| arbiter.pid.unwrap())
    };
    assert_eq!(found(&[default, others, 0x99_0000]), None);
    assert_eq!(found(&[default, others, own]), Some(2));
    assert_eq!(found(&[derived, default]), Some(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_never_panics_and_never_loops(map in garbage(), start in 0_u64..0x800) {
        let memory = Snapshot::new(map);
        let objects = Objects::new(&memory, &LAYOUT);
        for at in [0x1000 + start * 8, start, u64::MAX - start] {
            if let Ok(Some(arbiter)) = Arbiter::find(&objects, &[at]) {
                let _ = arbiter.workers(&objects);
                let _ = arbiter.settings(&objects);
            }
            let arbiter = Arbiter::at(at, at);
            let _ = arbiter.workers(&objects);
            let _ = arbiter.settings(&objects);
            let _ = arbiter.listeners(&objects);
            let _ = arbiter.handling(&objects);
            let _ = worker::heartbeat_fd(&objects, at);
            let object = WorkerObject {
                address: at,
                heartbeat_fd: None,
                names: StageNames::default(),
            };
            let _ = object.stage(&objects);
            let _ = handling::handling(&objects, at);
        }
    }
}
