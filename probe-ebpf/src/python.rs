//! The structures of each CPython version.
//!
//! [`Layout`] is all knowledge of an interpreter version, as a value: once it is chosen, no code asks
//! for a version. Offsets are in bytes.

pub mod attribute;
pub mod coroutine;
// Userspace reads them from a file.
#[cfg(not(target_arch = "bpf"))]
pub mod debug_offsets;
pub mod exception;
pub mod fields;
pub mod frame;
pub mod instruction;
pub mod names;
pub mod tables;
#[cfg(test)]
pub(crate) mod test_heap;

use crate::memory::{Fault, Memory};

/// Offsets and quirks of one interpreter build; value of the `LAYOUTS` map.
///
/// Struct names in the comments are CPython's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `PyThreadState` → the word that leads to the running frame.
    pub tstate_frame: u32,
    /// Where that word points to a `_PyCFrame` (3.11, 3.12): offset of
    /// `current_frame` in it; [`DIRECT`] where the word is the frame itself.
    pub cframe_frame: u32,
    /// Frame → its code object.
    pub frame_code: u32,
    /// Frame → the calling frame.
    pub frame_back: u32,
    /// Frame → first local variable.
    pub frame_localsplus: u32,
    /// `PyFunctionObject` → `func_code`.
    pub function_code: u32,
    /// `PyCodeObject` → `co_names`, a tuple of the names its code uses.
    pub code_names: u32,
    /// `PyTypeObject` → `tp_mro`, a tuple of classes.
    pub type_mro: u32,
    /// `PyCodeObject` → `co_filename`.
    pub code_filename: u32,
    /// `PyCodeObject` → `co_name`.
    pub code_name: u32,
    /// `PyCodeObject` → `co_qualname`; [`DIRECT`] before 3.11, which lacks it.
    pub code_qualname: u32,
    /// `PyASCIIObject` → length in characters.
    pub str_length: u32,
    /// `PyASCIIObject` → `state` bit field.
    pub str_state: u32,
    /// `PyASCIIObject` → data of a compact ASCII string.
    pub str_ascii: u32,
    /// `PyCompactUnicodeObject` → data of a compact string that is not ASCII, of any width.
    pub str_latin1: u32,
    /// `PyObject` → `ob_type`.
    pub object_type: u32,
    /// `PyTypeObject` → `tp_name`.
    pub type_name: u32,
    /// `PyHeapTypeObject` → `ht_cached_keys`.
    pub type_cached_keys: u32,
    /// `PyDictKeysObject` → `dk_indices`, which the entries follow.
    pub keys_indices: u32,
    /// `PyDictKeysObject` → `dk_size`, the number of indices, whose width follows
    /// from it; [`DIRECT`] from 3.11 on.
    pub keys_size: u32,
    /// `PyDictKeysObject` → `dk_log2_index_bytes`; [`DIRECT`] before 3.11.
    pub keys_log2_index_bytes: u32,
    /// `PyDictKeysObject` → `dk_kind`: 0 for entries of three words, else two;
    /// [`DIRECT`] before 3.11, where all entries have three.
    pub keys_kind: u32,
    /// `PyDictKeysObject` → `dk_nentries`.
    pub keys_nentries: u32,
    /// An [`InlineValues`]: where instances keep their attributes.
    pub inline_values: u32,
    /// `PyThreadState` → `thread_id` (the thread pointer, on glibc).
    pub tstate_thread_id: u32,
    /// `PyThreadState` → `native_thread_id`; [`DIRECT`] before 3.11.
    pub tstate_native_thread_id: u32,
    /// `PyThreadState` → `next`.
    pub tstate_next: u32,
    /// `PyInterpreterState` → first `PyThreadState`.
    pub interp_threads: u32,
    /// `PyInterpreterState` → `next`; the main interpreter is the last.
    pub interp_next: u32,
    /// `PyInterpreterState` → `sysdict`, the names of the `sys` module.
    pub interp_sysdict: u32,
    /// `_PyRuntime` → `ceval.gil`, the GIL itself; [`DIRECT`] from 3.12 on.
    pub runtime_gil: u32,
    /// `PyInterpreterState` → `ceval.gil`, which points to it; [`DIRECT`] before 3.12.
    pub interp_gil: u32,
    /// `_PyRuntime` → `interpreters.head`.
    pub runtime_interpreters: u32,
    /// `_PyRuntime` → the pthread key of the thread state (`autoTSSkey._key`);
    /// [`DIRECT`] in 3.13 and 3.14, which do not publish it; [`THREAD_LOCAL`] from 3.15 on.
    pub runtime_tss_key: u32,
    /// `PyTypeObject` → `tp_dict`.
    pub type_dict: u32,
    /// `PyTypeObject` → `tp_flags`.
    pub type_flags: u32,
    /// `PyTypeObject` → `tp_basicsize`.
    pub type_basicsize: u32,
    /// `PyDictObject` → `ma_keys`.
    pub dict_keys: u32,
    /// `PyDictObject` → `ma_values`.
    pub dict_values: u32,
    /// `PyLongObject` → size word (`ob_size`, or `lv_tag` from 3.12).
    pub int_size: u32,
    /// How far the size word is shifted: 0, or 3 from 3.12.
    pub int_size_shift: u32,
    /// `PyLongObject` → first digit.
    pub int_digits: u32,
    /// `PyTupleObject` → first item.
    pub tuple_items: u32,
    /// `PyVarObject` → `ob_size`, of tuples and lists.
    pub var_size: u32,
    /// `PyListObject` → `ob_item`, the pointer to its items.
    pub list_items: u32,
    /// Attribute values block (`PyDictValues`) → first value.
    pub values_first: u32,
    /// `PyTypeObject` → `tp_base`.
    pub type_base: u32,
    /// `PyTypeObject` → `tp_dictoffset`.
    pub type_dictoffset: u32,
    /// Frame → the module's globals.
    pub frame_globals: u32,
    /// `PyFrameObject` → `f_frame`, its frame; [`DIRECT`] up to 3.10, where the object is the frame.
    pub frame_object_frame: u32,
    /// `PyThreadState` → `exc_info`, the innermost handled exception.
    pub tstate_exc_info: u32,
    /// `PyThreadState` → the raised exception: from 3.12 on `current_exception`, before
    /// `curexc_type`, a class, which `curexc_value` follows.
    pub tstate_raised: u32,
    /// `_PyErr_StackItem` → `exc_value`.
    pub handled_value: u32,
    /// `_PyErr_StackItem` → `previous_item`.
    pub handled_previous: u32,
    /// `PyBaseExceptionObject` → `traceback`.
    pub exception_traceback: u32,
    /// `PyBaseExceptionObject` → `context`.
    pub exception_context: u32,
    /// `PyBaseExceptionObject` → `cause`.
    pub exception_cause: u32,
    /// `PyBaseExceptionObject` → `suppress_context`, a byte.
    pub exception_suppress_context: u32,
    /// `PyTracebackObject` → `tb_next`.
    pub traceback_next: u32,
    /// `PyTracebackObject` → `tb_frame`.
    pub traceback_frame: u32,
    /// `PyThreadState` → `interp`, its interpreter.
    pub tstate_interp: u32,
    /// Frame → its current instruction: `f_lasti`, an `int`, up to 3.10; then a pointer,
    /// `prev_instr` in 3.11 and 3.12 and `instr_ptr` from 3.13 on.
    pub frame_instruction: u32,
    /// `PyCodeObject` → `co_firstlineno`, an `int`.
    pub code_first_line: u32,
    /// `PyCodeObject` → its line table, a `bytes` object: `co_lnotab` in 3.8 and 3.9, then
    /// `co_linetable`.
    pub code_lines: u32,
    /// `PyCodeObject` → `co_code_adaptive`, its first instruction; [`DIRECT`] before 3.11.
    pub code_instructions: u32,
    /// `PyBytesObject` → `ob_sval`; its length is at `var_size`.
    pub bytes_data: u32,
    /// A [`LineTable`]: format of the bytes at `code_lines`.
    pub line_table: u32,
    /// 1 if a `finally` block has code of its own for the way out without an exception.
    pub has_own_calm_end: u32,
    /// `PyCodeObject` → a tuple of the names of its variables, in the order of their slots:
    /// `co_varnames` up to 3.10, which lacks cells; then `co_localsplusnames`.
    pub code_variables: u32,
    /// `PyCodeObject` → `co_cellvars`, whose slots follow those of `co_varnames`; [`DIRECT`] from
    /// 3.11 on.
    pub code_cells: u32,
    /// `PyCodeObject` → `co_freevars`, whose slots follow those of `co_cellvars`; [`DIRECT`] from
    /// 3.11 on.
    pub code_free: u32,
    /// `PyCodeObject` → `co_code`, a `bytes` object; [`DIRECT`] from 3.11 on.
    pub code_bytes: u32,
    /// `PyGenObject`, also that of a coroutine → its frame: `gi_frame`, a pointer, up to 3.10; then
    /// `gi_iframe`, the frame itself.
    pub generator_frame: u32,
    /// `PyGenObject` → `gi_frame_state`, a byte; [`DIRECT`] before 3.11.
    pub generator_state: u32,
    /// A [`coroutine::Suspension`]: how a suspended frame refers to what it awaits.
    pub suspension: u32,
    /// Frame → `f_valuestack`, a pointer to the bottom of its stack; [`DIRECT`] from 3.11 on.
    pub frame_stack: u32,
    /// Frame → the top of its stack: `f_stacktop`, a pointer, in 3.8 and 3.9; `f_stackdepth`, an
    /// `int`, in 3.10; `stacktop`, an `int`, up to 3.13; then `stackpointer`.
    pub frame_stack_top: u32,
    /// `PySetObject` → `table`, a pointer to its entries.
    pub set_table: u32,
    /// `PySetObject` → `mask`, the number of its entries less one.
    pub set_mask: u32,
}

