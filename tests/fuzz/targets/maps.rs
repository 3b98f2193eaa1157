//! `/proc/<pid>/maps`, of which a process chooses the paths.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::{cpython::version, process::maps};

fuzz_target!(|bytes: &[u8]| {
    for mapping in maps::parse(bytes) {
        assert!(mapping.inode != 0);
        if let Some(named) = version::from_file_name(mapping.file_name()) {
            assert!(mapping.file_name().contains(named.version));
        }
    }
});
