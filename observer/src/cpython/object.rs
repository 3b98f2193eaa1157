//! Python objects in another process. Every read is bounded and checked: garbage gives an error or a
//! wrong value, never a panic or an endless loop.

use probe_ebpf::memory::{Fault, Memory};
use probe_ebpf::python::Layout;

/// Items, entries and attributes that are read of one container.
pub(crate) const MAX_ITEMS: u64 = 4096;
/// Characters that are read of one string.
const MAX_CHARACTERS: u64 = 4096;
/// Bits of `tp_flags` that mark the built-in types (`Include/object.h`).
pub(crate) mod type_flag {
    pub const LONG: u64 = 1 << 24;
    pub const LIST: u64 = 1 << 25;
    pub const TUPLE: u64 = 1 << 26;
    pub const UNICODE: u64 = 1 << 28;
    pub const DICT: u64 = 1 << 29;
}

/// Reads objects of one interpreter.
#[derive(Debug)]
pub struct Objects<'a, M> {
    pub(crate) mem: &'a M,
    pub(crate) layout: &'a Layout,
}

impl<'a, M: Memory> Objects<'a, M> {
    /// Objects in this memory, of an interpreter of this layout.
    pub fn new(mem: &'a M, layout: &'a Layout) -> Self {
        Self { mem, layout }
    }

