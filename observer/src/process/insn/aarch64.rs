//! What the kernel simulates on aarch64: branches, and addresses relative to the program counter
//! (`arch/arm64/kernel/probes/decode-insn.c`, `arm_probe_decode_insn`). Everything else is
//! single-stepped out of line or, as loads of literals, refused. Linux 6.13 simulates `nop` too;
//! before it is stepped, so it is not counted on.
//!
//! Encodings: Arm Architecture Reference Manual, C4.1 "A64 instruction set encoding". Nothing of
//! this was run on such a machine.

use super::{Placement, WINDOW_BYTES};

/// A group of instructions, told by some of their bits.
struct Group {
    mask: u32,
    value: u32,
    /// Where it may go on.
    then: Then,
}

/// Where an instruction may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Behind itself.
    Next,
    /// At a place told relative to itself: a signed count of words in `bits` bits from bit `from`.
    Relative { from: u32, bits: u32 },
    /// Elsewhere.
    Away,
}

const fn relative(mask: u32, value: u32, from: u32, bits: u32) -> Group {
    let then = Then::Relative { from, bits };
    Group { mask, value, then }
}

const fn group(mask: u32, value: u32, then: Then) -> Group {
    Group { mask, value, then }
}

const SIMULATED: &[Group] = &[
    // b
    relative(0xfc00_0000, 0x1400_0000, 0, 26),
    // b.cond
    relative(0xff00_0010, 0x5400_0000, 5, 19),
    // cbz, cbnz
    relative(0x7e00_0000, 0x3400_0000, 5, 19),
    // tbz, tbnz
    relative(0x7e00_0000, 0x3600_0000, 5, 14),
    // bl and blr: they come back, but behind them the call may be over
    group(0xfc00_0000, 0x9400_0000, Then::Away),
    group(0xffff_fc1f, 0xd63f_0000, Then::Away),
    // br, ret
    group(0xffff_fc1f, 0xd61f_0000, Then::Away),
    group(0xffff_fc1f, 0xd65f_0000, Then::Away),
    // adr, adrp
    group(0x1f00_0000, 0x1000_0000, Then::Next),
];

/// Instructions that are not simulated and do not go on behind themselves: branches with
/// authentication, exceptions, and what is not defined.
const BARRIERS: &[Group] = &[
    // other unconditional branches to a register
    group(0xfe00_0000, 0xd600_0000, Then::Away),
    // svc, brk, hlt and their like
    group(0xff00_0000, 0xd400_0000, Then::Away),
    // udf
    group(0xffff_0000, 0x0000_0000, Then::Away),
];

