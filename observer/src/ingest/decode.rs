//! Decodes one record of the ring buffer to an [`Event`].
//!
//! Fields come in the order of `probe_ebpf::abi`, all little-endian (the only byte order the programs
//! are built for). Bytes that do not fit are refused, never guessed at.

use super::stack;
use super::{line, names};
use observer_model::Untrusted;
use observer_model::event::{
    CapturedFrame, Class, Event, Exception, ExitStatus, Frame, LostFrom, Pid, Request, StreamKind,
    TimedBy,
};
use observer_model::input::Input;
use probe_ebpf::abi::{
    CLASS_BYTES, CapturedFrameRecord, DeepCaptureExhaustedRecord, ExceptionRecord, ExecRecord,
    ExitRecord, FILE_BYTES, FUNCTION_BYTES, ForkRecord, GcRecord, HEAD_BYTES, Header, LineSource,
    LostFrom as RecordLostFrom, LostRecord, MODULE_BYTES, NAME_BYTES, NO_DEPTH, OomRecord,
    RecordKind, RequestRecord, SENT_BY_THREAD, SHORT_LINE_BYTES, SeenBy, SignalRecord, StackRecord,
    TRACEBACK_FRAMES, TimedBy as RecordTimedBy, flags,
};
use probe_ebpf::http::SWITCHING_PROTOCOLS;
use std::borrow::Cow;
use std::mem::offset_of;

/// Bytes of a short record of a request.
const SHORT_REQUEST: usize = size_of::<RequestRecord<SHORT_LINE_BYTES>>();
/// Bytes between the header and the line of a request.
const REQUEST_NUMBERS: usize = offset_of!(RequestRecord, line) - size_of::<Header>();

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("record shorter than its header")]
    Short,
    #[error("record of an unknown kind")]
    Kind,
    #[error("record of a wrong length")]
    Length,
}

impl DecodeError {
    /// As [`Input::Malformed`] carries it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Kind => "kind",
            Self::Length => "length",
        }
    }
}

/// The model's input for a record of the ring buffer.
#[must_use]
pub fn input(bytes: &[u8]) -> Input {
    match decode(bytes) {
        Ok(event) => Input::Event(event),
        Err(error) => Input::Malformed(error.as_str()),
    }
}

/// Decodes a record if it is a request, into the memory of another one.
pub(super) fn renew_request(bytes: &[u8], former: &mut Request) -> bool {
    let mut fields = Fields { rest: bytes };
    header(&mut fields).is_ok_and(|(kind, pid, time_ns)| {
        kind == RecordKind::Request as u16 && request(&mut fields, pid, time_ns, former).is_ok()
    })
}

/// Decodes one record.
///
/// # Errors
/// [`DecodeError`] when the bytes are not exactly one record of a known kind.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let mut fields = Fields { rest: bytes };
    let (kind, pid, time_ns) = header(&mut fields)?;
    match kind {
        k if k == RecordKind::Request as u16 => {
            let mut request = Box::default();
            self::request(&mut fields, pid, time_ns, &mut request)?;
            Ok(Event::Request(request))
        }
        k if k == RecordKind::Fork as u16 => Ok(Event::Fork {
            time_ns,
            parent: pid,
            child: fields.u32()?,
        }),
        k if k == RecordKind::Exec as u16 => {
            let was_target = fields.u32()? != 0;
            let _reserved = fields.u32()?;
            let command = name(fields.bytes(NAME_BYTES)?);
            Ok(Event::Exec {
                time_ns,
                pid,
                was_target,
                command,
            })
        }
        k if k == RecordKind::Exception as u16 => {
            let exception = exception(&mut fields, pid, time_ns)?;
            Ok(Event::Exception(Box::new(exception)))
        }
        k if k == RecordKind::CapturedFrame as u16 => {
            let frame = captured_frame(&mut fields, pid, time_ns)?;
            Ok(Event::CapturedFrame(Box::new(frame)))
        }
        k if k == RecordKind::DeepCaptureExhausted as u16 => {
            Ok(Event::DeepCaptureExhausted { time_ns })
        }
        k if k == RecordKind::Signal as u16 => {
            let sender = fields.u32()?;
            let signal = fields.u32()?;
            Ok(Event::Signal {
                time_ns,
                pid,
                sender: (sender != 0).then_some(sender),
                signal: u8::try_from(signal & !SENT_BY_THREAD).unwrap_or_default(),
                by_thread: signal & SENT_BY_THREAD != 0,
            })
        }
        k if k == RecordKind::Oom as u16 => Ok(Event::Oom { time_ns, pid }),
        k if k == RecordKind::Stack as u16 => {
            let stack = stack::stack(&mut fields, pid, time_ns)?;
            Ok(Event::Stack(Box::new(stack)))
        }
        k if k == RecordKind::Lost as u16 => {
            let from = lost_from(fields.u32()?);
            let count = fields.u32()?;
            Ok(Event::Lost {
                time_ns,
                pid,
                from,
                count,
            })
        }
        k if k == RecordKind::Gc as u16 => Ok(Event::Gc {
            time_ns,
            pid,
            pause_ns: fields.u64()?,
        }),
        _ => Ok(Event::Exit {
            time_ns,
            pid,
            status: exit_status(fields.u32()?),
        }),
    }
}

