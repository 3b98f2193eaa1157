//! The source of each field of [`Layout`]: the member of CPython whose offset it is, by minor version.

use std::fmt;

use probe_ebpf::python::{DIRECT, Layout};

use super::compare::Derived;

/// The meaning of a field of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The offset of a member: structure, path.
    Member(&'static str, &'static str),
    /// The size of a structure that is followed by data.
    Size(&'static str),
    /// Not read of this version: the layout has [`DIRECT`].
    Unused,
    /// Not in the debug information because it is no type: the reason and the source file.
    Elsewhere(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Member(structure, path) => write!(f, "{structure}.{path}"),
            Size(structure) => write!(f, "the size of {structure}"),
            Unused => f.write_str("nothing of this version"),
            Elsewhere(why) => f.write_str(why),
        }
    }
}

use Source::{Elsewhere, Member, Size, Unused};

/// A source, and the first minor version of CPython 3 that has it.
type Since = (u8, Source);

/// One field of [`Layout`].
pub struct Field {
    pub name: &'static str,
    pub since: &'static [Since],
}

impl Field {
    /// Its source in CPython 3.`minor`.
    pub fn source(&self, minor: u8) -> Source {
        let mut newest_first = self.since.iter().rev();
        newest_first
            .find(|(since, _)| *since <= minor)
            .map_or(Elsewhere("older than all we know"), |(_, source)| *source)
    }
}

macro_rules! fields {
    ($($name:ident: [$($since:literal => $source:expr),+];)*) => {
        /// Every field of [`Layout`]: one that is missing here does not compile.
        pub const FIELDS: &[Field] = &[
            $(Field { name: stringify!($name), since: &[$(($since, $source)),+] }),*
        ];

        /// The value of each of [`FIELDS`] in a layout.
        pub fn values(layout: &Layout) -> Vec<u32> {
            let Layout { $($name),* } = *layout;
            vec![$($name),*]
        }
    };
}

