extern crate std;

use super::*;
use crate::python::test_heap::{TestHeap, layouts};
use std::vec::Vec;

const SITE: &str = "/usr/lib/python3/site-packages/gunicorn/workers/";

/// A function, its local variables and its cells.
type Function = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const SYNC_REQUEST: Function = (
    "sync.py",
    "handle_request",
    &[
        "self",
        "listener",
        "req",
        "client",
        "addr",
        "environ",
        "resp",
        "request_start",
        "respiter",
        "item",
        "request_time",
    ],
    &[],
);
const GTHREAD_REQUEST: Function = (
    "gthread.py",
    "handle_request",
    &[
        "self",
        "req",
        "conn",
        "environ",
        "resp",
        "request_start",
        "respiter",
        "item",
        "request_time",
    ],
    &[],
);
const ASYNC_REQUEST: Function = (
    "base_async.py",
    "handle_request",
    &[
        "self",
        "listener_name",
        "req",
        "sock",
        "addr",
        "request_start",
        "environ",
        "resp",
        "respiter",
        "item",
        "request_time",
    ],
    &[],
);
const ERROR_23: Function = (
    "base.py",
    "handle_error",
    &[
        "self",
        "req",
        "client",
        "addr",
        "exc",
        "request_start",
        "status_int",
        "reason",
        "mesg",
        "msg",
        "request_time",
        "environ",
        "resp",
    ],
    &[],
);
const ERROR_27: Function = (
    "base.py",
    "handle_error",
    &[
        "self",
        "req",
        "client",
        "addr",
        "exc",
        "request_start",
        "client_error",
        "status_int",
        "reason",
        "mesg",
        "msg",
        "request_time",
        "environ",
        "resp",
    ],
    &[],
);
const GTHREAD_STREAM_25: Function = (
    "gthread.py",
    "handle_http2_request",
    &[
        "self",
        "req",
        "conn",
        "h2_conn",
        "environ",
        "resp",
        "request_start",
        "send_early_hints_h2",
        "send_trailers_h2",
        "respiter",
        "response_body",
        "item",
        "response_headers",
        "name",
        "value",
        "stream",
        "request_time",
    ],
    &["h2_conn", "pending_trailers", "stream_id"],
);
const ASYNC_STREAM_26: Function = (
    "base_async.py",
    "handle_http2_request",
    &[
        "self",
        "listener_name",
        "req",
        "sock",
        "addr",
        "h2_conn",
        "stream_id",
        "request_start",
        "environ",
        "resp",
        "respiter",
        "item",
        "request_time",
    ],
    &[],
);
const GTHREAD_STREAM_27: Function = (
    "gthread.py",
    "handle_http2_request",
    &[
        "self",
        "req",
        "conn",
        "h2_conn",
        "environ",
        "request_start",
        "send_early_hints_h2",
        "send_trailers_h2",
        "respiter",
        "item",
    ],
    &["h2_conn", "resp", "stream_id"],
);
const ASYNC_STREAM_27: Function = (
    "base_async.py",
    "handle_http2_request",
    &[
        "self",
        "listener_name",
        "req",
        "sock",
        "addr",
        "h2_conn",
        "request_start",
        "environ",
        "send_early_hints_h2",
        "send_trailers_h2",
        "respiter",
        "item",
    ],
    &["h2_conn", "resp", "stream_id"],
);

/// The code object of a function in a file of this name.
fn code_at(heap: &mut TestHeap, file: u64, (_, name, locals, cells): Function) -> u64 {
    heap.code(file, name, locals, cells)
}

fn code(heap: &mut TestHeap, function: Function) -> u64 {
    let file = heap.str(&[SITE, function.0].concat());
    code_at(heap, file, function)
}

fn classified(heap: &TestHeap, code: u64) -> Result<Code, Fault> {
    let mut found = Code::OTHER;
    classify(heap, &heap.layout, code, &mut found).map(|()| found)
}

/// Slots of request, connection, start and response.
fn check(function: Function, kind: Kind, family: Family, slots: [u32; 4], is_in_cell: bool) {
    for (version, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let code = code(&mut heap, function);
        let found = classified(&heap, code).unwrap();
        assert_eq!(
            (found.kind, found.family),
            (kind as u32, family as u32),
            "{version}"
        );
        let [request, client, start, response] = slots;
        // Before 3.11 each cell has a slot of its own, also that of an argument.
        let is_old = layout.code_instructions == DIRECT;
        let response = response + u32::from(is_old && is_in_cell);
        let expected = [request, client, start, response];
        assert_eq!(
            [found.req, found.client, found.start, found.response],
            expected,
            "{version}"
        );
        assert_eq!(found.is_stream != 0, function.1 == "handle_http2_request");
        assert_eq!(found.is_in_cell != 0, is_in_cell, "{version}");
        assert_eq!((found.calm, found.shapes), (0, [Shape::NONE; SHAPES]));
    }
}