/// Kind, process and time of a record that has the size of its kind.
fn header(fields: &mut Fields) -> Result<(u16, Pid, u64), DecodeError> {
    let all = fields.rest.len();
    let kind = fields.u16()?;
    let len = fields.u16()?;
    let pid = fields.u32()?;
    let time_ns = fields.u64()?;

    let size = match kind {
        k if k == RecordKind::Request as u16 && all == SHORT_REQUEST => SHORT_REQUEST,
        k if k == RecordKind::Request as u16 => size_of::<RequestRecord>(),
        k if k == RecordKind::Fork as u16 => size_of::<ForkRecord>(),
        k if k == RecordKind::Exec as u16 => size_of::<ExecRecord>(),
        k if k == RecordKind::Exit as u16 => size_of::<ExitRecord>(),
        k if k == RecordKind::Exception as u16 => size_of::<ExceptionRecord>(),
        k if k == RecordKind::CapturedFrame as u16 => size_of::<CapturedFrameRecord>(),
        k if k == RecordKind::DeepCaptureExhausted as u16 => {
            size_of::<DeepCaptureExhaustedRecord>()
        }
        k if k == RecordKind::Signal as u16 => size_of::<SignalRecord>(),
        k if k == RecordKind::Oom as u16 => size_of::<OomRecord>(),
        k if k == RecordKind::Stack as u16 => size_of::<StackRecord>(),
        k if k == RecordKind::Gc as u16 => size_of::<GcRecord>(),
        k if k == RecordKind::Lost as u16 => size_of::<LostRecord>(),
        _ => return Err(DecodeError::Kind),
    };
    if all != size || usize::from(len) != size {
        return Err(DecodeError::Length);
    }
    Ok((kind, pid, time_ns))
}

