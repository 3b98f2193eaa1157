//! A few attributes of objects of one class, again and again: found by name once, then read from where
//! they were.
//!
//! A read of user memory costs about the same for 8 and for 256 bytes, so one read takes as many values
//! as possible. [`Shape`] remembers where the attributes of a class are. It is proved at every use: by
//! the class where values lie beside the object, by the keys of a shared dictionary, and by the key of
//! the entry in a dictionary of the object's own.

use super::{InlineValues, Layout};
use crate::branchless::{all_if_zero, choose};
use crate::memory::{Fault, Memory};

/// Attributes of a shape.
pub const FIELDS: usize = 5;
/// The same, filled up to whole words.
const SLOTS: usize = 8;
/// Keys that are searched: Gunicorn's `Request` has about thirty attributes.
const MAX_KEYS: u64 = 48;
/// Words read at most: those before the values, and the values.
pub const SPACE: usize = 64;

/// The name of an attribute, by its first eight bytes: no class here has two attributes that begin alike.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    start: u64,
    /// Its letters, and the zero that ends it.
    mask: u64,
}

impl Name {
    /// No attribute has it.
    pub const NONE: Self = Self { start: 1, mask: 0 };

    /// A name, cut after eight letters.
    #[must_use]
    pub const fn new(name: &str) -> Self {
        let name = name.as_bytes();
        let (mut start, mut mask, mut at) = (0, 0, 0);
        while at < 8 && at <= name.len() {
            mask |= 0xff << (at * 8);
            if at < name.len() {
                start |= (name[at] as u64) << (at * 8);
            }
            at += 1;
        }
        Self { start, mask }
    }

    /// All bits set if a string that begins with `text` has the name, else none.
    #[inline(always)]
    fn is(self, text: u64) -> u64 {
        all_if_zero((text & self.mask) ^ self.start)
    }
}

/// Where the attributes of a class are; all zero while that is unknown.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The class.
    pub class: u64,
    /// The shared keys; 0 where each object has its own.
    keys: u64,
    /// Keys of the entries in dictionaries of the objects' own.
    names: [u64; FIELDS],
    /// Offset of the first entry from the keys, and bytes of an entry, in such dictionaries.
    entries_at: u32,
    entry_bytes: u32,
    /// Index of each value, plus one; 0 for an attribute that the class does not have.
    slots: [u8; SLOTS],
    /// Values to be read.
    values: u32,
    reserved: u32,
}
const _: () = assert!(size_of::<Shape>() == 16 + FIELDS * 8 + 8 + SLOTS + 8);

/// Where an object keeps its attributes, and its class.
#[derive(Clone, Copy)]
struct Kept {
    class: u64,
    /// Address of the first value; 0 where they are in a dictionary.
    values: u64,
    dict: u64,
}

impl Shape {
    /// Nothing is known yet.
    pub const NONE: Self = Self {
        class: 0,
        keys: 0,
        names: [0; FIELDS],
        entries_at: 0,
        entry_bytes: 0,
        slots: [0; SLOTS],
        values: 0,
        reserved: 0,
    };
}

/// Reads the attributes of `object`, one after the other as [`learn`] found them; 0 for one that it
/// lacks.
///
/// # Errors
/// [`Fault`] when the object cannot be read, or `shape` is not that of its class.
#[inline(always)]
pub fn read<M: Memory>(
    mem: &M,
    layout: &Layout,
    object: u64,
    shape: &Shape,
    space: &mut [u64; SPACE],
) -> Result<[u64; FIELDS], Fault> {
    let kept = keeping(mem, layout, object, space)?;
    if kept.class != shape.class || shape.class == 0 {
        return Err(Fault);
    }
    values(mem, layout, kept, shape, space)
}

#[inline(always)]
fn keeping<M: Memory>(
    mem: &M,
    layout: &Layout,
    object: u64,
    space: &mut [u64; SPACE],
) -> Result<Kept, Fault> {
    // Words from 32 bytes before the object: its values pointer, its dictionary, its garbage collector
    // links, its reference count and class, and in older versions its dictionary.
    let words: &mut [u64; 7] = space.first_chunk_mut().ok_or(Fault)?;
    mem.words(object.wrapping_sub(32), words)?;
    let [before32, before24, _, _, _, class, behind16] = *words;
    let first = u64::from(layout.values_first);
    let (values, dict) = if layout.inline_values == InlineValues::Dict as u32 {
        (0, behind16)
    } else if layout.inline_values == InlineValues::Before32 as u32 {
        (before32, before24)
    } else if layout.inline_values == InlineValues::Tagged24 as u32 {
        if before24 & 1 == 1 {
            (before24.wrapping_add(1 + first), 0)
        } else {
            (0, before24)
        }
    } else if before24 == 0 {
        // Behind the object's own fields: none, in a class of Python.
        (object.wrapping_add(16 + first), 0)
    } else {
        (0, before24)
    };
    Ok(Kept {
        class,
        values,
        dict,
    })
}

