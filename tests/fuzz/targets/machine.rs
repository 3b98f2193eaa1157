//! Any events in any order, in a process whose memory is anything: no panic, no connection held twice, and
//! no request in two records.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use probe_ebpf::abi::{ObjectKey, WORDS, target_flags};
use probe_ebpf::coroutine::{self, Serving};
use probe_ebpf::gunicorn::{Code, Object, SHAPES, classify};
use probe_ebpf::machine::test_kernel::{TGID, TestKernel};
use probe_ebpf::machine::wire::Write;
use probe_ebpf::machine::{Call, Ended, Kernel as _, Origin};
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::fields::{self, Shape};
use probe_ebpf::python::{Layout, frame, tables};

/// All that is mapped begins here.
const START: u64 = 0x1000;
/// Bytes of an event.
const EVENT: usize = 8;

/// The same pages over and over, so that little input is much memory.
#[derive(Debug)]
struct Pages<'a>(&'a [u8]);

impl Memory for Pages<'_> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let at = address.checked_sub(START).ok_or(Fault)?;
        if self.0.is_empty() || at >= 1 << 24 {
            return Err(Fault);
        }
        for (byte, at) in buf.iter_mut().zip(at..) {
            *byte = self.0[usize::try_from(at).map_err(|_| Fault)? % self.0.len()];
        }
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[version, family, flags, events], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let Some(layout) = tables::for_version(3, 8 + version % 5) else {
        return;
    };
    let events = usize::from(events) * EVENT;
    let (events, pages) = rest.split_at(events.min(rest.len()));
    structures(layout, &Pages(pages));
    let mut worker = Worker::new(layout, u32::from(family % 4), flags, Pages(pages));
    for event in events.as_chunks::<EVENT>().0 {
        worker.event(*event);
        worker.check();
    }
});

/// Code objects, objects and frames that may be anything.
fn structures(layout: &Layout, memory: &Pages<'_>) {
    let addresses = (START..).step_by(8).take(32);
    for at in addresses.chain([0, 8, u64::MAX, u64::MAX - 31]) {
        let mut code = Code::OTHER;
        let _ = classify(memory, layout, at, &mut code);
        let mut space = [0; WORDS];
        if frame::read(memory, layout, at, &mut space).is_ok() {
            for slot in [code.req, code.client, code.start, code.response] {
                let _ = frame::local(&space, slot);
            }
        }
        let mut code = Code::OTHER;
        let _ = coroutine::classify(memory, layout, at, &mut code);
        let frame = layout.coroutine_frame(memory, at);
        let _ = coroutine::serving(memory, layout, frame, &code);
        if coroutine::learn_transport(memory, layout, at, &mut code).is_ok() {
            let _ = coroutine::descriptor(memory, layout, at, &code);
        }
        for object in 0..SHAPES as u32 {
            let mut shape = Shape::NONE;
            let names = Object::names(object);
            if fields::learn(memory, layout, at, names, &mut shape, &mut space).is_ok() {
                let _ = fields::read(memory, layout, at, &shape, &mut space);
                let _ = fields::read(memory, layout, at + 16, &shape, &mut space);
            }
        }
    }
}

/// A `struct sock`.
fn sock(n: u8) -> u64 {
    0xffff_8880_0000_0000 + (u64::from(n) << 6)
}

/// An object; perhaps none.
fn object_at(start: u64, n: u8) -> u64 {
    if n == 0 {
        0
    } else {
        start + (u64::from(n) << 6)
    }
}

struct Worker<'a> {
    kernel: TestKernel<Pages<'a>>,
    layout: &'a Layout,
    family: u32,
    /// Entries of requests.
    entered: usize,
    /// Calls of `handle_error`.
    failed: usize,
    /// When requests entered that have a record.
    recorded: BTreeSet<u64>,
    refused: usize,
}

