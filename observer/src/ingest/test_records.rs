//! Records as the kernel would write them, for tests.

use probe_ebpf::abi::{
    CLASS_BYTES, CapturedFrameRecord, ExceptionRecord, FILE_BYTES, FUNCTION_BYTES, HEAD_BYTES,
    LineSource, MODULE_BYTES, NAME_BYTES, NO_DEPTH, RecordKind, RequestRecord, SHORT_LINE_BYTES,
    SeenBy, StackRecord, TRACEBACK_FRAMES,
};

/// A request record; set what matters, leave the rest.
#[derive(Clone, Debug, Default)]
pub struct RequestBytes {
    pub pid: u32,
    pub time_ns: u64,
    /// Established, accepted, first read, entered, first write, last write, exited.
    pub times: [u64; 7],
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub exceptions: u64,
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
        // As the kernel chooses it.
        let (size, room) = if self.line.len() <= SHORT_LINE_BYTES {
            (
                size_of::<RequestRecord<SHORT_LINE_BYTES>>(),
                SHORT_LINE_BYTES,
            )
        } else {
            (size_of::<RequestRecord>(), HEAD_BYTES)
        };
        let mut b = header(RecordKind::Request, size, self.pid, self.time_ns);
        for time in self.times {
            b.extend(time.to_le_bytes());
        }
        b.extend(self.request_bytes.to_le_bytes());
        b.extend(self.response_bytes.to_le_bytes());
        b.extend(self.exceptions.to_le_bytes());
        b.extend(u64::from(self.exceptions != 0).to_le_bytes());
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
        line.resize(room, 0);
        b.extend(line);
        b
    }
}