/// Marks a thread state in a thread-local variable instead of a thread-specific value
/// (`Python/pystate.c` of 3.15, `_Py_tss_gilstate`).
pub const THREAD_LOCAL: u32 = u32::MAX - 1;

/// Marks an offset that this version does not have.
pub const DIRECT: u32 = u32::MAX;

/// The lowest bits of a frame's references are tags from 3.14 on, and zero before
/// (`Include/internal/pycore_stackref.h`; a null reference is tagged, too).
pub(crate) const REFERENCE_TAGS: u64 = 3;

/// Where instances keep their attributes.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InlineValues {
    /// A `dict` at `tp_dictoffset` (up to 3.10).
    Dict = 0,
    /// 3.11: values pointer 32 bytes before the object, else a dict 24 before.
    Before32 = 1,
    /// 3.12: one tagged word 24 bytes before: values − 1, which is odd, or a dict.
    Tagged24 = 2,
    /// 3.13+: a dict 24 bytes before, else values behind the object's own fields.
    Trailing = 3,
}

/// Format of a code object's line table.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineTable {
    /// `co_lnotab`, pairs of steps (3.8 and 3.9, `Objects/lnotab_notes.txt`).
    Lnotab = 0,
    /// `co_linetable`, pairs of ranges (3.10, `Objects/lnotab_notes.txt`).
    Ranges = 1,
    /// `co_linetable`, entries of variable length (from 3.11 on, `Objects/locations.md`, later
    /// `InternalDocs/code_objects.md`).
    Locations = 2,
}

