//! A file that a process has mapped, however damaged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::process::{elf, maps};

fuzz_target!(|bytes: &[u8]| {
    let _ = elf::exports(bytes, &["_PyRuntime", "Py_GetVersion"]);
    let Ok(image) = elf::Image::parse(bytes) else {
        return;
    };
    if let Some(address) = image.symbol("_PyRuntime") {
        let _ = (image.word(address), image.file_offset(address));
    }
    if let Ok(function) = image.method("now", "now($type") {
        // What is found is in the file.
        assert!(image.file_offset(function).is_some());
        let _ = image.bytes(function, 64);
    }
    let mappings = maps::parse(b"7f0000400000-7f0000401000 r-xp 0 0:0 1 /python3.11");
    let _ = image.load_bias(&mappings);
});
