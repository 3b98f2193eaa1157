//! A worker for tests: what it does to connections and requests, as the programs report it.

extern crate std;

use std::string::String;
use std::vec::Vec;

use crate::abi::{Conn, LineSource, NAME_BYTES, Stat, flags, target_flags};
use crate::gunicorn::Family;
use crate::machine::test_kernel::{Sent, TestKernel};
use crate::machine::wire::Write;
use crate::machine::{Call, Ended, Machine, Origin, RequestFields};
use crate::python::tables::CPYTHON_3_12;
use crate::python::test_heap::TestHeap;

/// Bytes of the buffer for reads and writes.
const BUFFER: usize = 1 << 16;

pub struct Worker {
    pub kernel: TestKernel<TestHeap>,
    family: Family,
    buffer: u64,
}

/// A request object of Gunicorn.
#[derive(Clone, Copy)]
pub struct Request {
    pub object: u64,
    /// The object of its connection.
    pub client: u64,
    pub fields: RequestFields,
    pub is_stream: bool,
}

impl Worker {
    pub fn new(family: Family) -> Self {
        let mut heap = TestHeap::new(CPYTHON_3_12);
        let buffer = heap.new_bytes(BUFFER);
        Self {
            kernel: TestKernel::new(heap),
            family,
            buffer,
        }
    }

    /// One whose Python is not read.
    pub fn unread() -> Self {
        let mut worker = Self::new(Family::Any);
        worker.kernel.target.flags |= target_flags::BY_SOCKET;
        worker
    }

    /// One that decrypts by itself.
    pub fn tls(family: Family) -> Self {
        let mut worker = Self::new(family);
        worker.kernel.target.flags |= target_flags::TLS;
        worker
    }

    /// Continues in another thread.
    pub fn on(&mut self, tid: u32) -> &mut Self {
        self.kernel.tid = tid;
        self
    }