impl Layout {
    /// The running frame of a thread.
    ///
    /// # Errors
    /// [`Fault`] when the thread state cannot be read.
    #[inline(always)]
    pub fn current_frame<M: Memory>(&self, mem: &M, tstate: u64) -> Result<u64, Fault> {
        let frame = mem.word(tstate.wrapping_add(u64::from(self.tstate_frame)))?;
        if self.cframe_frame == DIRECT {
            return Ok(frame);
        }
        mem.word(frame.wrapping_add(u64::from(self.cframe_frame)))
    }

    /// Whether the compiler copies a `finally` block for the way out without an exception: from 3.9 on
    /// (`Python/compile.c`, `compiler_try_finally`).
    #[inline(always)]
    #[must_use]
    pub fn has_own_calm_end(&self) -> bool {
        self.has_own_calm_end != 0
    }

    /// Address, number and width in bytes of the characters of a compact `str`.
    /// `PyASCIIObject.state` has the width in bits 2 to 4 and the ASCII flag in bit 6
    /// (`Include/cpython/unicodeobject.h`).
    ///
    /// # Errors
    /// [`Fault`] when the string cannot be read.
    #[inline(always)]
    pub fn str_parts<M: Memory>(&self, mem: &M, object: u64) -> Result<(u64, u64, u64), Fault> {
        let state = mem.word(object.wrapping_add(u64::from(self.str_state)))?;
        let length = mem.word(object.wrapping_add(u64::from(self.str_length)))?;
        let data = if state >> 6 & 1 == 1 {
            self.str_ascii
        } else {
            self.str_latin1
        };
        Ok((object.wrapping_add(u64::from(data)), length, state >> 2 & 7))
    }

    /// Address and number of the characters of a `str`, if they are one byte wide.
    ///
    /// # Errors
    /// [`Fault`] when the string cannot be read or is wider.
    #[inline(always)]
    pub fn narrow_str<M: Memory>(&self, mem: &M, object: u64) -> Result<(u64, u64), Fault> {
        match self.str_parts(mem, object)? {
            (data, length, 1) => Ok((data, length)),
            _ => Err(Fault),
        }
    }

    /// The code object of a frame. A frame that only marks the border to C has another object here,
    /// from 3.12 on, or nothing.
    ///
    /// # Errors
    /// [`Fault`] when the frame cannot be read.
    #[inline(always)]
    pub fn code<M: Memory>(&self, mem: &M, frame: u64) -> Result<u64, Fault> {
        Ok(mem.word(frame.wrapping_add(u64::from(self.frame_code)))? & !REFERENCE_TAGS)
    }

    /// The object a local variable of a frame refers to; 0 while it is unbound.
    ///
    /// # Errors
    /// [`Fault`] when the frame cannot be read.
    #[inline(always)]
    pub fn local<M: Memory>(&self, mem: &M, frame: u64, slot: u32) -> Result<u64, Fault> {
        let at = frame.wrapping_add(u64::from(self.frame_localsplus) + u64::from(slot) * 8);
        Ok(mem.word(at)? & !REFERENCE_TAGS)
    }
}
