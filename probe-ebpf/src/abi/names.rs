//! Names of classes and frames inside records.

use super::{CLASS_BYTES, FILE_BYTES, FUNCTION_BYTES, MODULE_BYTES};

/// Names of a class.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ClassNames {
    /// `tp_name`: UTF-8 up to a zero. The name of a C class begins with its module.
    pub name: [u8; CLASS_BYTES],
    /// `__module__`, ASCII or Latin-1.
    pub module: [u8; MODULE_BYTES],
    pub module_len: u8,
    pub reserved: [u8; 7],
}
const _: () = assert!(size_of::<ClassNames>() == 120);

impl ClassNames {
    /// Nothing read yet.
    pub const EMPTY: Self = Self {
        name: [0; CLASS_BYTES],
        module: [0; MODULE_BYTES],
        module_len: 0,
        reserved: [0; 7],
    };
}

/// Names of the code that a frame runs. A width is the number of bytes of each character.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FrameNames {
    /// Address of the frame; 0 for none.
    pub frame: u64,
    /// `__name__` of the globals, ASCII or Latin-1.
    pub module: [u8; MODULE_BYTES],
    /// End of `co_qualname`, before 3.11 of `co_name`.
    pub function: [u8; FUNCTION_BYTES],
    /// End of `co_filename`.
    pub file: [u8; FILE_BYTES],
    pub module_len: u8,
    pub function_len: u8,
    pub function_width: u8,
    pub file_len: u8,
    pub file_width: u8,
    pub reserved: [u8; 3],
}
const _: () = assert!(size_of::<FrameNames>() == 256);

impl FrameNames {
    /// Nothing read yet.
    pub const EMPTY: Self = Self {
        frame: 0,
        module: [0; MODULE_BYTES],
        function: [0; FUNCTION_BYTES],
        file: [0; FILE_BYTES],
        module_len: 0,
        function_len: 0,
        function_width: 0,
        file_len: 0,
        file_width: 0,
        reserved: [0; 3],
    };
}