impl<'a> Worker<'a> {
    fn new(layout: &'a Layout, family: u32, flags: u8, memory: Pages<'a>) -> Self {
        let mut kernel = TestKernel::new(memory);
        if flags & 1 != 0 {
            kernel.target.flags = target_flags::TLS;
        }
        if flags & 2 != 0 {
            kernel.target.flags |= target_flags::BY_SOCKET;
        }
        kernel.sees_io = flags & 4 == 0;
        if flags & 8 != 0 {
            kernel.births = (0..8).map(|n| (sock(n), (1, 5))).collect();
        }
        Self {
            kernel,
            layout,
            family,
            entered: 0,
            failed: 0,
            recorded: BTreeSet::new(),
            refused: 0,
        }
    }

    fn event(&mut self, [what, place, low, high, size, more, object, extra]: [u8; EVENT]) {
        self.kernel.tid = TGID + u32::from(place & 3);
        let sock = sock(place >> 2 & 7);
        let at = START + u64::from(u16::from_le_bytes([low, high]));
        let len = u64::from(u16::from_le_bytes([size, more]));
        let call = Call {
            layout: self.layout,
            family: self.family,
            is_stream: extra & 1 != 0,
            request: object_at(0x7f00_0001_0000, object & 15),
            client: object_at(0x7f00_0002_0000, object >> 4),
        };
        let fields = [at, at + len, at + 8, at + 16, at + 24];
        let machine = self.kernel.machine();
        let is_read = !self.kernel.target.is_by_socket();
        let serving = Serving {
            request: call.request,
            server: call.client,
        };
        match what % 14 {
            // Of a process whose Python is not read, these are not seen.
            5..10 if !is_read => {}
            10 | 13 if is_read => {}
            0 => machine.accepted(sock, len),
            1 => machine.read(sock, at, len),
            2 => machine.written(sock, at, len as i64),
            3 => machine.written(sock, at, -i64::from(extra)),
            4 => _ = machine.closed(sock),
            5 => {
                self.entered += 1;
                let socket = if extra & 2 == 0 { 0 } else { sock };
                machine.entered(&call, &fields, socket);
            }
            6 => machine.measure_head(&call, at),
            7 => machine.announced(&call, at),
            8 => {
                let mut ended = match extra & 2 {
                    0 => Ended::default(),
                    _ => machine.ended(self.layout, fields),
                };
                ended.version = machine.version(self.layout, at);
                machine.exited(&call, ended);
            }
            9 => {
                self.failed += 1;
                machine.failed(&call, len, size.into(), extra & 1 != 0);
            }
            10 => {
                let key = ObjectKey::new(TGID, sock);
                if let Some(mut conn) = self.kernel.conn(key) {
                    let piece = (at, len);
                    let write = Write {
                        first: piece,
                        last: piece,
                        total: len,
                    };
                    machine.write_begins(&mut conn, write);
                }
            }
            13 if serving.request != 0 => {
                self.entered += 1;
                machine.task_entered(sock, serving);
                let _ = machine.task(serving.request, serving.server);
            }
            11 => {
                // Another connection at the same address.
                let sees_births = self.kernel.births.contains_key(&sock);
                if sees_births {
                    self.kernel.births.insert(sock, (extra.into(), len));
                }
            }
            _ => {
                machine.read_end(sock);
                let _ = (machine.is_unanswered(sock), machine.is_refused(&call));
                let _ = machine.has_status(&call);
                self.kernel.fds.insert(i32::from(extra), sock);
            }
        }
    }

    fn check(&mut self) {
        for sent in self.kernel.take_sent() {
            let conn = &sent.conn;
            match sent.origin {
                Origin::Python => {
                    assert!(conn.first_write_ns <= conn.last_write_ns, "{sent:?}");
                    assert!(conn.entered_ns != 0 && conn.exited_ns >= conn.entered_ns);
                    assert!(self.recorded.insert(conn.entered_ns), "twice: {sent:?}");
                }
                Origin::Refused => self.refused += 1,
                Origin::Socket => assert!(self.kernel.target.is_by_socket()),
                Origin::Task => {
                    assert!(self.kernel.target.is_by_socket());
                    assert!(conn.entered_ns != 0 && conn.request != 0, "{sent:?}");
                    assert!(self.recorded.insert(conn.entered_ns), "twice: {sent:?}");
                }
            }
        }
        assert!(self.recorded.len() <= self.entered);
        assert!(self.refused <= self.failed);
    }
}