fn find(groups: &'static [Group], instruction: u32) -> Option<&'static Group> {
    groups
        .iter()
        .find(|group| instruction & group.mask == group.value)
}

/// The place of [`super::place`], if there is one.
pub fn place(code: &[u8]) -> Option<u64> {
    let window = code.get(..WINDOW_BYTES).unwrap_or(code);
    for (index, instruction) in instructions(window) {
        if find(SIMULATED, instruction).is_some() {
            let jumped_to = is_jumped_to(code, index);
            if !jumped_to {
                return u64::try_from(index * 4).ok();
            }
        }
        let then = [SIMULATED, BARRIERS]
            .into_iter()
            .find_map(|groups| find(groups, instruction))
            .map_or(Then::Next, |group| group.then);
        if then != Then::Next {
            return None;
        }
    }
    None
}

/// Every `ret` (C6.2 "RET"). A function left by a jump is not told from a loop.
pub fn returns(code: &[u8]) -> Vec<Placement> {
    instructions(code)
        .filter(|(_, instruction)| instruction & 0xffff_fc1f == 0xd65f_0000)
        .filter_map(|(index, _)| u64::try_from(index * 4).ok())
        .map(Placement::emulated_at)
        .collect()
}

fn instructions(code: &[u8]) -> impl Iterator<Item = (usize, u32)> {
    let words = code.as_chunks::<4>().0.iter();
    words.map(|word| u32::from_le_bytes(*word)).enumerate()
}

/// Whether a branch may lead back to the instruction at this index or one before it, so that one
/// call passes it twice. A branch to the entry is a call from elsewhere. What follows the function
/// is searched too: that can only refuse a good place.
fn is_jumped_to(code: &[u8], index: usize) -> bool {
    instructions(code).any(|(at, instruction)| {
        let Some(Then::Relative { from, bits }) =
            find(SIMULATED, instruction).map(|group| group.then)
        else {
            return false;
        };
        // Sign-extended: the count's highest bit moved to the word's, and back.
        let count = (instruction << (32 - from - bits)).cast_signed() >> (32 - bits);
        i64::try_from(at).is_ok_and(|at| {
            let target = at + i64::from(count);
            target >= 1 && usize::try_from(target).is_ok_and(|target| target <= index)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    const STP: u32 = 0xa9bf_7bfd; // stp x29, x30, [sp, #-16]!
    const MOV: u32 = 0xaa01_03e0; // mov x0, x1

    #[test]
    fn the_first_simulated_instruction_is_chosen() {
        let cases: &[(&str, u32)] = &[
            ("b +8", 0x1400_0002),
            ("bl", 0x97ff_ffff),
            ("b.ne +8", 0x5400_0041),
            ("cbz x3, +16", 0xb400_0083),
            ("cbnz w0, +8", 0x3500_0040),
            ("tbz w1, #3, +8", 0x3618_0041),
            ("tbnz x1, #40, +8", 0xb740_0041),
            ("adr x0, +4", 0x1000_0020),
            ("adrp x0, page", 0xb000_1f20),
            ("br x16", 0xd61f_0200),
            ("blr x2", 0xd63f_0040),
            ("ret", 0xd65f_03c0),
        ];
        for &(name, instruction) in cases {
            assert_eq!(place(&code(&[STP, MOV, instruction])), Some(8), "{name}");
        }
    }

    #[test]
    fn what_the_kernel_steps_or_refuses_is_not_chosen() {
        let cases: &[(&str, u32)] = &[
            ("bti c", 0xd503_245f),
            ("paciasp", 0xd503_233f),
            ("nop", 0xd503_201f),
            ("ldr x0, literal", 0x5800_0040),
            ("mrs x0, tpidr_el0", 0xd53b_d040),
            ("sub sp, sp, #80", 0xd101_43ff),
            ("stp", STP),
            // bit 4 of b.cond: bc.cond, which the kernel does not know
            ("bc.eq +8", 0x5400_0050),
        ];
        for &(name, instruction) in cases {
            let found = place(&code(&[instruction, MOV, 0xd65f_03c0]));
            assert_eq!(found, Some(8), "{name}");
        }
    }

    #[test]
    fn nothing_is_chosen_behind_what_does_not_go_on() {
        for (name, instruction) in [
            ("retaa", 0xd65f_0bff_u32),
            ("braaz x0", 0xd61f_081f),
            ("svc", 0xd400_0001),
            ("brk", 0xd420_0000),
            ("udf", 0),
        ] {
            assert_eq!(
                place(&code(&[MOV, instruction, 0x1400_0002])),
                None,
                "{name}"
            );
        }
        assert_eq!(place(&[]), None);
        assert_eq!(place(&[0xff, 0x43, 0x01]), None);
    }

    #[test]
    fn an_instruction_that_a_loop_repeats_is_not_chosen() {
        // L: sub; cbnz L (to index 1)
        assert_eq!(place(&code(&[STP, MOV, 0xb5ff_ffe0])), None);
        // a branch to the entry is the function calling itself
        assert_eq!(place(&code(&[STP, MOV, 0xb5ff_ffc0])), Some(8));
        // cbz away; … ; b back to it
        assert_eq!(place(&code(&[STP, 0xb400_0083, MOV, 0x17ff_fffe])), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_place_within_them(code: Vec<u8>) {
            let place = place(&code);
            proptest::prop_assert!(place.is_none_or(|at| at % 4 == 0 && at < code.len() as u64));
        }
    }
}
