//! Where in the source a frame is.

use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::DIRECT;

use super::lines::Lines;
use super::object::{Objects, add};

/// Bytes of a table of lines that are read: a function of some ten thousand lines.
const MAX_TABLE_BYTES: u64 = 256 << 10;

/// A function, and where in it; what cannot be read is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// `co_qualname`; before 3.11, which lacks it, `co_name`.
    pub function: Option<String>,
    /// `co_filename`.
    pub file: Option<String>,
    /// Absent also where the instruction is of no line.
    pub line: Option<u32>,
}

impl Position {
    /// Of the instruction that is so many bytes from a code object's first.
    pub fn of<M: Memory>(objects: &Objects<'_, M>, code: u64, instruction: Option<u32>) -> Self {
        let layout = objects.layout();
        let text = |offset| objects.text(objects.field(code, offset).ok()?).ok();
        let name = match layout.code_qualname {
            DIRECT => layout.code_name,
            qualname => qualname,
        };
        Self {
            function: text(name),
            file: text(layout.code_filename),
            line: instruction.and_then(|at| line(objects, code, at).ok()?),
        }
    }
}

fn line<M: Memory>(
    objects: &Objects<'_, M>,
    code: u64,
    instruction: u32,
) -> Result<Option<u32>, Fault> {
    let layout = objects.layout();
    let first_line = add(code, u64::from(layout.code_first_line))?;
    let first_line = u32::from_le_bytes(objects.bytes(first_line)?);
    let object = objects.field(code, layout.code_lines)?;
    let bytes = objects.field(object, layout.var_size)?;
    let kept = bytes.min(MAX_TABLE_BYTES);
    let mut table = vec![0; usize::try_from(kept).map_err(|_| Fault)?];
    let data = add(object, u64::from(layout.bytes_data))?;
    objects.memory().read(data, &mut table)?;
    let lines = Lines {
        table: &table,
        is_cut: kept < bytes,
        format: layout.line_table,
        first_line,
    };
    Ok(lines.line(instruction))
}
