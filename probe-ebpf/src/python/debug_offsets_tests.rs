extern crate std;

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

/// The beginning of `_PyRuntime` in the files of 3.13.5, 3.14.10 and 3.15.2 as Debian builds them.
const DEBIAN: [(u8, &[u8]); 3] = [
    (13, include_bytes!("fixtures/debug_offsets_3.13.5")),
    (14, include_bytes!("fixtures/debug_offsets_3.14.10")),
    (15, include_bytes!("fixtures/debug_offsets_3.15.2")),
];

fn with_word(bytes: &[u8], word: usize, value: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[word * 8..][..8].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn each_version_publishes_the_offsets_of_its_fields() {
    let seen = DEBIAN.map(|(_, bytes)| {
        let layout = layout(bytes).unwrap();
        [
            layout.tstate_frame,
            layout.tstate_thread_id,
            layout.frame_code,
            layout.frame_back,
            layout.frame_localsplus,
            layout.runtime_interpreters,
            layout.interp_threads,
            layout.interp_sysdict,
            layout.interp_gil,
            layout.code_qualname,
            layout.type_cached_keys,
            layout.tuple_items,
            layout.str_latin1,
        ]
    });
    assert_eq!(
        seen,
        [
            [72, 152, 0, 8, 72, 632, 7344, 7640, 16, 128, 880, 24, 56],
            [72, 152, 0, 8, 80, 808, 7344, 7672, 16, 128, 880, 32, 56],
            [72, 176, 0, 8, 80, 936, 7336, 7576, 16, 128, 888, 32, 56],
        ]
    );
}

#[test]
fn each_version_publishes_the_offsets_of_its_line_tables() {
    let seen = DEBIAN.map(|(_, bytes)| {
        let layout = layout(bytes).unwrap();
        [
            layout.tstate_interp,
            layout.frame_instruction,
            layout.code_first_line,
            layout.code_lines,
            layout.code_instructions,
            layout.bytes_data,
        ]
    });
    assert_eq!(
        seen,
        [
            [16, 56, 68, 136, 200, 32],
            [16, 56, 68, 136, 208, 32],
            [16, 56, 68, 136, 208, 32],
        ]
    );
}

#[test]
fn each_version_publishes_the_offsets_of_its_coroutines() {
    let seen = DEBIAN.map(|(_, bytes)| {
        let layout = layout(bytes).unwrap();
        [
            layout.code_variables,
            layout.generator_frame,
            layout.generator_state,
            layout.frame_stack_top,
            layout.set_table,
            layout.set_mask,
        ]
    });
    assert_eq!(
        seen,
        [
            [96, 72, 67, 64, 40, 32],
            [96, 72, 67, 64, 40, 32],
            [96, 72, 67, 64, 40, 32],
        ]
    );
}

#[test]
fn an_unknown_version_and_a_free_threaded_build_are_refused_by_name() {
    let (_, bytes) = DEBIAN[1];
    let refused = |word, value| layout(&with_word(bytes, word, value)).unwrap_err();
    assert_eq!(refused(0, 0), OffsetsError::Missing);
    assert_eq!(
        refused(1, 0x0310_00a1),
        OffsetsError::OtherVersion {
            major: 3,
            minor: 16
        }
    );
    assert_eq!(refused(2, 1), OffsetsError::FreeThreaded);
    assert_eq!(layout(&bytes[..400]), Err(OffsetsError::Missing));
    assert_eq!(layout(&[]), Err(OffsetsError::Missing));
}

#[test]
fn an_offset_outside_its_structure_is_refused() {
    for (minor, bytes) in DEBIAN {
        let version = VERSIONS.iter().find(|v| v.minor == minor).unwrap();
        for published in version.published {
            // Any offset of a byte is aligned.
            let odd = (published.bytes > 1).then_some(3);
            for value in [u64::MAX, 1 << 33, 4097].into_iter().chain(odd) {
                let bytes = with_word(bytes, published.word, value);
                let word = published.word;
                assert_eq!(
                    layout(&bytes),
                    Err(OffsetsError::Impossible { word, value })
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn any_words_give_offsets_within_bounds_or_an_error(
        minor in 12_u64..17,
        words: Vec<u64>,
    ) {
        let mut bytes = COOKIE.to_vec();
        bytes.extend((minor << 16 | 3 << 24).to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(words.iter().flat_map(|word| (word % 0x200_0000).to_le_bytes()));
        if let Ok(layout) = layout(&bytes) {
            prop_assert!(u64::from(layout.interp_threads) < MAX_SIZE);
            prop_assert!(u64::from(layout.frame_localsplus) < MAX_SIZE);
        }
    }
}
