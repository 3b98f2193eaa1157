//! Where in the source a frame is.

use std::collections::HashMap;

use observer_model::Untrusted;
use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::DIRECT;

use super::lines::Lines;
use super::object::{Objects, add};

/// Bytes of a line table that are read: enough for some ten thousand lines.
const MAX_TABLE_BYTES: u64 = 256 << 10;

/// Positions that were read before: many tasks wait at the same place.
#[derive(Debug, Default)]
pub struct Positions(HashMap<Place, Position>);

/// An instruction of a code object. The objects that the code refers to are part of it, since a
/// program may make another code object at the same address.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place {
    code: u64,
    instruction: Option<u32>,
    refers_to: [u64; 3],
}

impl Positions {
    /// As [`Position::of`].
    pub fn of<M: Memory>(
        &mut self,
        objects: &Objects<'_, M>,
        code: u64,
        instruction: Option<u32>,
    ) -> Position {
        let layout = objects.layout();
        let fields = [layout.code_name, layout.code_filename, layout.code_lines];
        let place = Place {
            code,
            instruction,
            refers_to: fields.map(|field| objects.field(code, field).unwrap_or_default()),
        };
        let read = || Position::of(objects, code, instruction);
        self.0.entry(place).or_insert_with(read).clone()
    }
}

/// A function and a line in it; what cannot be read is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// `co_qualname`; `co_name` before 3.11, which lacks it.
    pub function: Option<Untrusted>,
    /// `co_filename`.
    pub file: Option<Untrusted>,
    /// Absent also if the instruction belongs to no line.
    pub line: Option<u32>,
}

impl Position {
    /// The position of the instruction at this byte offset of a code object.
    pub fn of<M: Memory>(objects: &Objects<'_, M>, code: u64, instruction: Option<u32>) -> Self {
        let layout = objects.layout();
        let text = |offset| {
            let text = objects.text(objects.field(code, offset).ok()?).ok()?;
            Some(Untrusted::from(text))
        };
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

    /// Whether it is in a function of this bare name, in a file whose path ends so.
    #[must_use]
    pub fn is_in(&self, file_end: &str, function: &str) -> bool {
        let [file, name] = [&self.file, &self.function].map(|it| it.as_ref().map(Untrusted::raw));
        let is_it = |name: &str| name.rsplit('.').next() == Some(function);
        file.is_some_and(|file| file.ends_with(file_end)) && name.is_some_and(is_it)
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
