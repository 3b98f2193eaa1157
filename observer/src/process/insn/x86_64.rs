//! What the kernel emulates on x86-64: pushes of a register, one-byte `nop`, relative jumps and
//! calls (`arch/x86/kernel/uprobes.c`, `branch_setup_xol_ops` and `push_setup_xol_ops`).

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

use super::{Placement, WINDOW_BYTES};

/// A call of `__tls_get_addr` as the linker wants it, padded to be replaced ("ELF Handling For
/// Thread-Local Storage", 4.4.1): it returns, but for the prefixes the kernel does not take it.
const TLS_CALL: &[u8] = &[0x66, 0x66, 0x48, 0xe8];

/// The place of [`super::place`], if there is one.
pub fn place(code: &[u8]) -> Option<u64> {
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
            return Some(at);
        }
        if instruction.flow_control() != FlowControl::Next && !bytes.starts_with(TLS_CALL) {
            return None;
        }
    }
    None
}

/// Where the first instruction is that reads or writes memory, but for pushes, or leaves the
/// function.
pub fn untouched(code: &[u8]) -> u64 {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() && decoder.position() < WINDOW_BYTES {
        decoder.decode_out(&mut instruction);
        let mut operands = instruction.op_kinds();
        if instruction.flow_control() != FlowControl::Next
            || operands.any(|kind| kind == OpKind::Memory)
        {
            return instruction.ip();
        }
    }
    0
}

/// The places of [`super::ends`].
pub fn ends(address: u64, code: &[u8], is_within: impl Fn(u64) -> bool) -> Vec<Placement> {
    let leaves = |instruction: &Instruction| match instruction.flow_control() {
        FlowControl::Return => true,
        FlowControl::UnconditionalBranch => !is_within(instruction.near_branch_target()),
        _ => false,
    };
    Decoder::with_ip(64, code, address, DecoderOptions::NONE)
        .into_iter()
        .filter(leaves)
        .map(|instruction| {
            let offset = instruction.ip().wrapping_sub(address);
            let bytes = usize::try_from(offset).ok().and_then(|at| code.get(at..));
            // A return is not (`arch/x86/kernel/uprobes.c`, `branch_setup_xol_ops`).
            let emulated = matches!(bytes, Some([0xe9 | 0xeb, ..]));
            Placement { offset, emulated }
        })
        .collect()
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
    fn what_a_function_does_begins_with_the_first_access_to_memory() {
        // Debian's 3.14: endbr64; sub $0x58,%rsp; mov %rdi,%r11; mov %rbp,0x38(%rsp)
        let early = [
            0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x83, 0xec, 0x58, 0x49, 0x89, 0xfb, 0x48, 0x89, 0x6c,
            0x24, 0x38,
        ];
        assert_eq!(untouched(&early), 11);
        // pyenv's 3.12: push %r12; push %rbp; push %rbx; mov %rdi,%rbx; call
        let late = [0x41, 0x54, 0x55, 0x53, 0x48, 0x89, 0xfb, 0xe8, 1, 0, 0, 0];
        assert_eq!(untouched(&late), 7);
        assert_eq!(untouched(&[]), 0);
    }

    #[test]
    fn the_first_emulated_instruction_of_each_prologue_is_chosen() {
        let cases: &[(&str, &[u8], Option<u64>)] = &[
            // 3.11.7, `_datetime` module: push %r13; push %r12; push %rbp
            (
                "push r13",
                &[0x41, 0x55, 0x41, 0x54, 0x55, 0x48, 0x89, 0xd5],
                Some(0),
            ),
            // Debian's 3.11.2, in the executable: push %r12; push %rbp; push %rbx
            (
                "push r12",
                &[0x41, 0x54, 0x55, 0x53, 0x48, 0x89, 0xfb],
                Some(0),
            ),
            (
                "endbr64; push rbp",
                &[0xf3, 0x0f, 0x1e, 0xfa, 0x55],
                Some(4),
            ),
            (
                "sub rsp; call",
                &[0x48, 0x83, 0xec, 0x28, 0xe8, 1, 0, 0, 0],
                Some(4),
            ),
            (
                "lea; mov; jne",
                &[0x48, 0x8d, 0x41, 0xff, 0x48, 0x89, 0xc3, 0x75, 4],
                Some(7),
            ),
            (
                "push fs:: a prefix",
                &[0x64, 0x55, 0x48, 0x89, 0xe5, 0xc3],
                None,
            ),
            ("nop with 66", &[0x66, 0x90, 0x90], Some(2)),
            ("jump out through a register", &[0xff, 0xe0, 0x55], None),
            ("ret before a push", &[0xc3, 0x55], None),
            ("not code", &[0x06, 0x55], None),
            ("nothing", &[], None),
        ];
        for &(name, code, place_of) in cases {
            assert_eq!(place(code), place_of, "{name}");
        }
    }

    #[test]
    fn a_function_ends_where_it_returns_or_jumps_away() {
        // xor %eax,%eax; je +1; ret; jmp to the next; jmp 0x2000; ret $8
        let code = [
            0x31, 0xc0, 0x74, 0x01, 0xc3, 0xeb, 0x00, 0xe9, 0xf4, 0x0f, 0x00, 0x00, 0xc2, 8, 0,
        ];
        let is_within = |target| (0x1000..0x100f).contains(&target);
        let found: Vec<_> = ends(0x1000, &code, is_within)
            .iter()
            .map(|end| (end.offset, end.emulated))
            .collect();
        assert_eq!(found, [(4, false), (7, true), (12, false)]);
    }

    #[test]
    fn an_instruction_that_a_loop_repeats_is_not_chosen() {
        // xor eax,eax; L: inc eax; jne L; push rbp
        assert_eq!(place(&[0x31, 0xc0, 0xff, 0xc0, 0x75, 0xfc, 0x55]), None);
        // xor eax,eax; L: jne M; inc eax; jmp L; M: ret
        let code = [0x31, 0xc0, 0x75, 0x04, 0xff, 0xc0, 0xeb, 0xfa, 0xc3];
        assert_eq!(place(&code), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_place_within_them(code: Vec<u8>) {
            let place = place(&code);
            proptest::prop_assert!(place.is_none_or(|at| at < code.len() as u64));
        }
    }
}
