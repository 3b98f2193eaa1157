//! The record of a stack.

use super::decode::{DecodeError, Fields, frame, request_line};
use crate::cpython::lines::Lines;
use observer_model::Untrusted;
use observer_model::event::{CodeLocation, Frame, Pid, Stack};
use probe_ebpf::abi::{ALL_LINES_BYTES, HEAD_BYTES, NO_INSTRUCTION, STACK_FRAMES, lines_of};

/// The fields of a record after its header.
pub(super) fn stack(fields: &mut Fields, pid: Pid, time_ns: u64) -> Result<Stack, DecodeError> {
    let entered_ns = fields.time()?;
    let thread_state = fields.u64()?;
    let is_current = fields.u32()? != 0;
    let found = usize::try_from(fields.u32()?).unwrap_or(usize::MAX);
    let line_len = fields.u16()?;
    let line_source = fields.u16()?;
    let _reserved = fields.u32()?;
    let head = fields.bytes(HEAD_BYTES)?;
    let line = request_line(
        line_source,
        head.get(..usize::from(line_len)).unwrap_or(head),
    );
    let mut frames = Vec::with_capacity(STACK_FRAMES);
    for _ in 0..STACK_FRAMES {
        frames.push(raw_frame(fields)?);
    }
    let lines = fields.bytes(ALL_LINES_BYTES)?;
    let frames = frames.into_iter().take(found).enumerate();
    let frames = frames.map(|(n, raw)| raw.place(n, lines));
    // A frame that only marks the border to C has no code.
    let frames = frames.filter(|place| !is_nameless(&place.frame));
    Ok(Stack {
        time_ns,
        pid,
        thread_state,
        is_current,
        entered_ns,
        method: line.method.map(Untrusted::from),
        path: line.path.map(|path| path.into_owned().into()),
        path_cut: line.path_cut,
        frames: frames.collect(),
        is_cut: found > STACK_FRAMES,
    })
}

fn is_nameless(frame: &Frame) -> bool {
    frame.file.is_empty() && frame.function.is_empty()
}

/// A frame as it is in the record.
struct RawFrame {
    frame: Frame,
    instruction: u32,
    first_line: u32,
    line_table: u32,
    lines_len: usize,
}

fn raw_frame(fields: &mut Fields) -> Result<RawFrame, DecodeError> {
    let (frame, is_there) = frame(fields)?;
    Ok(RawFrame {
        frame: if is_there { frame } else { Frame::default() },
        instruction: fields.u32()?,
        first_line: fields.u32()?,
        line_table: fields.u32()?,
        lines_len: usize::try_from(fields.u32()?).unwrap_or(usize::MAX),
    })
}

impl RawFrame {
    /// Number `n`, with the line that it is at; `all` has the line tables of all frames.
    fn place(self, n: usize, all: &[u8]) -> CodeLocation {
        let (at, room) = lines_of(n);
        let table = all.get(at..at + room.min(self.lines_len));
        let lines = Lines {
            table: table.unwrap_or_default(),
            is_cut: self.lines_len > room,
            format: self.line_table,
            first_line: self.first_line,
        };
        let line = (self.instruction != NO_INSTRUCTION).then(|| lines.line(self.instruction));
        CodeLocation {
            frame: self.frame,
            line: line.flatten(),
        }
    }
}
