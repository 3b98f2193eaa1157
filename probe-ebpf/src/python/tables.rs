//! Layouts of the CPython versions that do not publish their own.

use super::{InlineValues, Layout};

/// CPython 3.11.
///
/// Read from `Include/cpython/pystate.h`, `Include/internal/pycore_frame.h`,
/// `Include/cpython/code.h`, `Include/internal/pycore_runtime.h`,
/// `Include/internal/pycore_dict.h`, `Include/cpython/object.h`, `Include/cpython/funcobject.h` of 3.11.7; the same for all 3.11.
pub const CPYTHON_3_11: Layout = Layout {
    tstate_frame: 56,
    cframe_frame: 8,
    frame_code: 32,
    frame_back: 48,
    frame_localsplus: 72,
    function_code: 48,
    code_names: 32,
    type_mro: 344,
    code_filename: 112,
    code_name: 120,
    code_qualname: 128,
    str_length: 16,
    str_state: 32,
    str_ascii: 48,
    str_latin1: 72,
    object_type: 8,
    type_name: 24,
    type_cached_keys: 872,
    keys_entries: 32,
    keys_log2_index_bytes: 9,
    keys_kind: 10,
    keys_nentries: 24,
    inline_values: InlineValues::Before32 as u32,
    tstate_thread_id: 152,
    tstate_native_thread_id: 160,
    tstate_next: 8,
    interp_threads: 16,
    runtime_main_interp: 48,
    runtime_tss_key: 596,
    type_dict: 264,
    type_flags: 168,
    type_basicsize: 32,
    dict_keys: 32,
    dict_values: 40,
    int_size: 16,
    int_size_shift: 0,
    int_digits: 24,
    tuple_items: 24,
    var_size: 16,
    list_items: 24,
    values_first: 0,
    type_base: 256,
    type_dictoffset: 288,
    frame_globals: 8,
};

/// The versions with a layout, as they are shown.
pub const NAMES: &[&str] = &["3.11"];

/// The layout of a released CPython, if it is one we know.
#[must_use]
pub fn for_version(major: u8, minor: u8) -> Option<&'static Layout> {
    match (major, minor) {
        (3, 11) => Some(&CPYTHON_3_11),
        _ => None,
    }
}