    pub fn machine(&self) -> Machine<'_, TestKernel<TestHeap>> {
        self.kernel.machine()
    }

    /// Puts bytes where calls read or write them. Of more than the buffer takes, the end is unreadable.
    fn put(&mut self, bytes: &[u8]) -> u64 {
        let bytes = &bytes[..bytes.len().min(BUFFER)];
        // They end where the buffer ends.
        let at = self.buffer + (BUFFER - bytes.len()) as u64;
        self.kernel.user.put(at, bytes);
        at
    }

    pub fn accept(&mut self, sock: u64) {
        let established = self.kernel.clock.get();
        self.machine().accepted(sock, established);
    }

    pub fn read(&mut self, sock: u64, bytes: &[u8]) {
        let at = self.put(bytes);
        self.machine().read(sock, at, bytes.len() as u64);
    }

    /// A read that returns that the client sends no more.
    pub fn read_end(&mut self, sock: u64) {
        self.machine().read_end(sock);
    }

    pub fn write(&mut self, sock: u64, bytes: &[u8]) {
        let at = self.put(bytes);
        let len = bytes.len();
        let piece = (at, len as u64);
        if self.kernel.target.is_by_socket() {
            self.begin_write(sock, piece);
        }
        self.machine().written(sock, at, len as i64);
    }

    /// What the programs on system calls do before a write.
    fn begin_write(&self, sock: u64, piece: (u64, u64)) {
        use crate::abi::ObjectKey;
        use crate::machine::{Kernel as _, wire};
        let key = ObjectKey::new(self.kernel.target.tgid, sock);
        if let Some(mut conn) = self.kernel.conn(key) {
            if conn.status == 0 {
                let write = Write {
                    first: piece,
                    last: piece,
                    total: piece.1,
                };
                self.machine().write_begins(&mut conn, write);
            } else if wire::awaits_last_chunk(&conn) {
                self.machine().write_chunks(&mut conn, piece, piece.1);
            }
        }
    }

    /// A write that failed with an error number of the kernel.
    pub fn write_fails(&mut self, sock: u64, errno: i64) {
        self.machine().written(sock, 0, -errno);
    }

    /// The same for a write whose bytes are known.
    pub fn write_fails_with(&mut self, sock: u64, bytes: &[u8], errno: i64) {
        let at = self.put(bytes);
        self.machine().written(sock, at, -errno);
    }

    pub fn close(&mut self, sock: u64) {
        self.machine().closed(sock);
    }

    pub fn request(&mut self, method: &str, path: &str, client: u64) -> Request {
        let heap = &mut self.kernel.user;
        let fields = [heap.str(method), heap.str(path), 0, 0, 0];
        Request {
            object: heap.new_object(),
            client,
            fields,
            is_stream: false,
        }
    }

    pub fn call(&self, request: &Request) -> Call<'_> {
        Call {
            layout: &self.kernel.user.layout,
            family: self.family as u32,
            is_stream: request.is_stream,
            request: request.object,
            client: request.client,
        }
    }

    /// The request enters; whether its head is to be measured.
    pub fn enter(&mut self, request: &Request) -> bool {
        let call = self.call(request);
        self.machine().entered(&call, &request.fields, 0)
    }

    /// A request enters where no reads and writes are seen.
    pub fn enter_blind(&mut self, request: &Request, sock: u64) -> bool {
        let call = self.call(request);
        self.machine().entered(&call, &request.fields, sock)
    }

    /// A request of its own object that enters at once.
    pub fn enter_new(&mut self, method: &str, path: &str, client: u64) -> Request {
        let request = self.request(method, path, client);
        self.enter(&request);
        request
    }

    /// Measures the head of a request of which Gunicorn has `left` bytes in its buffer.
    pub fn measure(&mut self, request: &Request, left: u64) {
        let buffer = self.kernel.user.with(32, left);
        self.machine().measure_head(&self.call(request), buffer);
    }

    pub fn exit(&mut self, request: &Request) {
        self.exit_as(request, Ended::default());
    }

    pub fn exit_as(&mut self, request: &Request, ended: Ended) {
        self.machine().exited(&self.call(request), ended);
    }

    /// A socket object.
    pub fn socket(&mut self, fd: i32, sock: u64) -> u64 {
        self.kernel.fds.insert(fd, sock);
        let word = u64::from(fd as u32) | 0xffff_ffff << 32;
        self.kernel.user.with(16, word)
    }

    /// `handle_error` for a request that was parsed.
    pub fn fail(&mut self, request: &Request, status: u16) {
        let call = Call {
            family: Family::Any as u32,
            ..self.call(request)
        };
        self.machine().failed(&call, 7, status, false);
    }

    /// `handle_error` without a request.
    pub fn refuse(&mut self, client: u64, key: u64, status: u16) {
        let none = self.kernel.user.none();
        let call = Call {
            layout: &self.kernel.user.layout,
            family: Family::Any as u32,
            is_stream: false,
            request: none,
            client,
        };
        self.machine().failed(&call, key, status, true);
    }

    /// The records since the last call.
    pub fn sent(&self) -> Vec<Sent> {
        self.kernel.take_sent()
    }

    /// The only record since the last call.
    #[track_caller]
    pub fn only(&self) -> Sent {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:#?}");
        sent[0]
    }

    /// Nothing was sent since the last call.
    #[track_caller]
    pub fn none(&self) {
        let sent = self.sent();
        assert!(sent.is_empty(), "{sent:#?}");
    }

    pub fn count(&self, stat: Stat) -> u64 {
        self.kernel.count_of(stat)
    }

    pub fn conn(&self, sock: u64) -> Conn {
        self.kernel.conn_of(sock).expect("a known connection")
    }
}

impl Sent {
    /// Method and path of a request whose object was read.
    pub fn line(&self) -> String {
        assert_eq!(self.conn.line_source, LineSource::Python as u16);
        let (method, path) = self.conn.line.split_at(NAME_BYTES);
        let end = method.iter().position(|&b| b == 0).unwrap_or(NAME_BYTES);
        let path = &path[..self.conn.line_len as usize - NAME_BYTES];
        let [method, path] = [&method[..end], path].map(String::from_utf8_lossy);
        std::format!("{method} {path}")
    }

    pub fn has(&self, flag: u16) -> bool {
        self.conn.flags & flag != 0
    }

    /// Fails unless its times are in order. Those of Python alone are 0 without Python.
    #[track_caller]
    pub fn check_times(&self) {
        let Conn {
            established_ns,
            accepted_ns,
            first_read_ns,
            entered_ns,
            exited_ns,
            first_write_ns,
            last_write_ns,
            ..
        } = self.conn;
        let all = [
            established_ns,
            accepted_ns,
            first_read_ns,
            entered_ns,
            first_write_ns,
            last_write_ns,
        ];
        let seen: Vec<_> = all.iter().filter(|&&time| time != 0).collect();
        assert!(seen.is_sorted(), "{self:#?}");
        assert_eq!(first_write_ns == 0, last_write_ns == 0, "{self:#?}");
        assert!(exited_ns == 0 || exited_ns >= entered_ns, "{self:#?}");
        if self.origin == Origin::Python {
            assert!(entered_ns != 0 && exited_ns != 0, "{self:#?}");
        }
        // A request without a connection has the times of Python only.
        assert!(!self.has(flags::NO_CONNECTION) || (first_read_ns | first_write_ns) == 0);
    }
}
