//! Server-Sent Events, as a worker writes them.

use crate::branchless::{all_if_zero, choose};

/// Bytes that [`begins_event`] needs: the size of a chunk and the name of a field.
pub const EVENT_BYTES: usize = 12;

/// Whether bytes begin a Server-Sent Event or a comment, in a chunk or by themselves (HTML standard,
/// "Interpreting an event stream").
#[inline(always)]
#[must_use]
pub fn begins_event(start: &[u8; EVENT_BYTES]) -> bool {
    const fn field(name: &[u8]) -> (u64, u64) {
        let (mut letters, mut mask, mut at) = (0, 0, 0);
        while at < name.len() {
            letters |= (name[at] as u64) << (at * 8);
            mask |= 0xff << (at * 8);
            at += 1;
        }
        (letters, mask)
    }
    const FIELDS: [(u64, u64); 5] = [
        field(b"data:"),
        field(b"event:"),
        field(b"id:"),
        field(b"retry:"),
        field(b":"),
    ];
    const LINE_END: u64 = u16::from_le_bytes(*b"\r\n") as u64;
    let [a, b, c, d, e, f, g, h, rest @ ..] = *start;
    let first = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let rest = u64::from(u32::from_le_bytes(rest));
    // Without branches: the verifier would walk both ways for each. Bits before the field: none, or
    // those of one to four digits and the end of their line.
    let mut before = 0;
    for digits in 1..5 {
        let is_end = all_if_zero(first >> (digits * 8) & 0xffff ^ LINE_END);
        before = choose(is_end, (digits + 2) * 8, before);
    }
    let word = first >> before | rest << 8 << (56 - before);
    let mut found = 0;
    for (letters, mask) in FIELDS {
        found |= all_if_zero((word ^ letters) & mask);
    }
    found != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_known_by_their_first_field() {
        let begins = |text: &str| begins_event(text.as_bytes().first_chunk().unwrap());
        for text in [
            "data: 12\n\n..",
            "c\r\ndata: 12\n",
            "1f\r\nevent: x",
            "10f\r\nid: 77\n",
            "10f2\r\ndata:x",
            "4\r\n: ok\n\r\n..",
            ":heartbeat\n\n",
            "retry: 100\n\n",
        ] {
            assert!(begins(text), "{text:?}");
        }
        for text in [
            "datum: 12\n\n.",
            "c\r\n{\"data\": 1",
            "c\ndata: 12\n..",
            "10f23\r\ndata:",
            "<html><body>.",
            "\0\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            assert!(!begins(text), "{text:?}");
        }
    }
}
