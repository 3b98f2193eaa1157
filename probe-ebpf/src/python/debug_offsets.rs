//! `_Py_DebugOffsets`: the offsets that CPython publishes of its own structures, from 3.13 on.
//!
//! They lie at the start of `_PyRuntime`: a cookie, then words, most of them offsets within a structure
//! whose size is among them. The order of the words differs between minor versions
//! (`Include/internal/pycore_runtime.h` of 3.13, `pycore_debug_offsets.h` of 3.14 and 3.15). The file
//! is untrusted: an offset is accepted only where it fits the published size of its structure.

use super::coroutine::Suspension;
use super::tables::CPYTHON_3_12;
use super::{DIRECT, InlineValues, Layout, THREAD_LOCAL};
use thiserror::Error;

/// Words after the cookie in the largest known version, 3.15.
const MAX_WORDS: usize = 110;
/// Bytes to read from the file; there may be fewer.
pub const BYTES: u64 = 8 * (1 + MAX_WORDS as u64);

const COOKIE: &[u8; 8] = b"xdebugpy";
/// `_PyRuntime` and `PyInterpreterState` are some hundred thousand bytes.
const MAX_SIZE: u64 = 4 << 20;

/// Why the offsets were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OffsetsError {
    #[error("it does not publish its debug offsets")]
    Missing,
    #[error("its debug offsets are those of version {major}.{minor}")]
    OtherVersion { major: u8, minor: u8 },
    #[error("free-threaded CPython is not supported")]
    FreeThreaded,
    #[error("its debug offset {word} is {value}, which is impossible")]
    Impossible { word: usize, value: u64 },
}

/// A field of the layout: the word with its value, the word with the size of its structure, and the
/// size of the field.
struct Published {
    field: fn(&mut Layout) -> &mut u32,
    word: usize,
    size: usize,
    bytes: u64,
}

/// The published words of one minor version, and the rest of its layout.
struct Version {
    minor: u8,
    base: Layout,
    published: &'static [Published],
}

/// Rows of `field = word of size word`. Word numbers count from 1, as the cookie is word 0. A field
/// that is no word names its type.
macro_rules! published {
    ($($field:ident $(: $kind:ident)? = $word:literal of $size:literal),+ $(,)?) => {
        &[$(Published {
            field: |layout| &mut layout.$field,
            word: $word,
            size: $size,
            bytes: published!(@bytes $($kind)?),
        }),+]
    };
    (@bytes) => { 8 };
    (@bytes int) => { 4 };
    (@bytes byte) => { 1 };
}

/// Fields that 3.13 does not publish: those of 3.12, except these (`pycore_frame.h`,
/// `pycore_dict.h`, `pycore_object.h`, `cpython/object.h` of 3.13).
const BASE_3_13: Layout = Layout {
    cframe_frame: DIRECT,
    inline_values: InlineValues::Trailing as u32,
    values_first: 8,
    runtime_tss_key: DIRECT,
    tstate_exc_info: 120,
    tstate_raised: 112,
    suspension: Suspension::IndexAndState as u32,
    ..CPYTHON_3_12
};