fields! {
    tstate_frame: [
        8 => Member("PyThreadState", "frame"),
        11 => Member("PyThreadState", "cframe"),
        13 => Member("PyThreadState", "current_frame")
    ];
    cframe_frame: [8 => Unused, 11 => Member("_PyCFrame", "current_frame"), 13 => Unused];
    frame_code: [
        8 => Member("PyFrameObject", "f_code"),
        11 => Member("_PyInterpreterFrame", "f_code"),
        13 => Member("_PyInterpreterFrame", "f_executable")
    ];
    frame_back: [
        8 => Member("PyFrameObject", "f_back"),
        11 => Member("_PyInterpreterFrame", "previous")
    ];
    frame_localsplus: [
        8 => Member("PyFrameObject", "f_localsplus"),
        11 => Member("_PyInterpreterFrame", "localsplus")
    ];
    code_filename: [8 => Member("PyCodeObject", "co_filename")];
    code_name: [8 => Member("PyCodeObject", "co_name")];
    code_qualname: [8 => Unused, 11 => Member("PyCodeObject", "co_qualname")];
    str_length: [8 => Member("PyASCIIObject", "length")];
    str_state: [8 => Member("PyASCIIObject", "state")];
    str_ascii: [8 => Size("PyASCIIObject")];
    str_latin1: [8 => Size("PyCompactUnicodeObject")];
    object_type: [8 => Member("PyObject", "ob_type")];
    type_name: [8 => Member("PyTypeObject", "tp_name")];
    type_cached_keys: [8 => Member("PyHeapTypeObject", "ht_cached_keys")];
    keys_indices: [8 => Member("PyDictKeysObject", "dk_indices")];
    keys_size: [8 => Member("PyDictKeysObject", "dk_size"), 11 => Unused];
    keys_log2_index_bytes: [
        8 => Unused,
        11 => Member("PyDictKeysObject", "dk_log2_index_bytes")
    ];
    keys_kind: [8 => Unused, 11 => Member("PyDictKeysObject", "dk_kind")];
    keys_nentries: [8 => Member("PyDictKeysObject", "dk_nentries")];
    inline_values: [8 => Elsewhere(
        "code, no structure: `_PyObject_GetDictPtr` (`Objects/object.c`), and of \
         `Include/internal/pycore_object.h` `_PyObject_ValuesPointer` (3.11), \
         `_PyObject_DictOrValuesPointer` (3.12), `_PyObject_InlineValues` (3.13)"
    )];
    tstate_thread_id: [8 => Member("PyThreadState", "thread_id")];
    tstate_native_thread_id: [
        8 => Unused,
        11 => Member("PyThreadState", "native_thread_id")
    ];
    tstate_next: [8 => Member("PyThreadState", "next")];
    interp_threads: [
        8 => Member("PyInterpreterState", "tstate_head"),
        11 => Member("PyInterpreterState", "threads.head")
    ];
    interp_next: [8 => Member("PyInterpreterState", "next")];
    interp_sysdict: [8 => Member("PyInterpreterState", "sysdict")];
    runtime_gil: [8 => Member("pyruntimestate", "ceval.gil"), 12 => Unused];
    interp_gil: [8 => Unused, 12 => Member("PyInterpreterState", "ceval.gil")];
    runtime_interpreters: [8 => Member("pyruntimestate", "interpreters.head")];
    runtime_tss_key: [
        8 => Member("pyruntimestate", "gilstate.autoTSSkey._key"),
        12 => Member("pyruntimestate", "autoTSSkey._key"),
        13 => Unused
    ];
    type_dict: [8 => Member("PyTypeObject", "tp_dict")];
    type_flags: [8 => Member("PyTypeObject", "tp_flags")];
    type_basicsize: [8 => Member("PyTypeObject", "tp_basicsize")];
    dict_keys: [8 => Member("PyDictObject", "ma_keys")];
    dict_values: [8 => Member("PyDictObject", "ma_values")];
    int_size: [
        8 => Member("PyLongObject", "ob_base.ob_size"),
        12 => Member("PyLongObject", "long_value.lv_tag")
    ];
    int_size_shift: [
        8 => Elsewhere("no shift before 3.12"),
        12 => Elsewhere("a macro: `_PyLong_NON_SIZE_BITS` (`Include/cpython/longintrepr.h`)")
    ];
    int_digits: [
        8 => Member("PyLongObject", "ob_digit"),
        12 => Member("PyLongObject", "long_value.ob_digit")
    ];
    tuple_items: [8 => Member("PyTupleObject", "ob_item")];
    var_size: [8 => Member("PyVarObject", "ob_size")];
    list_items: [8 => Member("PyListObject", "ob_item")];
    values_first: [
        8 => Elsewhere("no such block before 3.11: a split dict's `ma_values` is an array"),
        11 => Member("PyDictValues", "values")
    ];
    type_base: [8 => Member("PyTypeObject", "tp_base")];
    type_dictoffset: [8 => Member("PyTypeObject", "tp_dictoffset")];
    frame_globals: [
        8 => Member("PyFrameObject", "f_globals"),
        11 => Member("_PyInterpreterFrame", "f_globals")
    ];
    function_code: [8 => Member("PyFunctionObject", "func_code")];
    code_names: [8 => Member("PyCodeObject", "co_names")];
    type_mro: [8 => Member("PyTypeObject", "tp_mro")];
    frame_object_frame: [8 => Unused, 11 => Member("PyFrameObject", "f_frame")];
    tstate_exc_info: [8 => Member("PyThreadState", "exc_info")];
    tstate_raised: [
        8 => Member("PyThreadState", "curexc_type"),
        12 => Member("PyThreadState", "current_exception")
    ];
    handled_value: [8 => Member("_PyErr_StackItem", "exc_value")];
    handled_previous: [8 => Member("_PyErr_StackItem", "previous_item")];
    exception_traceback: [8 => Member("PyBaseExceptionObject", "traceback")];
    exception_context: [8 => Member("PyBaseExceptionObject", "context")];
    exception_cause: [8 => Member("PyBaseExceptionObject", "cause")];
    exception_suppress_context: [8 => Member("PyBaseExceptionObject", "suppress_context")];
    traceback_next: [8 => Member("PyTracebackObject", "tb_next")];
    traceback_frame: [8 => Member("PyTracebackObject", "tb_frame")];
    tstate_interp: [8 => Member("PyThreadState", "interp")];
    frame_instruction: [
        8 => Member("PyFrameObject", "f_lasti"),
        11 => Member("_PyInterpreterFrame", "prev_instr"),
        13 => Member("_PyInterpreterFrame", "instr_ptr")
    ];
    code_first_line: [8 => Member("PyCodeObject", "co_firstlineno")];
    code_lines: [
        8 => Member("PyCodeObject", "co_lnotab"),
        10 => Member("PyCodeObject", "co_linetable")
    ];
    code_instructions: [8 => Unused, 11 => Member("PyCodeObject", "co_code_adaptive")];
    bytes_data: [8 => Member("PyBytesObject", "ob_sval")];
    line_table: [8 => Elsewhere(
        "a format, no structure: `Objects/lnotab_notes.txt` (3.8 to 3.10), \
         `Objects/locations.md` (3.11, 3.12), `InternalDocs/code_objects.md` (3.13)"
    )];
    has_own_calm_end: [8 => Elsewhere(
        "how the compiler makes `finally`, no structure: `Python/compile.c`"
    )];
    code_variables: [
        8 => Member("PyCodeObject", "co_varnames"),
        11 => Member("PyCodeObject", "co_localsplusnames")
    ];
    code_cells: [8 => Member("PyCodeObject", "co_cellvars"), 11 => Unused];
    code_free: [8 => Member("PyCodeObject", "co_freevars"), 11 => Unused];
    code_bytes: [8 => Member("PyCodeObject", "co_code"), 11 => Unused];
    generator_frame: [
        8 => Member("PyGenObject", "gi_frame"),
        11 => Member("PyGenObject", "gi_iframe")
    ];
    generator_state: [8 => Unused, 11 => Member("PyGenObject", "gi_frame_state")];
    suspension: [8 => Elsewhere(
        "what a frame awaits, no structure: `_PyGen_yf` in `Objects/genobject.c`"
    )];
    frame_stack: [8 => Member("PyFrameObject", "f_valuestack"), 11 => Unused];
    frame_stack_top: [
        8 => Member("PyFrameObject", "f_stacktop"),
        10 => Member("PyFrameObject", "f_stackdepth"),
        11 => Member("_PyInterpreterFrame", "stacktop"),
        14 => Member("_PyInterpreterFrame", "stackpointer")
    ];
    set_table: [8 => Member("PySetObject", "table")];
    set_mask: [8 => Member("PySetObject", "mask")];
}

