//! What an interpreter says of itself at the start of its `_PyRuntime`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_ebpf::python::debug_offsets;

fuzz_target!(|bytes: &[u8]| {
    let _ = debug_offsets::layout(bytes);
});
