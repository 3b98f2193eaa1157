//! Layouts of the CPython versions that do not publish their own.
//!
//! They come from the debug information of 3.8.18, 3.9.18, 3.10.13, 3.11.7 and 3.12.1 on x86-64;
//! `cargo xtask offsets` compares the two. A structure keeps its layout within a minor version. Values
//! that are not members of a structure come from the headers that the fields of [`Layout`] name.

use super::{DIRECT, InlineValues, Layout, LineTable};

/// CPython 3.8.
pub const CPYTHON_3_8: Layout = Layout {
    tstate_frame: 24,
    cframe_frame: DIRECT,
    frame_code: 32,
    frame_back: 24,
    frame_localsplus: 360,
    frame_globals: 48,
    code_filename: 104,
    code_name: 112,
    code_qualname: DIRECT,
    code_names: 64,
    str_length: 16,
    str_state: 32,
    str_ascii: 48,
    str_latin1: 72,
    object_type: 8,
    type_name: 24,
    type_basicsize: 32,
    type_flags: 168,
    type_base: 256,
    type_dict: 264,
    type_dictoffset: 288,
    type_mro: 344,
    type_cached_keys: 872,
    keys_indices: 40,
    keys_size: 8,
    keys_log2_index_bytes: DIRECT,
    keys_kind: DIRECT,
    keys_nentries: 32,
    dict_keys: 32,
    dict_values: 40,
    inline_values: InlineValues::Dict as u32,
    values_first: 0,
    int_size: 16,
    int_size_shift: 0,
    int_digits: 24,
    tuple_items: 24,
    var_size: 16,
    list_items: 24,
    function_code: 16,
    tstate_thread_id: 176,
    tstate_native_thread_id: DIRECT,
    tstate_next: 8,
    interp_threads: 8,
    interp_next: 0,
    interp_sysdict: 72,
    runtime_gil: 1152,
    interp_gil: DIRECT,
    runtime_interpreters: 32,
    runtime_tss_key: 1396,
    frame_object_frame: DIRECT,
    tstate_exc_info: 144,
    tstate_raised: 88,
    handled_value: 8,
    handled_previous: 24,
    exception_traceback: 32,
    exception_context: 40,
    exception_cause: 48,
    exception_suppress_context: 56,
    traceback_next: 16,
    traceback_frame: 24,
    tstate_interp: 16,
    frame_instruction: 104,
    code_first_line: 40,
    code_lines: 120,
    code_instructions: DIRECT,
    bytes_data: 32,
    line_table: LineTable::Lnotab as u32,
    generator_frame: 16,
    has_own_calm_end: 0,
};

/// CPython 3.9.
pub const CPYTHON_3_9: Layout = Layout {
    has_own_calm_end: 1,
    type_cached_keys: 864,
    interp_sysdict: 872,
    runtime_gil: 352,
    runtime_tss_key: 588,
    ..CPYTHON_3_8
};

/// CPython 3.10.
pub const CPYTHON_3_10: Layout = Layout {
    frame_localsplus: 352,
    frame_instruction: 96,
    line_table: LineTable::Ranges as u32,
    type_cached_keys: 872,
    function_code: 48,
    ..CPYTHON_3_9
};

/// CPython 3.11: frames are `_PyInterpreterFrame`s.
pub const CPYTHON_3_11: Layout = Layout {
    tstate_frame: 56,
    cframe_frame: 8,
    frame_code: 32,
    frame_back: 48,
    frame_localsplus: 72,
    frame_globals: 8,
    frame_instruction: 56,
    code_filename: 112,
    code_name: 120,
    code_qualname: 128,
    code_names: 32,
    code_first_line: 72,
    code_lines: 136,
    code_instructions: 184,
    line_table: LineTable::Locations as u32,
    keys_indices: 32,
    keys_size: DIRECT,
    keys_log2_index_bytes: 9,
    keys_kind: 10,
    keys_nentries: 24,
    inline_values: InlineValues::Before32 as u32,
    tstate_thread_id: 152,
    tstate_native_thread_id: 160,
    interp_threads: 16,
    interp_sysdict: 904,
    runtime_gil: 360,
    runtime_interpreters: 40,
    runtime_tss_key: 596,
    generator_frame: 80,
    frame_object_frame: 24,
    tstate_exc_info: 120,
    tstate_raised: 96,
    handled_value: 0,
    handled_previous: 8,
    exception_traceback: 40,
    exception_context: 48,
    exception_cause: 56,
    exception_suppress_context: 64,
    ..CPYTHON_3_10
};

/// CPython 3.12.
pub const CPYTHON_3_12: Layout = Layout {
    cframe_frame: 0,
    frame_code: 0,
    frame_back: 8,
    frame_globals: 24,
    code_first_line: 68,
    code_instructions: 192,
    str_ascii: 40,
    str_latin1: 56,
    type_cached_keys: 880,
    inline_values: InlineValues::Tagged24 as u32,
    int_size_shift: 3,
    tstate_thread_id: 136,
    tstate_native_thread_id: 144,
    interp_threads: 72,
    interp_sysdict: 352,
    runtime_gil: DIRECT,
    interp_gil: 384,
    runtime_tss_key: 1548,
    tstate_exc_info: 104,
    generator_frame: 72,
    ..CPYTHON_3_11
};

/// The layout of a released CPython up to 3.12.
#[must_use]
pub fn for_version(major: u8, minor: u8) -> Option<&'static Layout> {
    match (major, minor) {
        (3, 8) => Some(&CPYTHON_3_8),
        (3, 9) => Some(&CPYTHON_3_9),
        (3, 10) => Some(&CPYTHON_3_10),
        (3, 11) => Some(&CPYTHON_3_11),
        (3, 12) => Some(&CPYTHON_3_12),
        _ => None,
    }
}