    /// The layout that the objects are read with.
    #[must_use]
    pub fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// The memory that the objects are read from.
    #[must_use]
    pub fn memory(&self) -> &'a M {
        self.mem
    }

    /// A word of a structure.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read, as of every reader here.
    pub fn field(&self, base: u64, offset: u32) -> Result<u64, Fault> {
        self.mem.word(add(base, u64::from(offset))?)
    }

    /// An object's type.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn type_of(&self, object: u64) -> Result<u64, Fault> {
        self.field(object, self.layout.object_type)
    }

    /// `tp_name` of a type; the bare name of a class written in Python.
    ///
    /// # Errors
    /// [`Fault`], also when it is not text.
    pub fn type_name(&self, type_object: u64) -> Result<String, Fault> {
        let at = self.field(type_object, self.layout.type_name)?;
        let mut name = Vec::new();
        while name.len() < 256 {
            let at = add(at, name.len() as u64)?;
            let (piece, len) = self.piece(at)?;
            let piece = piece.get(..len).ok_or(Fault)?;
            let end = piece.iter().position(|&byte| byte == 0);
            name.extend(piece.iter().take(end.unwrap_or(len)));
            if end.is_some() {
                return String::from_utf8(name).map_err(|_| Fault);
            }
        }
        Err(Fault)
    }

    /// Some bytes of one page, and their number: one byte at the end of the memory that can be read.
    fn piece(&self, at: u64) -> Result<([u8; 16], usize), Fault> {
        let mut piece = [0; 16];
        let is_in_page = at % 4096 <= 4096 - piece.len() as u64;
        if is_in_page && self.mem.read(at, &mut piece).is_ok() {
            return Ok((piece, piece.len()));
        }
        let [byte] = self.bytes(at)?;
        piece = [byte; 16];
        Ok((piece, 1))
    }

    /// A `str`, or an instance of a subclass of it.
    ///
    /// # Errors
    /// [`Fault`], also if it is no `str` or longer than 4096 characters.
    pub fn text(&self, object: u64) -> Result<String, Fault> {
        self.expect(object, type_flag::UNICODE)?;
        let length = self.field(object, self.layout.str_length)?;
        if length > MAX_CHARACTERS {
            return Err(Fault);
        }
        // `PyASCIIObject.state`: interned (2 bits), kind (3), compact, ascii
        // (`Include/cpython/unicodeobject.h`).
        let state = self.field(object, self.layout.str_state)?;
        let (kind, compact, ascii) = (state >> 2 & 7, state >> 5 & 1, state >> 6 & 1);
        if compact == 0 {
            return Err(Fault); // an instance of a subclass; its data is elsewhere
        }
        let data = if ascii == 1 {
            self.layout.str_ascii
        } else {
            self.layout.str_latin1
        };
        let size = usize::try_from(length * kind).map_err(|_| Fault)?;
        let mut bytes = vec![0; size];
        self.mem.read(add(object, u64::from(data))?, &mut bytes)?;
        match kind {
            1 => Ok(bytes.iter().map(|&byte| char::from(byte)).collect()),
            2 => decode(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|c| u32::from(u16::from_le_bytes(*c))),
            ),
            4 => decode(bytes.as_chunks().0.iter().map(|c| u32::from_le_bytes(*c))),
            _ => Err(Fault),
        }
    }

    /// An `int`, or a `bool` as 0 or 1.
    ///
    /// # Errors
    /// [`Fault`], also if it is no `int` or does not fit.
    pub fn int(&self, object: u64) -> Result<i64, Fault> {
        self.expect(object, type_flag::LONG)?;
        let size = self.field(object, self.layout.int_size)?;
        let (digits, negative) = if self.layout.int_size_shift == 0 {
            let size = size.cast_signed();
            (size.unsigned_abs(), size < 0)
        } else {
            // `lv_tag` from 3.12: the low two bits are 0 for positive, 1 for zero, 2 for negative.
            (
                size.checked_shr(self.layout.int_size_shift).ok_or(Fault)?,
                size & 3 == 2,
            )
        };
        if digits > 3 {
            return Err(Fault);
        }
        let mut value = 0_u128;
        for i in 0..digits {
            let at = add(object, u64::from(self.layout.int_digits) + 4 * i)?;
            let digit = u32::from_le_bytes(self.bytes(at)?);
            if digit >> 30 != 0 {
                return Err(Fault);
            }
            value |= u128::from(digit) << (30 * i);
        }
        let value = i128::try_from(value).map_err(|_| Fault)?;
        i64::try_from(if negative { -value } else { value }).map_err(|_| Fault)
    }

    /// `__self__` of a method: `PyMethodObject.im_self`, behind the function
    /// (`Include/cpython/classobject.h`, the same since 3.8).
    ///
    /// # Errors
    /// [`Fault`], also if it is no method.
    pub fn method_self(&self, object: u64) -> Result<u64, Fault> {
        if self.type_name(self.type_of(object)?)? != "method" {
            return Err(Fault);
        }
        self.field(object, self.layout.object_type + 16)
    }

    /// The globals of a Python function: in front of or, up to 3.9, behind its code
    /// (`Include/cpython/funcobject.h`).
    ///
    /// # Errors
    /// [`Fault`], also if it is no function.
    pub fn function_globals(&self, object: u64) -> Result<u64, Fault> {
        if self.type_name(self.type_of(object)?)? != "function" {
            return Err(Fault);
        }
        let first = self.layout.object_type + 8;
        let is_behind = self.layout.function_code == first;
        self.field(object, if is_behind { first + 8 } else { first })
    }

    /// Whether it is `None`.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn is_none(&self, object: u64) -> Result<bool, Fault> {
        Ok(self.type_name(self.type_of(object)?)? == "NoneType")
    }

    /// Items of a tuple or list.
    ///
    /// # Errors
    /// [`Fault`], also if it is neither or has more than 4096 items.
    pub fn items(&self, object: u64) -> Result<Vec<u64>, Fault> {
        let flags = self.flags(self.type_of(object)?)?;
        let count = self.field(object, self.layout.var_size)?;
        if count > MAX_ITEMS {
            return Err(Fault);
        }
        let first = if flags & type_flag::TUPLE != 0 {
            add(object, u64::from(self.layout.tuple_items))?
        } else if flags & type_flag::LIST != 0 {
            self.field(object, self.layout.list_items)?
        } else {
            return Err(Fault);
        };
        (0..count)
            .map(|i| self.mem.word(add(first, 8 * i)?))
            .collect()
    }

    pub(crate) fn flags(&self, type_object: u64) -> Result<u64, Fault> {
        self.field(type_object, self.layout.type_flags)
    }

    pub(crate) fn expect(&self, object: u64, flag: u64) -> Result<(), Fault> {
        if self.flags(self.type_of(object)?)? & flag == 0 {
            Err(Fault)
        } else {
            Ok(())
        }
    }

    pub(crate) fn bytes<const N: usize>(&self, at: u64) -> Result<[u8; N], Fault> {
        let mut buf = [0; N];
        self.mem.read(at, &mut buf)?;
        Ok(buf)
    }
}

pub(crate) fn add(base: u64, offset: u64) -> Result<u64, Fault> {
    base.checked_add(offset).ok_or(Fault)
}

/// Lone surrogates, which Python allows, become replacement characters.
fn decode(points: impl Iterator<Item = u32>) -> Result<String, Fault> {
    Ok(points
        .map(|point| char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect())
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
