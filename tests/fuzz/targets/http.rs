//! What the programs in the kernel read of requests and responses: byte by byte, as it comes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_ebpf::http;

fuzz_target!(|bytes: &[u8]| {
    let mut scan = http::HeadScan::default();
    let end = bytes.iter().find_map(|&byte| scan.push(byte));
    let expected = bytes.windows(4).position(|four| four == http::HEAD_END);
    assert_eq!(end.map(|end| end as usize), expected.map(|at| at + 4));
    if let Some(line) = bytes.first_chunk() {
        assert!(http::status(line).is_none_or(|status| status < 1000));
    }
    let _ = bytes.first_chunk().map(|start| http::is_bodiless(*start));
    let _ = bytes
        .first_chunk()
        .map(|start| http::begins_request(*start));
});
