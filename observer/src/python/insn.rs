//! Where in a function a uprobe is cheap.
//!
//! The kernel emulates a few instructions and single-steps all others, which
//! costs ten times as much (`arch/x86/kernel/uprobes.c`, `branch_setup_xol_ops`
//! and `push_setup_xol_ops`).

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

/// How far from the entry is looked.
const WINDOW_BYTES: usize = 64;
/// How much of the function is searched for jumps back to the place.
pub const FUNCTION_BYTES: u64 = 4096;

/// Where to put a probe that shall fire once whenever the function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Bytes from the function's entry.
    pub offset: u64,
    /// Whether the kernel emulates the instruction there.
    pub emulated: bool,
}

impl Placement {
    const ENTRY: Self = Self {
        offset: 0,
        emulated: false,
    };
}

/// Chooses the first instruction that the kernel emulates among those that every
/// call executes exactly once; else the entry. `code` begins at the entry, and
/// may go beyond the function's end.
#[must_use]
pub fn place(code: &[u8]) -> Placement {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() && decoder.position() < WINDOW_BYTES {
        decoder.decode_out(&mut instruction);
        let at = instruction.ip();
        let bytes = usize::try_from(at)
            .ok()
            .and_then(|at| code.get(at..))
            .unwrap_or_default();
        if is_emulated(&instruction, bytes) && !is_jumped_to(code, at) {
            return Placement {
                offset: at,
                emulated: true,
            };
        }
        if instruction.flow_control() != FlowControl::Next {
            break;
        }
    }
    Placement::ENTRY
}

fn is_emulated(instruction: &Instruction, bytes: &[u8]) -> bool {
    if instruction.is_invalid() {
        return false;
    }
    match instruction.code() {
        // Only without a prefix, or with the one that means r8 to r15.
        Code::Push_r64 => {
            matches!(bytes, [0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..])
        }
        Code::Nopd => bytes.first() == Some(&0x90),
        Code::Call_rel32_64 => bytes.first() == Some(&0xe8),
        Code::Jmp_rel32_64 => bytes.first() == Some(&0xe9),
        Code::Jmp_rel8_64 => bytes.first() == Some(&0xeb),
        _ => match bytes {
            // Conditional jumps; those with a prefix may be 16-bit ones, which are refused.
            [0x70..=0x7f, ..] | [0x0f, 0x80..=0x8f, ..] => true,
            _ => false,
        },
    }
}

/// Whether a jump may lead back to `target`, so that one call passes it twice.
/// What follows the function is searched too: that can only refuse a good place.
fn is_jumped_to(code: &[u8], target: u64) -> bool {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
        .into_iter()
        .any(|instruction| {
            instruction.op_count() > 0
            && instruction.op0_kind() == OpKind::NearBranch64
            && instruction.flow_control() != FlowControl::Call
            // A jump to the entry is a call from another place, or the function's own tail.
            && (1..=target).contains(&instruction.near_branch_target())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_emulated_instruction_of_each_prologue_is_chosen() {
        let cases: [(&str, &[u8], u64, bool); 10] = [
            // 3.11.7, `_datetime` module: push %r13; push %r12; push %rbp
            ("push r13", &[0x41, 0x55, 0x41, 0x54, 0x55], 0, true),
            (
                "endbr64; push rbp",
                &[0xf3, 0x0f, 0x1e, 0xfa, 0x55],
                4,
                true,
            ),
            (
                "sub rsp; call",
                &[0x48, 0x83, 0xec, 0x28, 0xe8, 1, 0, 0, 0],
                4,
                true,
            ),
            (
                "lea; mov; jne",
                &[0x48, 0x8d, 0x41, 0xff, 0x48, 0x89, 0xc3, 0x75, 4],
                7,
                true,
            ),
            (
                "push fs:: a prefix",
                &[0x64, 0x55, 0x48, 0x89, 0xe5, 0xc3],
                0,
                false,
            ),
            ("nop with 66", &[0x66, 0x90, 0x90], 2, true),
            ("jump out through a register", &[0xff, 0xe0, 0x55], 0, false),
            ("ret before a push", &[0xc3, 0x55], 0, false),
            ("not code", &[0x06, 0x55], 0, false),
            ("nothing", &[], 0, false),
        ];
        for (name, code, offset, emulated) in cases {
            assert_eq!(place(code), Placement { offset, emulated }, "{name}");
        }
    }

    #[test]
    fn an_instruction_that_a_loop_repeats_is_not_chosen() {
        // xor eax,eax; L: inc eax; jne L; push rbp
        assert_eq!(
            place(&[0x31, 0xc0, 0xff, 0xc0, 0x75, 0xfc, 0x55]),
            Placement::ENTRY
        );
        // xor eax,eax; L: jne M; inc eax; jmp L; M: ret
        let code = [0x31, 0xc0, 0x75, 0x04, 0xff, 0xc0, 0xeb, 0xfa, 0xc3];
        assert_eq!(place(&code), Placement::ENTRY);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_place_within_them(code: Vec<u8>) {
            let place = place(&code);
            proptest::prop_assert!(place.offset == 0 || place.offset < code.len() as u64);
        }
    }
}
