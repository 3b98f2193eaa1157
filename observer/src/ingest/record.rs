//! The record file: the whole input of the model, as it came.
//!
//! ```text
//! file  = MAGIC (8 bytes), format version (u32), frame*
//! frame = payload length (u32), tag (u8), CLOCK_MONOTONIC ns (u64), payload
//! ```
//!
//! All numbers are little-endian. A kernel frame holds the record of the ring
//! buffer as it was, so that a replay decodes it anew; a fact is JSON; a tick
//! has no payload.

use crate::fact::Fact;
use std::io::{self, BufWriter, Write};

/// First bytes of a record file.
pub const MAGIC: [u8; 8] = *b"GUNIOBS\n";
/// Version of the layout above.
pub const FORMAT: u32 = 1;
/// Bytes before the payload of a frame.
pub const FRAME_HEADER_BYTES: usize = 13;
/// No payload is longer.
pub const MAX_PAYLOAD_BYTES: u32 = 1 << 20;

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
    /// Begins a record.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = BufWriter::new(out);
        out.write_all(&MAGIC)?;
        out.write_all(&FORMAT.to_le_bytes())?;
        Ok(Self { out })
    }

    /// Adds a record of the ring buffer, well-formed or not.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn kernel(&mut self, record: &[u8]) -> io::Result<()> {
        // The time stands in the record too; the frame's copy is for tools.
        let time = record.get(8..16).and_then(|b| b.first_chunk());
        self.frame(
            Tag::Kernel,
            time.map_or(0, |b| u64::from_le_bytes(*b)),
            record,
        )
    }

    /// Adds something userspace found out.
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
        let len = len.ok_or_else(|| io::Error::other("a frame would be longer than 1 MiB"))?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&[tag as u8])?;
        self.out.write_all(&time_ns.to_le_bytes())?;
        self.out.write_all(payload)
    }
}
