//! Records as the kernel would write them, for tests.

use probe_ebpf::abi::{HEAD_BYTES, LineSource, NAME_BYTES, RecordKind};

/// A request record; set what matters, leave the rest.
#[derive(Clone, Debug, Default)]
pub struct RequestBytes {
    pub pid: u32,
    pub time_ns: u64,
    /// Established, accepted, first read, entered, first write, last write, exited.
    pub times: [u64; 7],
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub request_head_bytes: u32,
    pub response_head_bytes: u32,
    pub status: u16,
    pub flags: u16,
    pub line: Vec<u8>,
    pub python: bool,
    /// Timed by the socket.
    pub socket: bool,
}

impl RequestBytes {
    /// The bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut b = header(RecordKind::Request, 376, self.pid, self.time_ns);
        for time in self.times {
            b.extend(time.to_le_bytes());
        }
        b.extend(self.request_bytes.to_le_bytes());
        b.extend(self.response_bytes.to_le_bytes());
        b.extend(self.request_head_bytes.to_le_bytes());
        b.extend(self.response_head_bytes.to_le_bytes());
        b.extend((-1_i32).to_le_bytes());
        b.extend(0_u32.to_le_bytes());
        b.extend(self.status.to_le_bytes());
        b.extend(self.flags.to_le_bytes());
        let len = u16::try_from(self.line.len().min(HEAD_BYTES)).unwrap();
        b.extend(len.to_le_bytes());
        let source = if self.python {
            LineSource::Python
        } else {
            LineSource::Wire
        };
        b.extend((source as u16).to_le_bytes());
        b.extend(self.pid.to_le_bytes());
        b.extend(0_u16.to_le_bytes());
        b.extend(u16::from(self.socket).to_le_bytes());
        let mut line = self.line.clone();
        line.resize(HEAD_BYTES, 0);
        b.extend(line);
        b
    }
}

/// A fork record.
pub fn fork(time_ns: u64, parent: u32, child: u32) -> Vec<u8> {
    let mut b = header(RecordKind::Fork, 24, parent, time_ns);
    b.extend(child.to_le_bytes());
    b.extend([0; 4]);
    b
}

/// An exec record.
pub fn exec(time_ns: u64, pid: u32, was_target: bool, comm: &str) -> Vec<u8> {
    let mut b = header(RecordKind::Exec, 40, pid, time_ns);
    b.extend(u32::from(was_target).to_le_bytes());
    b.extend([0; 4]);
    let mut comm = comm.as_bytes().to_vec();
    comm.resize(NAME_BYTES, 0);
    b.extend(comm);
    b
}

/// An exit record.
pub fn exit(time_ns: u64, pid: u32, wait_status: u32) -> Vec<u8> {
    let mut b = header(RecordKind::Exit, 24, pid, time_ns);
    b.extend(wait_status.to_le_bytes());
    b.extend([0; 4]);
    b
}

fn header(kind: RecordKind, len: u16, pid: u32, time_ns: u64) -> Vec<u8> {
    let mut b = Vec::new();
    b.extend((kind as u16).to_le_bytes());
    b.extend(len.to_le_bytes());
    b.extend(pid.to_le_bytes());
    b.extend(time_ns.to_le_bytes());
    b
}
