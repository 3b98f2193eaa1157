//! Names of classes, modules, files and functions, copied as they are: what they
//! mean is worked out where there is time.

use super::{DIRECT, Layout};
use crate::abi::{CLASS_BYTES, ClassNames, FILE_BYTES, FUNCTION_BYTES, FrameNames, MODULE_BYTES};
use crate::memory::{Fault, Memory};

/// Keys of a dictionary looked at for a module's or a class's own names, which come first.
const FIRST_KEYS: u64 = 6;

impl Layout {
    /// Copies the names of a class, as far as they can be read.
    #[inline(always)]
    pub fn class_names<M: Memory>(&self, mem: &M, class: u64, names: &mut ClassNames) {
        let _ = self.try_class_names(mem, class, names);
    }

    #[inline(always)]
    fn try_class_names<M: Memory>(
        &self,
        mem: &M,
        class: u64,
        names: &mut ClassNames,
    ) -> Result<(), Fault> {
        let name = self.field(mem, class, self.type_name)?;
        // UTF-8 and a zero, of unknown length.
        let (words, _) = names.name.as_chunks_mut::<8>();
        for (at, word) in words.iter_mut().enumerate() {
            mem.read(name.wrapping_add(8 * at as u64), word)?;
            if word.contains(&0) {
                break;
            }
        }
        // A class of C has its module in its name.
        let dict = self.field(mem, class, self.type_dict)?;
        let module = self.text_of(mem, dict, b"__module__")?;
        names.module_len = self.head(mem, module, &mut names.module)?;
        Ok(())
    }

    /// Copies the names of what a frame runs, as far as they can be read.
    #[inline(always)]
    pub fn frame_names<M: Memory>(&self, mem: &M, frame: u64, names: &mut FrameNames) {
        let _ = self.try_frame_names(mem, frame, names);
    }

    #[inline(always)]
    fn try_frame_names<M: Memory>(
        &self,
        mem: &M,
        frame: u64,
        names: &mut FrameNames,
    ) -> Result<(), Fault> {
        let code = self.code(mem, frame)?;
        let function = if self.code_qualname == DIRECT {
            self.code_name
        } else {
            self.code_qualname
        };
        let function = self.field(mem, code, function)?;
        (names.function_len, names.function_width) =
            self.tail(mem, function, &mut names.function)?;
        let file = self.field(mem, code, self.code_filename)?;
        (names.file_len, names.file_width) = self.tail(mem, file, &mut names.file)?;
        let globals = self.field(mem, frame, self.frame_globals)?;
        let module = self.text_of(mem, globals, b"__name__")?;
        names.module_len = self.head(mem, module, &mut names.module)?;
        Ok(())
    }

    /// The value of one of the first keys of a dictionary.
    #[inline(always)]
    fn text_of<M: Memory, const N: usize>(
        &self,
        mem: &M,
        dict: u64,
        name: &[u8; N],
    ) -> Result<u64, Fault> {
        if dict == 0 {
            return Err(Fault);
        }
        let storage = self.dict_storage(mem, dict)?;
        let entries = self.entries(mem, storage.keys)?;
        for index in 0..FIRST_KEYS {
            let at = entries.key_at(index);
            let key = mem.word(at)?;
            if key == 0 {
                continue; // removed
            }
            let mut found = [0; N];
            if self.field(mem, key, self.str_length)? == N as u64 {
                mem.read(key.wrapping_add(u64::from(self.str_ascii)), &mut found)?;
                if found == *name {
                    // Neither a module nor a class shares its keys.
                    return mem.word(at.wrapping_add(8));
                }
            }
        }
        Err(Fault)
    }

    /// Copies the beginning of a `str` of narrow characters; how many bytes.
    #[inline(always)]
    fn head<M: Memory, const N: usize>(
        &self,
        mem: &M,
        object: u64,
        buf: &mut [u8; N],
    ) -> Result<u8, Fault> {
        let (data, length) = self.narrow_str(mem, object)?;
        let length = if length > N as u64 { N } else { length as usize };
        let Some(place) = buf.get_mut(..length) else {
            return Err(Fault);
        };
        mem.read(data, place)?;
        Ok(length as u8)
    }

    /// Copies the end of a `str`; how many bytes, and how many a character has.
    #[inline(always)]
    fn tail<M: Memory, const N: usize>(
        &self,
        mem: &M,
        object: u64,
        buf: &mut [u8; N],
    ) -> Result<(u8, u8), Fault> {
        let (data, length, width) = self.str_parts(mem, object)?;
        if width == 0 || width > 4 {
            return Err(Fault);
        }
        let bytes = length.wrapping_mul(width);
        let kept = if bytes > N as u64 { N } else { bytes as usize };
        let Some(place) = buf.get_mut(..kept) else {
            return Err(Fault);
        };
        mem.read(data.wrapping_add(bytes - kept as u64), place)?;
        Ok((kept as u8, width as u8))
    }
}

const _: () = {
    // Their lengths are kept in a byte, and hold characters of any width.
    assert!(FILE_BYTES <= 255 && FILE_BYTES % 4 == 0);
    assert!(FUNCTION_BYTES <= 255 && FUNCTION_BYTES % 4 == 0);
    assert!(MODULE_BYTES <= 255 && CLASS_BYTES % 8 == 0);
};
