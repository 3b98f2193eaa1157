//! What the programs in the kernel read of requests and responses: byte by byte, as it comes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_ebpf::{event_stream, http};

fuzz_target!(|bytes: &[u8]| {
    let piece = &bytes[..bytes.len().min(http::SCAN_BYTES)];
    let mut window = http::Window {
        len: piece.len() as u32,
        bytes: [b'\n'; http::SCAN_BYTES],
    };
    window.bytes[..piece.len()].copy_from_slice(piece);
    let end = http::HeadScan::default().scan(&window);
    let expected = piece.windows(4).position(|four| four == http::HEAD_END);
    assert_eq!(end as usize, expected.map_or(0, |at| at + 4));
    for alone in [0, window.len] {
        let mut head = http::ResponseHead::default();
        head.scan(&window, alone);
        assert!(head.bytes <= window.len);
    }
    let _ = bytes.first_chunk().map(event_stream::begins_event);
    if let Some(line) = bytes.first_chunk() {
        assert!(http::status(line).is_none_or(|status| status < 1000));
    }
    let _ = bytes.first_chunk().map(|start| http::is_bodiless(*start));
    let _ = bytes
        .first_chunk()
        .map(|start| http::begins_request(*start));
});
