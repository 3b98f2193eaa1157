extern crate std;

use super::*;
use crate::python::test_heap::{TestHeap, layouts};

const UVICORN: [&str; 2] = [
    "/venv/lib/uvicorn/protocols/http/httptools_impl.py",
    "/venv/lib/uvicorn/protocols/http/h11_impl.py",
];
const GUNICORN: &str = "/venv/lib/gunicorn/asgi/protocol.py";
const UVICORNS_LOCALS: [&str; 5] = ["self", "app", "result", "exc", "msg"];
const GUNICORNS_LOCALS: [&str; 5] = ["self", "request", "sockname", "peername", "scope"];
const CLASS: u64 = 0x77_0000;

fn code(heap: &mut TestHeap, file: &str, name: &str, locals: &[&str], cells: &[&str]) -> u64 {
    let file = heap.str(file);
    heap.code(file, name, locals, cells)
}

fn classified(heap: &TestHeap, code: u64) -> Result<Code, Fault> {
    let mut found = Code::OTHER;
    classify(heap, &heap.layout, code, &mut found).map(|()| found)
}

/// A frame whose local variables are these, and its code as it was classified.
fn frame(heap: &mut TestHeap, locals: &[u64]) -> u64 {
    let frame = heap.new_object();
    let first = heap.layout.frame_localsplus;
    for (at, &local) in (first..).step_by(8).zip(locals) {
        heap.set(frame, at, local);
    }
    frame
}

#[test]
fn one_object_of_uvicorn_serves_one_request() {
    for (version, layout) in layouts() {
        for file in UVICORN {
            let mut heap = TestHeap::new(layout);
            let code = code(&mut heap, file, "run_asgi", &UVICORNS_LOCALS, &[]);
            let found = classified(&heap, code).unwrap();
            assert_eq!(found.kind, Kind::Coroutine as u32, "{version}");
            let slots = (found.req, found.client, found.is_in_cell);
            assert_eq!(slots, (0, 0, 0), "{version}");
            let frame = frame(&mut heap, &[0x1000, 0x2000]);
            let expected = Serving {
                request: 0x1000,
                server: 0x1000,
            };
            assert_eq!(
                serving(&heap, &layout, frame, &found),
                expected,
                "{version}"
            );
        }
    }
}

#[test]
fn gunicorns_objects_are_in_cells() {
    for (version, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let cells = ["request", "self"];
        let code = code(
            &mut heap,
            GUNICORN,
            "_handle_http_request",
            &GUNICORNS_LOCALS,
            &cells,
        );
        let found = classified(&heap, code).unwrap();
        assert_eq!(found.kind, Kind::Coroutine as u32, "{version}");
        let cell = |heap: &mut TestHeap, object| heap.with(16, object);
        let (server, request) = (cell(&mut heap, 0x1000), cell(&mut heap, 0x2000));
        // Before 3.11 each cell has a slot of its own behind the variables, in the order of the cells.
        let locals = if layout.code_instructions == DIRECT {
            [0, 0, 0, 0, 0, request, server]
        } else {
            [server, request, 0, 0, 0, 0, 0]
        };
        let frame = frame(&mut heap, &locals);
        let expected = Serving {
            request: 0x2000,
            server: 0x1000,
        };
        assert_eq!(
            serving(&heap, &layout, frame, &found),
            expected,
            "{version}"
        );
    }
}

#[test]
fn other_coroutines_serve_no_request() {
    for (_, layout) in layouts() {
        for (file, name) in [
            (UVICORN[0], "run_wsgi"),
            (UVICORN[0], "run"),
            (
                "/venv/lib/uvicorn/protocols/websockets/wsproto_impl.py",
                "run_asgi",
            ),
            (GUNICORN, "run_asgi"),
            (GUNICORN, "_handle_connection"),
            (UVICORN[1], "_handle_http_request"),
            ("/app/h11_impl.py", "run_asgi"),
        ] {
            let mut heap = TestHeap::new(layout);
            let code = code(&mut heap, file, name, &GUNICORNS_LOCALS, &[]);
            assert_eq!(classified(&heap, code), Ok(Code::OTHER), "{file} {name}");
        }
    }
}