/// Decodes a request into the memory of another.
fn request(
    fields: &mut Fields,
    pid: Pid,
    finished_ns: u64,
    request: &mut Request,
) -> Result<(), DecodeError> {
    let line = fields.rest.get(REQUEST_NUMBERS..);
    let fields = &mut fields.first::<REQUEST_NUMBERS>()?;
    let established_ns = fields.time()?;
    let accepted_ns = fields.time()?;
    let first_read_ns = fields.time()?;
    let entered_ns = fields.time()?;
    let first_write_ns = fields.time()?;
    let last_write_ns = fields.time()?;
    let exited_ns = fields.time()?;
    let request_bytes = fields.u64()?;
    let response_bytes = fields.u64()?;
    let exceptions = fields.time()?;
    let exceptions_count = fields.u64()?;
    let request_head_bytes = fields.u32()?;
    let response_head_bytes = fields.u32()?;
    let version = fields.u32()?;
    let ordinal = fields.u32()?;
    let status = fields.u16()?;
    let flags = fields.u16()?;
    let line_len = fields.u16()?;
    let line_source = fields.u16()?;
    let tid = fields.u32()?;
    let _family = fields.u16()?;
    let timed_by = fields.u16()?;
    let head = line.unwrap_or_default();
    let head = head.get(..usize::from(line_len)).unwrap_or(head);

    let line = request_line(line_source, head);
    let former = request.path.take().unwrap_or_default();
    *request = Request {
        pid,
        tid,
        timed_by: match timed_by {
            t if t == RecordTimedBy::Socket as u16 => TimedBy::Socket,
            t if t == RecordTimedBy::Task as u16 => TimedBy::Task,
            _ => TimedBy::Python,
        },
        established_ns,
        accepted_ns,
        first_read_ns,
        entered_ns,
        first_write_ns,
        last_write_ns,
        exited_ns,
        finished_ns,
        method: line.method.map(Untrusted::from),
        path: line.path.map(|path| former.renewed(&path)),
        path_cut: line.path_cut,
        protocol: line
            .protocol
            .or_else(|| protocol(version))
            .map(Untrusted::from),
        status: (100..=999).contains(&status).then_some(status),
        request_body_bytes: body(request_bytes, request_head_bytes),
        response_bytes: (response_bytes != 0 && flags & flags::NO_HEADS == 0)
            .then_some(response_bytes),
        response_body_bytes: body(response_bytes, response_head_bytes),
        ordinal,
        error_handled: flags & flags::ERROR_HANDLED != 0,
        bad_request: flags & flags::BAD_REQUEST != 0,
        client_gone: flags & (flags::WRITE_FAILED | flags::CLIENT_LEFT) != 0,
        no_connection: flags & flags::NO_CONNECTION != 0,
        was_cut: entered_ns.is_some()
            && timed_by != RecordTimedBy::Task as u16
            && flags & (flags::EXITED | flags::ERROR_HANDLED | flags::CLOSED) == flags::CLOSED,
        worker_exited: flags & flags::WORKER_EXITED != 0,
        is_incomplete: flags & flags::INCOMPLETE != 0,
        stream: stream(status, flags),
        exceptions,
        exceptions_count,
    };
    Ok(())
}

/// Where a lost connection was; a value that no program sends counts as read.
fn lost_from(from: u32) -> LostFrom {
    match from {
        k if k == RecordLostFrom::Backlog as u32 => LostFrom::Backlog,
        k if k == RecordLostFrom::Accepted as u32 => LostFrom::Accepted,
        _ => LostFrom::Read,
    }
}

/// The stream that a response was, if it was one.
pub(crate) fn stream(status: u16, flags: u16) -> Option<StreamKind> {
    if status == SWITCHING_PROTOCOLS {
        Some(StreamKind::WebSocket)
    } else {
        (flags & flags::EVENT_STREAM != 0).then_some(StreamKind::Events)
    }
}

/// The version of HTTP as Python has it.
fn protocol(version: u32) -> Option<Cow<'static, str>> {
    match version {
        0x0101 => Some("HTTP/1.1".into()),
        0x0100 => Some("HTTP/1.0".into()),
        0x0009 => Some("HTTP/0.9".into()),
        0x0200 => Some("HTTP/2".into()),
        _ => None,
    }
}

/// A request's first line, as far as it was captured in `head`.
pub(crate) fn request_line(line_source: u16, head: &[u8]) -> line::RequestLine<'_> {
    match line_source {
        s if s == LineSource::Wire as u16 => line::from_wire(head),
        s if s == LineSource::Python as u16 => line::from_python(head, HEAD_BYTES),
        _ => line::RequestLine::default(),
    }
}

