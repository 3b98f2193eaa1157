//! Lines of instructions, as a code object tells them.

use probe_ebpf::python::LineTable;

/// An entry of `co_lnotab`, or of 3.10's `co_linetable`: bytes, then a step of lines.
const PAIR: usize = 2;
/// A step of lines in 3.10's table that means that the instructions are of no line.
const NO_LINE: i8 = i8::MIN;
/// Bytes of an instruction's unit, which `Locations` count in.
const UNIT_BYTES: u32 = 2;

/// What a code object tells of its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines<'a> {
    /// `co_lnotab` or `co_linetable`, or the beginning of it.
    pub table: &'a [u8],
    /// It goes on behind what is here.
    pub is_cut: bool,
    /// A [`LineTable`], as the layout has it.
    pub format: u32,
    /// `co_firstlineno`.
    pub first_line: u32,
}

impl Lines<'_> {
    /// The line of the instruction that is so many bytes from the first; `None` when it is of
    /// none, or the table does not tell.
    #[must_use]
    pub fn line(&self, instruction_offset: u32) -> Option<u32> {
        let line = if self.format == LineTable::Lnotab as u32 {
            self.by_steps(instruction_offset)
        } else if self.format == LineTable::Ranges as u32 {
            self.by_ranges(instruction_offset)
        } else if self.format == LineTable::Locations as u32 {
            self.by_locations(instruction_offset)
        } else {
            None
        };
        u32::try_from(line?).ok()
    }

    /// Each pair says how many bytes the line that was begins before the next, and how many lines
    /// further that is (`PyCode_Addr2Line` in `Objects/codeobject.c` of 3.8). The last line goes
    /// on to the end of the code.
    fn by_steps(&self, wanted: u32) -> Option<i64> {
        let (pairs, _) = self.table.as_chunks::<PAIR>();
        let mut at = 0_u64;
        let mut line = i64::from(self.first_line);
        for [bytes, lines] in pairs {
            at = at.checked_add(u64::from(*bytes))?;
            if at > u64::from(wanted) {
                return Some(line);
            }
            line = line.checked_add(i64::from(lines.cast_signed()))?;
        }
        (!self.is_cut).then_some(line)
    }

    /// Each pair says how many bytes are of a line, and how many lines further that is than the
    /// one before (`PyLineTable_NextAddressRange` in `Objects/codeobject.c` of 3.10).
    fn by_ranges(&self, wanted: u32) -> Option<i64> {
        let (pairs, _) = self.table.as_chunks::<PAIR>();
        let mut end = 0_u64;
        let mut line = i64::from(self.first_line);
        for [bytes, lines] in pairs {
            end = end.checked_add(u64::from(*bytes))?;
            let step = lines.cast_signed();
            if step != NO_LINE {
                line = line.checked_add(i64::from(step))?;
            }
            if end > u64::from(wanted) {
                return (step != NO_LINE).then_some(line);
            }
        }
        None
    }

    /// Each entry begins with a byte that says how many units it is of and how it goes on
    /// (`get_line_delta` in `Objects/codeobject.c`, `_PyCodeLocationInfoKind` in
    /// `Include/cpython/code.h`).
    fn by_locations(&self, wanted: u32) -> Option<i64> {
        let mut rest = self.table;
        let mut end = 0_u64;
        let mut line = i64::from(self.first_line);
        while let Some((&first, after)) = rest.split_first() {
            if !is_begin(first) {
                return None;
            }
            let units = u64::from(first & 7) + 1;
            end = end.checked_add(units * u64::from(UNIT_BYTES))?;
            let kind = first >> 3 & 15;
            let step = match kind {
                // No column, and all there is.
                13 | 14 => signed(after)?,
                // One line; two columns follow.
                10..=12 => i64::from(kind) - 10,
                // Columns of the same line; nothing.
                _ => 0,
            };
            line = line.checked_add(step)?;
            if end > u64::from(wanted) {
                return (kind != 15).then_some(line);
            }
            let next = after.iter().position(|&byte| is_begin(byte))?;
            rest = after.get(next..)?;
        }
        None
    }
}

/// Only the first byte of an entry has its highest bit set.
fn is_begin(byte: u8) -> bool {
    byte & 0x80 != 0
}

/// A number of six bits a byte, the lowest first, its sign in the lowest
/// (`scan_signed_varint` in `Objects/codeobject.c`).
fn signed(bytes: &[u8]) -> Option<i64> {
    /// Enough for 32 bits.
    const MAX_BYTES: usize = 6;
    const MORE: u8 = 0x40;
    let mut number = 0_i64;
    for (at, byte) in bytes.iter().take(MAX_BYTES).enumerate() {
        if is_begin(*byte) {
            return None;
        }
        number |= i64::from(byte & 0x3f) << (6 * at);
        if byte & MORE == 0 {
            let size = number >> 1;
            return Some(if number & 1 == 1 { -size } else { size });
        }
    }
    None
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