#[inline(always)]
fn values<M: Memory>(
    mem: &M,
    layout: &Layout,
    kept: Kept,
    shape: &Shape,
    space: &mut [u64; SPACE],
) -> Result<[u64; FIELDS], Fault> {
    let at = if kept.values != 0 {
        if shape.keys == 0 {
            return Err(Fault);
        }
        kept.values
    } else {
        let mut tables = [0_u64; 2];
        mem.words(
            kept.dict.wrapping_add(u64::from(layout.dict_keys)),
            &mut tables,
        )?;
        let [keys, values] = tables;
        if values == 0 {
            return entries(mem, keys, shape);
        }
        if keys != shape.keys {
            return Err(Fault);
        }
        values.wrapping_add(u64::from(layout.values_first))
    };
    // A bound that every verifier sees.
    let count = core::hint::black_box(shape.values) as usize & (SPACE - 1);
    let space: &mut [u64] = space.get_mut(..count).ok_or(Fault)?;
    mem.words(at, space)?;
    let mut found = [0; FIELDS];
    for (value, &slot) in found.iter_mut().zip(&shape.slots) {
        if slot != 0 {
            *value = space
                .get((slot as usize - 1) & (SPACE - 1))
                .copied()
                .unwrap_or(0);
        }
    }
    Ok(found)
}

/// The values of entries in a dictionary of the object's own.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "it indexes three arrays")]
fn entries<M: Memory>(mem: &M, keys: u64, shape: &Shape) -> Result<[u64; FIELDS], Fault> {
    let mut found = [0; FIELDS];
    if shape.keys != 0 {
        return Err(Fault);
    }
    for n in 0..FIELDS {
        let slot = u64::from(shape.slots[n]);
        if slot == 0 {
            continue;
        }
        let key_at = u64::from(shape.entry_bytes).wrapping_sub(16);
        let at = keys
            .wrapping_add(u64::from(shape.entries_at))
            .wrapping_add((slot - 1).wrapping_mul(u64::from(shape.entry_bytes)))
            .wrapping_add(key_at);
        let mut entry = [0_u64; 2];
        mem.words(at, &mut entry)?;
        let [key, value] = entry;
        if key != shape.names[n] {
            return Err(Fault);
        }
        found[n] = value;
    }
    Ok(found)
}

/// Finds the attributes `names` of objects like `object`, which may keep them in several ways.
///
/// # Errors
/// [`Fault`] when the object cannot be read.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "keys are few, and entries near their start"
)]
#[expect(clippy::needless_range_loop, reason = "it indexes three arrays")]
pub fn learn<M: Memory>(
    mem: &M,
    layout: &Layout,
    object: u64,
    names: &[Name; FIELDS],
    shape: &mut Shape,
    space: &mut [u64; SPACE],
) -> Result<(), Fault> {
    let kept = keeping(mem, layout, object, space)?;
    shape.class = 0;
    let (keys, is_shared) = if kept.values != 0 {
        let at = kept.class.wrapping_add(u64::from(layout.type_cached_keys));
        (mem.word(at)?, true)
    } else {
        let mut tables = [0_u64; 2];
        mem.words(
            kept.dict.wrapping_add(u64::from(layout.dict_keys)),
            &mut tables,
        )?;
        (tables[0], tables[1] != 0)
    };
    let entries = layout.entries(mem, keys)?;
    shape.slots = [0; SLOTS];
    shape.values = 0;
    let count = mem.peek(keys.wrapping_add(u64::from(layout.keys_nentries)));
    for index in 0..MAX_KEYS {
        if index >= count {
            break;
        }
        let key = mem.peek(entries.key_at(index));
        let text = mem.peek(key.wrapping_add(u64::from(layout.str_ascii)));
        for n in 0..FIELDS {
            let is = names[n].is(text);
            shape.slots[n] = choose(is, index + 1, u64::from(shape.slots[n])) as u8;
            shape.names[n] = choose(is, key, shape.names[n]);
            shape.values = choose(is, index + 1, u64::from(shape.values)) as u32;
        }
    }
    shape.keys = if is_shared { keys } else { 0 };
    shape.entries_at = entries.first.wrapping_sub(keys) as u32;
    shape.entry_bytes = entries.size as u32;
    shape.class = kept.class;
    Ok(())
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
