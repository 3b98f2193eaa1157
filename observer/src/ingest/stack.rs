//! The record of a stack.

use super::decode::{DecodeError, Fields, frame, request_line};
use crate::event::{Frame, Pid, Place, Stack};
use probe_ebpf::abi::{HEAD_BYTES, LINES_BYTES, NO_INSTRUCTION, STACK_FRAMES};

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
    let mut frames = Vec::new();
    for _ in 0..STACK_FRAMES.min(found) {
        let place = place(fields)?;
        // A frame that only marks the border to C has no code.
        if !(place.frame.file.is_empty() && place.frame.function.is_empty()) {
            frames.push(place);
        }
    }
    Ok(Stack {
        time_ns,
        pid,
        thread_state,
        is_current,
        entered_ns,
        method: line.method,
        path: line.path,
        path_cut: line.path_cut,
        frames,
        is_cut: found > STACK_FRAMES,
    })
}

fn place(fields: &mut Fields) -> Result<Place, DecodeError> {
    let (frame, is_there) = frame(fields)?;
    let instruction = fields.u32()?;
    let first_line = fields.u32()?;
    let _line_table = fields.u32()?;
    let lines_len = usize::try_from(fields.u32()?).unwrap_or(usize::MAX);
    let lines = fields.bytes(LINES_BYTES)?;
    let _lines = lines.get(..lines_len).unwrap_or(lines);
    if !is_there {
        return Ok(Place::default());
    }
    let line = (instruction != NO_INSTRUCTION).then_some(first_line);
    Ok(Place {
        frame: Frame { ..frame },
        line,
    })
}