const VERSIONS: &[Version] = &[
    Version {
        minor: 13,
        base: BASE_3_13,
        published: published! {
            runtime_interpreters = 5 of 3,
            interp_next = 8 of 6,
            interp_threads = 9 of 6,
            interp_sysdict = 12 of 6,
            interp_gil = 14 of 6,
            tstate_next = 21 of 19,
            tstate_interp = 22 of 19,
            tstate_frame = 23 of 19,
            tstate_thread_id = 24 of 19,
            tstate_native_thread_id = 25 of 19,
            frame_back = 29 of 28,
            frame_code = 30 of 28,
            frame_instruction = 31 of 28,
            frame_localsplus = 32 of 28,
            code_filename = 35 of 34,
            code_name = 36 of 34,
            code_qualname = 37 of 34,
            code_lines = 38 of 34,
            code_first_line: int = 39 of 34,
            code_variables = 41 of 34,
            code_instructions = 43 of 34,
            object_type = 45 of 44,
            type_name = 47 of 46,
            type_flags = 49 of 46,
            tuple_items = 51 of 50,
            var_size = 52 of 50,
            list_items = 54 of 53,
            dict_keys = 57 of 56,
            dict_values = 58 of 56,
            int_size = 62 of 61,
            int_digits = 63 of 61,
            bytes_data = 66 of 64,
            str_state = 68 of 67,
            str_length = 69 of 67,
            str_ascii = 70 of 67,
        },
    },
    Version {
        minor: 14,
        base: Layout {
            suspension: Suspension::Pointer as u32,
            ..BASE_3_13
        },
        published: published! {
            runtime_interpreters = 5 of 3,
            interp_next = 8 of 6,
            interp_threads = 9 of 6,
            interp_sysdict = 13 of 6,
            interp_gil = 15 of 6,
            tstate_next = 24 of 22,
            tstate_interp = 25 of 22,
            tstate_frame = 26 of 22,
            tstate_thread_id = 27 of 22,
            tstate_native_thread_id = 28 of 22,
            frame_back = 32 of 31,
            frame_code = 33 of 31,
            frame_instruction = 34 of 31,
            frame_localsplus = 35 of 31,
            frame_stack_top = 37 of 31,
            code_filename = 40 of 39,
            code_name = 41 of 39,
            code_qualname = 42 of 39,
            code_lines = 43 of 39,
            code_first_line: int = 44 of 39,
            code_variables = 46 of 39,
            code_instructions = 48 of 39,
            object_type = 51 of 50,
            type_name = 53 of 52,
            type_flags = 55 of 52,
            tuple_items = 57 of 56,
            var_size = 58 of 56,
            list_items = 60 of 59,
            set_table = 64 of 62,
            set_mask = 65 of 62,
            dict_keys = 67 of 66,
            dict_values = 68 of 66,
            int_size = 72 of 71,
            int_digits = 73 of 71,
            bytes_data = 76 of 74,
            str_state = 78 of 77,
            str_length = 79 of 77,
            str_ascii = 80 of 77,
            generator_frame = 85 of 83,
            generator_state: byte = 86 of 83,
        },
    },
    Version {
        minor: 15,
        base: Layout {
            runtime_tss_key: THREAD_LOCAL,
            tstate_exc_info: 144,
            suspension: Suspension::PointerBelow as u32,
            ..BASE_3_13
        },
        published: published! {
            runtime_interpreters = 5 of 3,
            interp_next = 8 of 6,
            interp_threads = 9 of 6,
            interp_sysdict = 13 of 6,
            interp_gil = 15 of 6,
            tstate_next = 24 of 22,
            tstate_interp = 25 of 22,
            tstate_frame = 26 of 22,
            tstate_thread_id = 30 of 22,
            tstate_native_thread_id = 31 of 22,
            tstate_raised = 36 of 22,
            frame_back = 40 of 39,
            frame_code = 41 of 39,
            frame_instruction = 42 of 39,
            frame_localsplus = 43 of 39,
            frame_stack_top = 45 of 39,
            code_filename = 48 of 47,
            code_name = 49 of 47,
            code_qualname = 50 of 47,
            code_lines = 51 of 47,
            code_first_line: int = 52 of 47,
            code_variables = 54 of 47,
            code_instructions = 56 of 47,
            object_type = 59 of 58,
            type_name = 61 of 60,
            type_flags = 63 of 60,
            type_basicsize = 64 of 60,
            type_dictoffset = 65 of 60,
            type_cached_keys = 67 of 66,
            tuple_items = 69 of 68,
            var_size = 70 of 68,
            list_items = 72 of 71,
            set_table = 76 of 74,
            set_mask = 77 of 74,
            dict_keys = 79 of 78,
            dict_values = 80 of 78,
            int_size = 84 of 83,
            int_digits = 85 of 83,
            bytes_data = 88 of 86,
            str_state = 90 of 89,
            str_length = 91 of 89,
            str_ascii = 92 of 89,
            generator_frame = 101 of 99,
            generator_state: byte = 102 of 99,
        },
    },
];

/// Whether a release publishes offsets in a known order.
#[must_use]
pub fn is_known(major: u8, minor: u8) -> bool {
    major == 3 && VERSIONS.iter().any(|version| version.minor == minor)
}

/// The layout of the interpreter whose `_PyRuntime` begins with `bytes`.
///
/// # Errors
/// See [`OffsetsError`]: one impossible offset refuses all.
pub fn layout(bytes: &[u8]) -> Result<Layout, OffsetsError> {
    let (words, _) = bytes.as_chunks::<8>();
    if words.first() != Some(COOKIE) {
        return Err(OffsetsError::Missing);
    }
    let word = |index: usize| match words.get(index) {
        Some(word) => Ok(u64::from_le_bytes(*word)),
        None => Err(OffsetsError::Missing),
    };
    // `PY_VERSION_HEX`: two bytes of level and serial, below them micro, minor, major.
    let [_, _, minor, major, ..] = word(1)?.to_le_bytes();
    let version = VERSIONS
        .iter()
        .find(|version| major == 3 && version.minor == minor)
        .ok_or(OffsetsError::OtherVersion { major, minor })?;
    if word(2)? != 0 {
        return Err(OffsetsError::FreeThreaded);
    }
    let mut layout = version.base;
    for published in version.published {
        let index = published.word;
        let (value, size) = (word(index)?, word(published.size)?);
        let impossible = OffsetsError::Impossible { word: index, value };
        let bytes = published.bytes;
        let fits = size <= MAX_SIZE && value.checked_add(bytes).is_some_and(|end| end <= size);
        if !fits || !value.is_multiple_of(bytes) {
            return Err(impossible);
        }
        *(published.field)(&mut layout) = u32::try_from(value).map_err(|_| impossible)?;
    }
    // `PyCompactUnicodeObject` is a `PyASCIIObject` with two more words.
    layout.str_latin1 = layout.str_ascii + 16;
    Ok(layout)
}

#[cfg(test)]
#[path = "debug_offsets_tests.rs"]
mod tests;
