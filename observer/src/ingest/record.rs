//! The record file: the whole input of the model, as it came.
//!
//! ```text
//! file  = MAGIC (8 bytes), format version (u32), frame*
//! frame = payload length (u32), tag (u8), CLOCK_MONOTONIC ns (u64), payload
//! ```
//!
//! All numbers are little-endian. A kernel frame holds the record of the ring
//! buffer, so that a replay decodes it again; a fact is JSON; a tick has no payload.
//! Of a request's head only the method, path and protocol are kept: no query, no header.

use super::{decode, line};
use observer_model::event::Event;
use observer_model::fact::Fact;
use probe_ebpf::abi::{Header, LineSource, RequestRecord, StackRecord};
use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::mem::offset_of;

/// First bytes of a record file.
pub const MAGIC: [u8; 8] = *b"GUNIOBS\n";
/// Version of the layout above.
pub const FORMAT: u32 = 3;
/// Bytes before the payload of a frame.
pub const FRAME_HEADER_BYTES: usize = 13;
/// No payload is longer.
pub const MAX_PAYLOAD_BYTES: u32 = 16 << 20;

/// What a frame holds.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    Kernel = 1,
    Fact = 2,
    Tick = 3,
}

/// Writes a record file.
pub struct Recorder<W: Write> {
    out: BufWriter<W>,
}

impl<W: Write> Recorder<W> {
    /// Starts a record file.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = BufWriter::new(out);
        out.write_all(&MAGIC)?;
        out.write_all(&FORMAT.to_le_bytes())?;
        Ok(Self { out })
    }

    /// Adds a record of the ring buffer, well-formed or not, without queries and headers.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn kernel(&mut self, record: &[u8]) -> io::Result<()> {
        // The time stands in the record too; the frame's copy is for tools.
        let time = record.get(8..16).and_then(|b| b.first_chunk());
        let time_ns = time.map_or(0, |b| u64::from_le_bytes(*b));
        self.frame(Tag::Kernel, time_ns, &redacted(record))
    }

    /// Adds a fact.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn fact(&mut self, time_ns: u64, fact: &Fact) -> io::Result<()> {
        let json = serde_json::to_vec(fact)?;
        self.frame(Tag::Fact, time_ns, &json)
    }

    /// Adds a tick.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn tick(&mut self, now_ns: u64) -> io::Result<()> {
        self.frame(Tag::Tick, now_ns, &[])
    }

    /// Hands what is buffered to the file.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Ends the record and gives the file back.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn into_inner(self) -> io::Result<W> {
        self.out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
    }

    fn frame(&mut self, tag: Tag, time_ns: u64, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len())
            .ok()
            .filter(|&len| len <= MAX_PAYLOAD_BYTES);
        let len = len.ok_or_else(|| io::Error::other("a frame would be longer than 16 MiB"))?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&[tag as u8])?;
        self.out.write_all(&time_ns.to_le_bytes())?;
        self.out.write_all(payload)
    }
}

/// A record without queries and headers; it decodes to the same event.
fn redacted(record: &[u8]) -> Cow<'_, [u8]> {
    match decode::decode(record) {
        Ok(Event::Request(_)) => {
            let mut kept = record.to_vec();
            redact_line(
                &mut kept,
                offset_of!(RequestRecord, line_len),
                offset_of!(RequestRecord, line_source),
                offset_of!(RequestRecord, line),
            );
            Cow::Owned(kept)
        }
        Ok(Event::Stack(_)) => {
            let mut kept = record.to_vec();
            redact_line(
                &mut kept,
                offset_of!(StackRecord, line_len),
                offset_of!(StackRecord, line_source),
                offset_of!(StackRecord, line),
            );
            Cow::Owned(kept)
        }
        Ok(_) => Cow::Borrowed(record),
        Err(_) => {
            // Its header shows what is wrong with it; the rest may be anything.
            let mut kept = record.to_vec();
            kept.iter_mut()
                .skip(size_of::<Header>())
                .for_each(|byte| *byte = 0);
            Cow::Owned(kept)
        }
    }
}

/// Redacts the request's head in a record that has its fields at these offsets.
fn redact_line(record: &mut [u8], line_len: usize, line_source: usize, line: usize) {
    let number = |at: usize| {
        let bytes = record.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes))
    };
    let len = usize::from(number(line_len));
    let source = number(line_source);
    let Some(line) = record.get_mut(line..) else {
        return;
    };
    let (line, unused) = line.split_at_mut(len.min(line.len()));
    unused.fill(0);
    if source == LineSource::Wire as u16 {
        line::redact_wire(line);
    } else if source != LineSource::Python as u16 {
        line.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::test_records::{RequestBytes, stack};

    #[test]
    fn a_redacted_record_holds_no_query_or_header_and_decodes_to_the_same() {
        let line = b"GET /a?token=secret HTTP/1.1\r\nCookie: secret".to_vec();
        let whole = RequestBytes {
            pid: 1,
            time_ns: 2,
            line,
            ..Default::default()
        }
        .build();
        let mut dirty = whole.clone();
        dirty.splice(whole.len() - 6.., *b"secret");
        let of_stack = stack(1, 2, "GET /a?token=secret HTTP/1.1\r\nCookie: secret", &[]);
        for record in [
            of_stack,
            whole.clone(),
            dirty,
            [whole.as_slice(), b"secret"].concat(),
        ] {
            let kept = redacted(&record);
            assert!(!kept.windows(6).any(|bytes| bytes == b"secret"));
            assert_eq!(decode::decode(&kept), decode::decode(&record));
        }
    }
}
