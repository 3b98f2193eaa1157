//! An attribute of an instance, by name: for the few objects the programs
//! themselves look into.

use super::{DIRECT, InlineValues, Layout};
use crate::memory::{Fault, Memory};

/// Keys of a shared-key table looked at: Gunicorn's `Request` has about thirty.
const MAX_KEYS: u64 = 32;
/// Room for an attribute name and its terminating zero.
pub const NAME: usize = 8;

/// The value of the attribute `name` (padded with zeros) of `object`.
///
/// # Errors
/// [`Fault`] when it has none, keeps it elsewhere, or cannot be read.
#[inline(always)]
pub fn attribute<M: Memory>(
    mem: &M,
    layout: &Layout,
    object: u64,
    name: [u8; NAME],
) -> Result<u64, Fault> {
    if layout.inline_values != InlineValues::Before32 as u32 || layout.type_cached_keys == DIRECT {
        return Err(Fault);
    }
    let values = mem.word(object.wrapping_sub(32))?;
    let class = mem.word(object.wrapping_add(u64::from(layout.object_type)))?;
    let keys = mem.word(class.wrapping_add(u64::from(layout.type_cached_keys)))?;
    if values == 0 || keys == 0 {
        return Err(Fault);
    }
    let mut log2_index_bytes = [0];
    mem.read(
        keys.wrapping_add(u64::from(layout.keys_log2_index_bytes)),
        &mut log2_index_bytes,
    )?;
    let entries = keys
        .wrapping_add(u64::from(layout.keys_entries))
        .wrapping_add(1 << (log2_index_bytes[0] & 31));
    for index in 0..MAX_KEYS {
        // Two words an entry: the keys of a shared table are strings.
        let key = mem.word(entries.wrapping_add(index * 16))?;
        if key == 0 {
            return Err(Fault);
        }
        if is_named(mem, layout, key, name)? {
            return mem.word(values.wrapping_add(index * 8));
        }
    }
    Err(Fault)
}

#[inline(always)]
fn is_named<M: Memory>(
    mem: &M,
    layout: &Layout,
    key: u64,
    name: [u8; NAME],
) -> Result<bool, Fault> {
    let mut found = [0; NAME];
    mem.read(key.wrapping_add(u64::from(layout.str_ascii)), &mut found)?;
    // The name and its terminating zero; what is behind that is not of it.
    let wanted = u64::from_le_bytes(name);
    let length = (71 - wanted.leading_zeros()) / 8;
    let mask = u64::MAX >> (56 - 8 * length.min(7));
    Ok(u64::from_le_bytes(found) & mask == wanted & mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::tables::CPYTHON_3_11;

    /// One page of memory at address 0x1000.
    struct Page([u8; 0x1000]);

    impl Page {
        fn put(&mut self, address: usize, bytes: &[u8]) {
            self.0[address - 0x1000..][..bytes.len()].copy_from_slice(bytes);
        }

        fn put_word(&mut self, address: usize, word: u64) {
            self.put(address, &word.to_le_bytes());
        }
    }

    impl Memory for Page {
        fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault> {
            let start = usize::try_from(address)
                .map_err(|_| Fault)?
                .checked_sub(0x1000);
            let range = start.ok_or(Fault)?..;
            let source = self
                .0
                .get(range)
                .and_then(|rest| rest.get(..buf.len()))
                .ok_or(Fault)?;
            buf.copy_from_slice(source);
            Ok(())
        }
    }

    /// An instance with the attributes `meth`, `method` and `path`.
    fn instance() -> Page {
        let mut page = Page([0; 0x1000]);
        let (object, class, keys, values) = (0x1100, 0x1200, 0x1700, 0x1900);
        page.put_word(object - 32, values as u64);
        page.put_word(object + 8, class as u64);
        page.put_word(class + 872, keys as u64);
        page.put(keys + 9, &[3]); // eight one-byte indices
        for (index, name) in ["meth", "method", "path"].iter().enumerate() {
            let key = 0x1a00 + index * 0x80;
            page.put(key + 48, name.as_bytes());
            page.put_word(keys + 32 + 8 + index * 16, key as u64);
            page.put_word(values + index * 8, 100 + index as u64);
        }
        page
    }

    #[test]
    fn an_attribute_is_found_by_its_whole_name() {
        let page = instance();
        let find = |name: &[u8; 8]| attribute(&page, &CPYTHON_3_11, 0x1100, *name);
        assert_eq!(find(b"meth\0\0\0\0"), Ok(100));
        assert_eq!(find(b"method\0\0"), Ok(101));
        assert_eq!(find(b"path\0\0\0\0"), Ok(102));
        assert_eq!(find(b"uri\0\0\0\0\0"), Err(Fault));
    }

    #[test]
    fn garbage_has_no_attributes() {
        let page = instance();
        assert_eq!(
            attribute(&page, &CPYTHON_3_11, 0, *b"path\0\0\0\0"),
            Err(Fault)
        );
        assert_eq!(
            attribute(&page, &CPYTHON_3_11, 0x1f00, *b"path\0\0\0\0"),
            Err(Fault)
        );
    }
}
