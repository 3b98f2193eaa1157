//! Choices without branches: of a branch the verifier walks both ways, each time.

/// All bits set if `value` is 0, else none: a branch would make the verifier walk both ways.
#[inline(always)]
#[must_use]
pub fn all_if_zero(value: u64) -> u64 {
    // The compiler would make a branch of it.
    core::hint::black_box((value | value.wrapping_neg()) >> 63).wrapping_sub(1)
}

/// `new` where all bits of `which` are set, `old` where none is.
#[inline(always)]
#[must_use]
pub fn choose(which: u64, new: u64, old: u64) -> u64 {
    old & !which | new & which
}
