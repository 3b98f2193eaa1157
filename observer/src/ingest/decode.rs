//! One record of the ring buffer to an [`Event`].
//!
//! Fields are read in the order of `probe_ebpf::abi`, all little-endian (the only
//! byte order the programs are built for). Bytes that do not fit are refused,
//! never guessed at.

use super::line;
use crate::event::{Event, ExitStatus, Request, TimedBy};
use crate::input::Input;
use probe_ebpf::abi::{
    ExecRecord, ExitRecord, ForkRecord, HEAD_BYTES, LineSource, NAME_BYTES, RecordKind,
    RequestRecord, TimedBy as Teller, flags,
};

/// Why bytes are no record.
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

/// Decodes one record.
///
/// # Errors
/// [`DecodeError`] when the bytes are not exactly one record of a known kind.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let mut fields = Fields { rest: bytes };
    let kind = fields.u16()?;
    let len = fields.u16()?;
    let pid = fields.u32()?;
    let time_ns = fields.u64()?;

    let size = match kind {
        k if k == RecordKind::Request as u16 => size_of::<RequestRecord>(),
        k if k == RecordKind::Fork as u16 => size_of::<ForkRecord>(),
        k if k == RecordKind::Exec as u16 => size_of::<ExecRecord>(),
        k if k == RecordKind::Exit as u16 => size_of::<ExitRecord>(),
        _ => return Err(DecodeError::Kind),
    };
    if bytes.len() != size || usize::from(len) != size {
        return Err(DecodeError::Length);
    }

    match kind {
        k if k == RecordKind::Request as u16 => {
            let request = request(&mut fields, pid, time_ns)?;
            Ok(Event::Request(Box::new(request)))
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
        _ => Ok(Event::Exit {
            time_ns,
            pid,
            status: exit_status(fields.u32()?),
        }),
    }
}

fn request(fields: &mut Fields, pid: u32, finished_ns: u64) -> Result<Request, DecodeError> {
    let established_ns = fields.time()?;
    let accepted_ns = fields.time()?;
    let first_read_ns = fields.time()?;
    let entered_ns = fields.time()?;
    let first_write_ns = fields.time()?;
    let last_write_ns = fields.time()?;
    let exited_ns = fields.time()?;
    let request_bytes = fields.u64()?;
    let response_bytes = fields.u64()?;
    let request_head_bytes = fields.u32()?;
    let response_head_bytes = fields.u32()?;
    let _fd = fields.u32()?;
    let ordinal = fields.u32()?;
    let status = fields.u16()?;
    let flags = fields.u16()?;
    let line_len = fields.u16()?;
    let line_source = fields.u16()?;
    let tid = fields.u32()?;
    let _family = fields.u16()?;
    let timed_by = fields.u16()?;
    let head = fields.bytes(HEAD_BYTES)?;
    let head = head.get(..usize::from(line_len)).unwrap_or(head);

    let line = match line_source {
        s if s == LineSource::Wire as u16 => line::from_wire(head),
        s if s == LineSource::Python as u16 => line::from_python(head, HEAD_BYTES),
        _ => line::RequestLine::default(),
    };
    Ok(Request {
        pid,
        tid,
        timed_by: if timed_by == Teller::Socket as u16 {
            TimedBy::Socket
        } else {
            TimedBy::Python
        },
        established_ns,
        accepted_ns,
        first_read_ns,
        entered_ns,
        first_write_ns,
        last_write_ns,
        exited_ns,
        finished_ns,
        method: line.method,
        path: line.path,
        path_cut: line.path_cut,
        protocol: line.protocol,
        status: (100..=999).contains(&status).then_some(status),
        request_body_bytes: body(request_bytes, request_head_bytes),
        response_bytes: (response_bytes != 0).then_some(response_bytes),
        response_body_bytes: body(response_bytes, response_head_bytes),
        ordinal,
        error_handled: flags & flags::ERROR_HANDLED != 0,
        bad_request: flags & flags::BAD_REQUEST != 0,
        client_gone: flags & flags::WRITE_FAILED != 0,
        no_connection: flags & flags::NO_CONNECTION != 0,
    })
}

/// Bytes after a head; unknown when the end of the head was not seen.
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
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A time; zero means "not seen".
    fn time(&mut self) -> Result<Option<u64>, DecodeError> {
        Ok(Some(self.u64()?).filter(|&t| t != 0))
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