/// The value of a [`Source::Unused`] field.
pub const UNUSED: u64 = DIRECT as u64;

/// Assumptions of the code about every version, without a field.
pub struct Constant {
    /// The first minor version.
    pub since: u8,
    pub source: Source,
    pub value: Derived,
}

const fn constant(since: u8, source: Source, byte: u64) -> Constant {
    Constant {
        since,
        source,
        value: Derived::byte(byte),
    }
}

const fn bits(source: Source, bit: u64, bits: u64) -> Constant {
    Constant {
        since: 8,
        source,
        value: Derived::bits(bit, bits),
    }
}

pub const CONSTANTS: &[Constant] = &[
    // `Layout::str_parts`
    bits(Member("PyASCIIObject", "state.kind"), 2, 3),
    bits(Member("PyASCIIObject", "state.ascii"), 6, 1),
    // `attribute.rs`: entries of three words and of two
    constant(8, Size("PyDictKeyEntry"), 24),
    constant(8, Member("PyDictKeyEntry", "me_key"), 8),
    constant(8, Member("PyDictKeyEntry", "me_value"), 16),
    constant(11, Size("PyDictUnicodeEntry"), 16),
    constant(11, Member("PyDictUnicodeEntry", "me_key"), 0),
    constant(11, Member("PyDictUnicodeEntry", "me_value"), 8),
    // `Image::method`
    constant(8, Size("PyMethodDef"), 32),
    constant(8, Member("PyMethodDef", "ml_name"), 0),
    constant(8, Member("PyMethodDef", "ml_meth"), 8),
    constant(8, Member("PyMethodDef", "ml_doc"), 24),
    // `tstate_slot`
    constant(8, Member("Py_tss_t", "_is_initialized"), 0),
    constant(8, Member("Py_tss_t", "_key"), 4),
];
