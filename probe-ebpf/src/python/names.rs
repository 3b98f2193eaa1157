//! Names of classes, modules, files and functions, copied as raw bytes: userspace decodes them.

use super::{DIRECT, Layout, REFERENCE_TAGS};
use crate::abi::{CLASS_BYTES, ClassNames, FILE_BYTES, FUNCTION_BYTES, FrameNames, MODULE_BYTES};
use crate::memory::{Fault, Memory};

/// Keys of a dictionary searched for a module's or a class's own name, which comes first.
const FIRST_KEYS: u64 = 6;

impl Layout {
    /// Copies the names of a class, as far as they can be read.
    #[inline(always)]
    pub fn class_names<M: Memory>(&self, mem: &M, class: u64, names: &mut ClassNames) {
        let name = self.peek(mem, class, self.type_name);
        // UTF-8 and a zero, of unknown length.
        let (words, _) = names.name.as_chunks_mut::<8>();
        for (at, place) in words.iter_mut().enumerate() {
            let word = mem.peek(name.wrapping_add(8 * at as u64));
            *place = word.to_le_bytes();
            if has_zero(word) {
                break;
            }
        }
        // The name of a C class contains its module.
        let dict = self.peek(mem, class, self.type_dict);
        let module = self.first_value(mem, dict, b"__module__");
        names.module_len = self.head(mem, module, &mut names.module);
    }

    /// Copies the names of a frame's code, as far as they can be read.
    #[inline(always)]
    pub fn frame_names<M: Memory>(&self, mem: &M, frame: u64, names: &mut FrameNames) {
        let code = self.peek(mem, frame, self.frame_code) & !REFERENCE_TAGS;
        let function = if self.code_qualname == DIRECT {
            self.code_name
        } else {
            self.code_qualname
        };
        let function = self.peek(mem, code, function);
        (names.function_len, names.function_width) = self.tail(mem, function, &mut names.function);
        let file = self.peek(mem, code, self.code_filename);
        (names.file_len, names.file_width) = self.tail(mem, file, &mut names.file);
        let globals = self.peek(mem, frame, self.frame_globals);
        let module = self.first_value(mem, globals, b"__name__");
        names.module_len = self.head(mem, module, &mut names.module);
    }

    /// The value of a key among the first of a dictionary; 0 if it is not there. Dictionaries of
    /// modules and classes do not share their keys, and all their keys are text.
    #[inline(always)]
    fn first_value<M: Memory, const N: usize>(&self, mem: &M, dict: u64, name: &[u8; N]) -> u64 {
        let keys = self.peek(mem, dict, self.dict_keys);
        let Ok(entries) = self.entries(mem, keys) else {
            return 0;
        };
        for index in 0..FIRST_KEYS {
            let at = entries.key_at(index);
            let key = mem.peek(at);
            let mut found = [0; N];
            let is_read = mem.read(key.wrapping_add(u64::from(self.str_ascii)), &mut found);
            let length = self.peek(mem, key, self.str_length);
            if is_read.is_ok() && length == N as u64 && found == *name {
                return mem.peek(at.wrapping_add(8));
            }
        }
        0
    }

    /// Copies the start of a `str` of narrow characters; returns the number of bytes.
    #[inline(always)]
    fn head<M: Memory, const N: usize>(&self, mem: &M, object: u64, buf: &mut [u8; N]) -> u8 {
        let Ok((data, length, width)) = self.str_parts(mem, object) else {
            return 0;
        };
        if width != 1 {
            return 0;
        }
        copy(mem, data, length.min(N as u64), buf)
    }

    /// Copies the end of a `str`; returns the number of bytes and the width of a character.
    #[expect(clippy::cast_possible_truncation, reason = "the width has three bits")]
    #[inline(always)]
    fn tail<M: Memory, const N: usize>(&self, mem: &M, object: u64, buf: &mut [u8; N]) -> (u8, u8) {
        let Ok((data, length, width)) = self.str_parts(mem, object) else {
            return (0, 1);
        };
        let bytes = length.wrapping_mul(width);
        let kept = bytes.min(N as u64);
        let from = data.wrapping_add(bytes.wrapping_sub(kept));
        (copy(mem, from, kept, buf), width as u8)
    }
}

/// Copies `bytes` bytes; returns the number of bytes copied.
#[expect(
    clippy::cast_possible_truncation,
    reason = "no more bytes than the buffer has, fewer than 256"
)]
#[inline(always)]
fn copy<M: Memory, const N: usize>(mem: &M, from: u64, bytes: u64, buf: &mut [u8; N]) -> u8 {
    let Some(place) = buf.get_mut(..bytes as usize) else {
        return 0;
    };
    match mem.read(from, place) {
        Ok(()) => bytes as u8,
        Err(Fault) => 0,
    }
}

/// Whether a byte of a word is zero.
#[inline(always)]
fn has_zero(word: u64) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    word.wrapping_sub(LOW) & !word & (LOW << 7) != 0
}

const _: () = {
    // Their lengths fit a byte, and their sizes hold characters of any width.
    assert!(FILE_BYTES <= 255 && FILE_BYTES.is_multiple_of(4));
    assert!(FUNCTION_BYTES <= 255 && FUNCTION_BYTES.is_multiple_of(4));
    assert!(MODULE_BYTES <= 255 && CLASS_BYTES.is_multiple_of(8));
};

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