#[test]
fn a_coroutine_without_its_variables_is_a_fault() {
    for (_, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let locals = ["this", "app"];
        let without = code(&mut heap, UVICORN[0], "run_asgi", &locals, &[]);
        assert_eq!(classified(&heap, without), Err(Fault));
        for bad in [0, 8, u64::MAX - 100, 1 << 40] {
            assert_eq!(classified(&heap, bad), Err(Fault));
        }
    }
}

/// An object of this class that keeps its attributes in a dictionary of its own, as any may.
fn transport(heap: &mut TestHeap, attributes: &[(&str, u64)]) -> u64 {
    let layout = heap.layout;
    let class = heap.new_object();
    // In front of the object, except in the oldest versions.
    const DICT_AT: u64 = 24;
    let object = heap.new_object() + 128;
    heap.set(object, layout.object_type, class);
    let dict = heap.dict(attributes);
    if layout.code_instructions == DIRECT {
        heap.set(class, layout.type_dictoffset, 16);
        heap.put(object + 16, &dict.to_le_bytes());
    } else {
        // `Py_TPFLAGS_MANAGED_DICT` (`Include/object.h`).
        heap.set(class, layout.type_flags, 1 << 4);
        heap.put(object - DICT_AT, &dict.to_le_bytes());
    }
    object
}

#[test]
fn the_descriptor_of_asyncios_transport_is_an_attribute() {
    for (version, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let fd = heap.int(17);
        let attributes = [("_extra", 0), ("_sock", 0), ("_sock_fd", fd), ("_loop", 0)];
        let object = transport(&mut heap, &attributes);
        let mut code = Code::OTHER;
        let class = heap.word(object + u64::from(layout.object_type)).unwrap();
        let name = heap.new_bytes(64);
        heap.put(name, b"_SelectorSocketTransport\0");
        heap.set(class, layout.type_name, name);
        assert_eq!(descriptor(&heap, &layout, object, &code), Err(Fault));
        learn_transport(&heap, &layout, object, &mut code).unwrap();
        assert_eq!(
            descriptor(&heap, &layout, object, &code),
            Ok(17),
            "{version}"
        );
        // One of another class, as under TLS.
        let other = transport(&mut heap, &attributes);
        assert_eq!(descriptor(&heap, &layout, other, &code), Err(Fault));
        let without = transport(&mut heap, &[("_ssl_protocol", 1)]);
        let class = heap.word(without + u64::from(layout.object_type)).unwrap();
        heap.set(class, layout.type_name, name);
        assert_eq!(
            learn_transport(&heap, &layout, without, &mut code),
            Err(Fault)
        );
    }
}

#[test]
fn the_descriptor_of_uvloops_transport_is_in_its_handle() {
    for (version, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let class = heap.new_object();
        let name = heap.new_bytes(64);
        heap.put(name, b"uvloop.loop.TCPTransport\0");
        heap.set(class, layout.type_name, name);
        let object = heap.with(layout.object_type, class);
        let handle = heap.new_object();
        heap.put(object + 24, &handle.to_le_bytes());
        // Something else is behind it.
        heap.put(handle + 184, &[9, 0, 0, 0, 7, 7, 7, 7]);
        let mut code = Code::OTHER;
        learn_transport(&heap, &layout, object, &mut code).unwrap();
        assert_eq!(code.transport.class, class);
        assert_eq!(
            descriptor(&heap, &layout, object, &code),
            Ok(9),
            "{version}"
        );
        code.transport.class = CLASS;
        assert_eq!(descriptor(&heap, &layout, object, &code), Err(Fault));
    }
}
