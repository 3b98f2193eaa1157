//! A record of the ring buffer, and its journey through a record file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::ingest::decode;
use observer_model::input::Input;
use observer_model::{Settings, State};

fuzz_target!(|bytes: &[u8]| {
    let input = decode::input(bytes);
    match decode::decode(bytes) {
        Ok(_) => assert!(matches!(input, Input::Event(_))),
        Err(error) => assert!(matches!(input, Input::Malformed(what) if what == error.as_str())),
    }
    // Twice: the same exception, or request, may come again.
    let mut state = State::new(Settings::default());
    state.apply(&input);
    state.apply(&input);
    let _ = state.metrics_view(u64::MAX);
});