#[test]
fn each_family_has_its_slots() {
    let request = Kind::HandleRequest;
    check(SYNC_REQUEST, request, Family::Sync, [2, 3, 7, 6], false);
    check(
        GTHREAD_REQUEST,
        request,
        Family::Gthread,
        [1, 2, 5, 4],
        false,
    );
    check(ASYNC_REQUEST, request, Family::Async, [2, 3, 5, 7], false);
}

#[test]
fn handle_error_shows_its_status() {
    for (function, status) in [(ERROR_23, 6), (ERROR_27, 7)] {
        for (_, layout) in layouts() {
            let mut heap = TestHeap::new(layout);
            let code = code(&mut heap, function);
            let found = classified(&heap, code).unwrap();
            assert_eq!(found.kind, Kind::HandleError as u32);
            assert_eq!((found.req, found.client, found.response), (1, 2, status));
        }
    }
}

#[test]
fn streams_have_their_response_in_a_cell_or_not() {
    let request = Kind::HandleRequest;
    check(
        GTHREAD_STREAM_25,
        request,
        Family::Gthread,
        [1, 2, 6, 5],
        false,
    );
    check(ASYNC_STREAM_26, request, Family::Async, [2, 3, 7, 9], false);
    check(
        GTHREAD_STREAM_27,
        request,
        Family::Gthread,
        [1, 2, 5, 10],
        true,
    );
    check(ASYNC_STREAM_27, request, Family::Async, [2, 3, 6, 12], true);
}

#[test]
fn other_functions_and_files_are_no_request_handling() {
    let (_, _, locals, cells) = SYNC_REQUEST;
    for (_, layout) in layouts() {
        for (file, name) in [
            ("sync.py", "handle_error"),
            ("sync.py", "handle_requests"),
            ("sync.py", "handle_a_request"),
            ("sync.py", "handle"),
            ("base.py", "handle_request"),
            ("ggevent.py", "handle_request"),
            ("gtornado.py", "handle_request"),
            ("x/sync.py", "handle_request"),
        ] {
            let mut heap = TestHeap::new(layout);
            let code = code(&mut heap, (file, name, locals, cells));
            assert_eq!(classified(&heap, code), Ok(Code::OTHER), "{file} {name}");
        }
        let mut heap = TestHeap::new(layout);
        let short = heap.str("workers/sync.py");
        let code = code_at(&mut heap, short, SYNC_REQUEST);
        assert_eq!(classified(&heap, code), Ok(Code::OTHER));
    }
}

#[test]
fn a_file_may_be_in_a_folder_of_any_script() {
    for (version, layout) in layouts() {
        for (width, folder) in [(1, "/opt/é/"), (2, "/opt/Ж/"), (4, "/opt/🦀/")] {
            let mut heap = TestHeap::new(layout);
            let path = [folder, "gunicorn/workers/sync.py"].concat();
            let data: Vec<u8> = path
                .chars()
                .flat_map(|c| u32::from(c).to_le_bytes().into_iter().take(width))
                .collect();
            let file = heap.str_of(width as u64, false, &data);
            let code = code_at(&mut heap, file, SYNC_REQUEST);
            let found = classified(&heap, code).unwrap();
            assert_eq!(
                found.family,
                Family::Sync as u32,
                "{version}, {width} bytes"
            );
        }
    }
}

#[test]
fn a_file_in_the_current_folder_is_known() {
    for (_, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let file = heap.str("gunicorn/workers/sync.py");
        let code = code_at(&mut heap, file, SYNC_REQUEST);
        assert_eq!(classified(&heap, code).unwrap().family, Family::Sync as u32);
    }
}

#[test]
fn code_that_cannot_be_read_is_a_fault() {
    for (_, layout) in layouts() {
        let mut heap = TestHeap::new(layout);
        let good = code(&mut heap, SYNC_REQUEST);
        for bad in [0, 8, u64::MAX, u64::MAX - 100, 1 << 40] {
            assert_eq!(classified(&heap, bad), Err(Fault));
            for field in [layout.code_name, layout.code_filename] {
                let code = heap.new_object();
                let mut bytes = [0; 512];
                heap.read(good, &mut bytes).unwrap();
                heap.put(code, &bytes);
                heap.set(code, field, bad);
                assert_eq!(classified(&heap, code), Err(Fault));
            }
        }
    }
}

#[test]
fn a_start_that_cannot_be_found_is_a_fault() {
    for (_, layout) in layouts() {
        let (file, name, _, _) = SYNC_REQUEST;
        let mut heap = TestHeap::new(layout);
        let without = code(&mut heap, (file, name, &["self", "listener", "req"], &[]));
        assert_eq!(classified(&heap, without), Err(Fault));
    }
}