fn exception(fields: &mut Fields, pid: u32, time_ns: u64) -> Result<Exception, DecodeError> {
    let request = fields.u64()?;
    let object = fields.u64()?;
    let came_from = fields.time()?;
    let root = fields.time()?;
    let _tid = fields.u32()?;
    let seen_by = fields.u16()?;
    let has_left = fields.u16()? != 0;
    let depth = fields.u32()?;
    let entries = fields.u32()?;
    let class = class(fields)?;
    let root_class = self::class(fields)?;
    let (root_frame, has_frame) = frame(fields)?;
    let mut frames = Vec::with_capacity(TRACEBACK_FRAMES);
    for _ in 0..TRACEBACK_FRAMES {
        frames.push(frame(fields)?.0);
    }
    // The ring of frames: the innermost was written last, over the oldest.
    let kept = usize::try_from(entries).map_or(frames.len(), |entries| entries.min(frames.len()));
    let next = usize::try_from(entries).unwrap_or(0) % TRACEBACK_FRAMES;
    frames.rotate_left(next);
    frames.reverse();
    frames.truncate(kept);
    Ok(Exception {
        time_ns,
        pid,
        request,
        object,
        came_from,
        root,
        has_left,
        was_gunicorns: seen_by == SeenBy::HandleError as u16,
        depth: Some(depth).filter(|&depth| depth < NO_DEPTH),
        class,
        frames_cut: entries.saturating_sub(u32::try_from(kept).unwrap_or(u32::MAX)),
        frames,
        root_class: root.map(|_| root_class),
        root_frame: root.filter(|_| has_frame).map(|_| root_frame),
    })
}

fn captured_frame(
    fields: &mut Fields,
    pid: u32,
    time_ns: u64,
) -> Result<CapturedFrame, DecodeError> {
    let request = fields.u64()?;
    let object = fields.u64()?;
    let class_object = fields.u64()?;
    let is_made = fields.u16()? != 0;
    let has_traceback = fields.u16()? != 0;
    Ok(CapturedFrame {
        time_ns,
        pid,
        request,
        object,
        is_made,
        has_traceback,
        class_object,
        depth: fields.u32()?,
        class: class(fields)?,
        frame: frame(fields)?.0,
    })
}

fn class(fields: &mut Fields) -> Result<Class, DecodeError> {
    let name = fields.bytes(CLASS_BYTES)?;
    let module = fields.bytes(MODULE_BYTES)?;
    let module_len = fields.u8()?;
    let _reserved = fields.bytes(7)?;
    Ok(names::class(name, kept(module, module_len)))
}

/// A frame, and whether there is one.
pub(super) fn frame(fields: &mut Fields) -> Result<(Frame, bool), DecodeError> {
    let address = fields.u64()?;
    let module = fields.bytes(MODULE_BYTES)?;
    let function = fields.bytes(FUNCTION_BYTES)?;
    let file = fields.bytes(FILE_BYTES)?;
    let module_len = fields.u8()?;
    let (function_len, function_width) = (fields.u8()?, fields.u8()?);
    let (file_len, file_width) = (fields.u8()?, fields.u8()?);
    let _reserved = fields.bytes(3)?;
    let frame = names::frame(
        kept(module, module_len),
        (kept(function, function_len), function_width),
        (kept(file, file_len), file_width),
        usize::from(file_len) == FILE_BYTES,
    );
    Ok((frame, address != 0))
}

/// The filled part of a field.
fn kept(bytes: &[u8], len: u8) -> &[u8] {
    bytes.get(..usize::from(len)).unwrap_or(bytes)
}

/// Bytes after the head; `None` when the end of the head was not seen.
fn body(all: u64, head: u32) -> Option<u64> {
    if head == 0 {
        None
    } else {
        all.checked_sub(u64::from(head))
    }
}

/// As `wait(2)` lays it out: the signal in the low seven bits, the code above.
fn exit_status(wait_status: u32) -> ExitStatus {
    let [low, code, ..] = wait_status.to_le_bytes();
    match low & 0x7f {
        0 => ExitStatus::Code(code),
        signal => ExitStatus::Signal(signal),
    }
}

fn name(bytes: &[u8]) -> String {
    let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// The fields of a record, one after the other.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The first bytes of the rest, of a number that is known when the program is built: their fields
    /// are then read without a check of each.
    fn first<const N: usize>(&self) -> Result<Self, DecodeError> {
        let rest: &[u8; N] = self.rest.first_chunk().ok_or(DecodeError::Length)?;
        Ok(Self { rest })
    }

    #[inline(always)]
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline(always)]
    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    #[inline(always)]
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline(always)]
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline(always)]
    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A time; zero means "not seen".
    #[inline(always)]
    pub(super) fn time(&mut self) -> Result<Option<u64>, DecodeError> {
        Ok(Some(self.u64()?).filter(|&t| t != 0))
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
