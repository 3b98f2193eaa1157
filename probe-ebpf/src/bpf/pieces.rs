//! The pieces of a write: an array of `struct iovec`.

use super::memory::User;
use probe_ebpf::machine::wire::Piece;
use probe_ebpf::memory::Memory as _;

/// Most pieces of one write that are added up. The size of a larger write is unknown before it
/// returns.
const MAX_PIECES: u64 = 16;

/// An element of an array of `struct iovec`.
#[inline(always)]
pub fn nth_piece(pieces: u64, n: u64) -> Option<Piece> {
    let at = pieces.wrapping_add(n.wrapping_mul(16));
    let base = User.word(at).ok()?;
    Some((base, User.word(at.wrapping_add(8)).ok()?))
}

/// The last piece, and the bytes of all pieces.
#[inline(always)]
pub fn sum_pieces(pieces: u64, count: u64) -> Option<(Piece, u64)> {
    if count > MAX_PIECES {
        return None;
    }
    let (mut last, mut total) = ((0, 0), 0_u64);
    for n in 0..MAX_PIECES {
        if n >= count {
            break;
        }
        last = nth_piece(pieces, n)?;
        total = total.wrapping_add(last.1);
    }
    Some((last, total))
}