/// A frame, or none: its module, function and file, all narrow.
pub type FrameText = Option<[&'static str; 3]>;

/// An exception record; set what matters, leave the rest.
#[derive(Clone, Debug)]
pub struct ExceptionBytes {
    pub pid: u32,
    pub time_ns: u64,
    /// [`RequestBytes::exceptions`].
    pub request: u64,
    pub object: u64,
    pub came_from: u64,
    pub root: u64,
    pub seen_by: SeenBy,
    pub has_left: bool,
    pub depth: u32,
    /// `tp_name` and `__module__`.
    pub class: [&'static str; 2],
    pub root_class: [&'static str; 2],
    pub root_frame: FrameText,
    /// Its traceback: the outermost first.
    pub traceback: Vec<[String; 3]>,
}

impl Default for ExceptionBytes {
    fn default() -> Self {
        Self {
            pid: 0,
            time_ns: 0,
            request: 0,
            object: 0,
            came_from: 0,
            root: 0,
            seen_by: SeenBy::Asked,
            has_left: false,
            depth: NO_DEPTH,
            class: ["", ""],
            root_class: ["", ""],
            root_frame: None,
            traceback: Vec::new(),
        }
    }
}

impl ExceptionBytes {
    /// The bytes.
    pub fn build(&self) -> Vec<u8> {
        let len = size_of::<ExceptionRecord>();
        let mut b = header(RecordKind::Exception, len, self.pid, self.time_ns);
        for word in [self.request, self.object, self.came_from, self.root] {
            b.extend(word.to_le_bytes());
        }
        b.extend(self.pid.to_le_bytes());
        b.extend((self.seen_by as u16).to_le_bytes());
        b.extend(u16::from(self.has_left).to_le_bytes());
        b.extend(self.depth.to_le_bytes());
        b.extend(u32::try_from(self.traceback.len()).unwrap().to_le_bytes());
        b.extend(class(self.class));
        b.extend(class(self.root_class));
        b.extend(frame(self.root_frame));
        // As the kernel does it: each takes the place of one further out.
        let mut frames = vec![frame(None); TRACEBACK_FRAMES];
        for (n, [module, function, file]) in self.traceback.iter().enumerate() {
            frames[n % TRACEBACK_FRAMES] = frame(Some([module, function, file]));
        }
        b.extend(frames.concat());
        b
    }
}

/// A record of one frame that an exception passes through, as deep capture sends it; class and frame
/// as in an [`ExceptionBytes`].
pub fn captured_frame(
    [pid, depth]: [u32; 2],
    [time_ns, request, object, class_object]: [u64; 4],
    of: [&str; 2],
    at: [&str; 3],
) -> Vec<u8> {
    let mut b = header(
        RecordKind::CapturedFrame,
        size_of::<CapturedFrameRecord>(),
        pid,
        time_ns,
    );
    for word in [request, object, class_object] {
        b.extend(word.to_le_bytes());
    }
    b.extend([1, 0, 1, 0]); // made, and with a traceback
    b.extend(depth.to_le_bytes());
    b.extend(class(of));
    b.extend(frame(Some(at)));
    b
}

/// A record that deep capture has used up its hits.
pub fn capture_exhausted(time_ns: u64) -> Vec<u8> {
    header(RecordKind::DeepCaptureExhausted, 16, 7, time_ns)
}

/// A signal to process `pid`, from `sender`, or from the kernel if that is 0.
pub fn signal(time_ns: u64, pid: u32, signal: u32, sender: u32) -> Vec<u8> {
    let mut b = header(RecordKind::Signal, 24, pid, time_ns);
    b.extend(sender.to_le_bytes());
    b.extend(signal.to_le_bytes());
    b
}

pub fn oom(time_ns: u64, pid: u32) -> Vec<u8> {
    header(RecordKind::Oom, 16, pid, time_ns)
}

/// A stack of a thread that serves a request with this head, in such frames: module, function and
/// file of each, the innermost first.
pub fn stack(pid: u32, time_ns: u64, head: &str, frames: &[[&str; 3]]) -> Vec<u8> {
    let mut b = header(RecordKind::Stack, size_of::<StackRecord>(), pid, time_ns);
    b.extend((time_ns - 1).to_le_bytes());
    b.extend(0xabc_u64.to_le_bytes());
    b.extend(1_u32.to_le_bytes());
    b.extend(u32::try_from(frames.len()).unwrap().to_le_bytes());
    b.extend(u16::try_from(head.len()).unwrap().to_le_bytes());
    b.extend((LineSource::Wire as u16).to_le_bytes());
    b.extend([0; 4]);
    b.extend(padded(head, HEAD_BYTES));
    for &of in frames {
        b.extend(frame(Some(of)));
        // At the beginning of a function whose lines are not kept.
        for word in [0, 7, 0, 0_u32] {
            b.extend(word.to_le_bytes());
        }
    }
    b.resize(size_of::<StackRecord>(), 0);
    b
}

/// A record of a garbage collection, in process 7.
pub fn gc(time_ns: u64, pause_ns: u64) -> Vec<u8> {
    let mut b = header(RecordKind::Gc, 24, 7, time_ns);
    b.extend(pause_ns.to_le_bytes());
    b
}

fn class([name, module]: [&str; 2]) -> Vec<u8> {
    let mut b = padded(name, CLASS_BYTES);
    b.extend(padded(module, MODULE_BYTES));
    b.push(u8::try_from(module.len()).unwrap());
    b.extend([0; 7]);
    b
}

fn frame(of: Option<[&str; 3]>) -> Vec<u8> {
    let [module, function, file] = of.unwrap_or_default();
    let len = |text: &str| u8::try_from(text.len()).unwrap();
    let mut b = u64::from(of.is_some()).to_le_bytes().to_vec();
    b.extend(padded(module, MODULE_BYTES));
    b.extend(padded(function, FUNCTION_BYTES));
    b.extend(padded(file, FILE_BYTES));
    b.extend([len(module), len(function), 1, len(file), 1, 0, 0, 0]);
    b
}

fn padded(text: &str, bytes: usize) -> Vec<u8> {
    let mut b = text.as_bytes().to_vec();
    assert!(b.len() <= bytes, "{text} is too long");
    b.resize(bytes, 0);
    b
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

fn header(kind: RecordKind, len: usize, pid: u32, time_ns: u64) -> Vec<u8> {
    let len = u16::try_from(len).unwrap();
    let mut b = Vec::new();
    b.extend((kind as u16).to_le_bytes());
    b.extend(len.to_le_bytes());
    b.extend(pid.to_le_bytes());
    b.extend(time_ns.to_le_bytes());
    b
}
