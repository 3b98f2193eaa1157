use super::looks_only::check;
use super::*;
use crate::probe::features::{Hook, Program, programs};
use crate::probe::load::OBJECT;
use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use std::fs;

#[test]
fn only_the_root_of_all_control_groups_is_taken() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| fs::write(place.path().join(name), "").unwrap();
    assert!(!is_root(place.path()));
    file("cgroup.controllers");
    assert!(is_root(place.path()));
    file("cgroup.type");
    assert!(!is_root(place.path()));
}

#[test]
fn a_mount_of_the_host_is_found_below_its_root() {
    let unified = Path::new("/sys/fs/cgroup/unified");
    assert_eq!(below(Path::new("/"), unified), unified);
    let host = Path::new("/proc/1/root/sys/fs/cgroup/unified");
    assert_eq!(below(Path::new("/proc/1/root"), unified), host);
}

/// The bytes of instructions, as words: operation and registers, offset, immediate.
fn code(words: &[(u16, i16, i32)]) -> Vec<bpf_insn> {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|(operation, offset, immediate)| {
            let [operation, offset] = [operation.to_le_bytes(), offset.to_le_bytes()];
            [&operation[..], &offset, &immediate.to_le_bytes()].concat()
        })
        .collect();
    aya_obj::obj::copy_instructions(&bytes).unwrap()
}

const EXIT: (u16, i16, i32) = (0x95, 0, 0);
/// `r0 = …`
const RETURN_0: (u16, i16, i32) = (0xb7, 0, 0);
const RETURN_1: (u16, i16, i32) = (0xb7, 0, 1);

#[test]
fn a_program_that_looks_and_allows_passes() {
    for words in [
        vec![RETURN_1, EXIT],
        // Reads the context; both ways return 1: `r2 = *(r1 + 8); if r2 == 0 skip; r0 = 1`.
        vec![(0x1279, 8, 0), (0x0215, 1, 0), RETURN_1, RETURN_1, EXIT],
        // Keeps the context on the stack and reads it there: `*(r10 - 8) = r1; r3 = *(r10 - 8)`.
        vec![
            (0x1a7b, -8, 0),
            (0xa379, -8, 0),
            (0x3279, 0, 0),
            RETURN_1,
            EXIT,
        ],
        // `get_current_pid_tgid()` takes no argument, whatever is in `r1`.
        vec![(0x0085, 0, 14), RETURN_1, EXIT],
        // A call of its own function, which returns 1.
        vec![(0x1085, 0, 1), EXIT, RETURN_1, EXIT],
        // The constant by another register, in 32 bits: `w6 = 1; w0 = w6`.
        vec![(0x06b4, 0, 1), (0x60bc, 0, 0), EXIT],
    ] {
        assert_eq!(check(&code(&words)), Ok(()), "{words:x?}");
    }
}

#[test]
fn a_program_that_does_more_is_found() {
    for (words, what) in [
        (vec![RETURN_0, EXIT], "returns Constant(0)"),
        // `if r2 == 0 skip`, on one way 0.
        (
            vec![RETURN_1, (0x0215, 1, 0), RETURN_0, EXIT],
            "returns Other",
        ),
        // `*(r1 + 4) = 7`
        (vec![(0x0162, 4, 7), RETURN_1, EXIT], "stores through"),
        // `r2 = r1; r2 += 4; *(r2 + 0) = r3`
        (
            vec![
                (0x12bf, 0, 0),
                (0x0207, 0, 4),
                (0x3263, 0, 0),
                RETURN_1,
                EXIT,
            ],
            "stores through",
        ),
        // The same after the context was on the stack.
        (
            vec![
                (0x1a7b, -8, 0),
                (0xa379, -8, 0),
                (0x0362, 0, 7),
                RETURN_1,
                EXIT,
            ],
            "stores through",
        ),
        // An atomic addition to the context: `lock *(r1 + 0) += r2`.
        (vec![(0x21db, 0, 0), RETURN_1, EXIT], "stores through"),
        // In a function of its own.
        (
            vec![(0x1085, 0, 2), RETURN_1, EXIT, (0x0162, 4, 7), EXIT],
            "stores through",
        ),
        // `bpf_bind(ctx, …)`
        (vec![(0x0085, 0, 64), RETURN_1, EXIT], "calls the helper 64"),
        // `probe_read_kernel(ctx, …)`
        (
            vec![(0x0085, 0, 113), RETURN_1, EXIT],
            "hands the context to",
        ),
        (
            vec![(0x2085, 0, 5), RETURN_1, EXIT],
            "a function of the kernel",
        ),
    ] {
        let found = check(&code(&words)).unwrap_err();
        assert!(found.contains(what), "{words:x?}: {found}");
    }
}

/// Nothing to read in a build without the eBPF programs (`AYA_BUILD_SKIP`).
#[test]
fn the_programs_of_control_groups_only_look() {
    let Ok(mut object) = Object::parse(OBJECT) else {
        assert!(OBJECT.is_empty());
        return;
    };
    let sections = object.functions.keys().map(|&(section, _)| section);
    let sections = sections.collect();
    object.relocate_calls(&sections).unwrap();
    let programs = programs().map(|(_, program)| program);
    let of_control_groups =
        |it: &&Program| matches!(it.hook, Hook::ControlGroup(_) | Hook::SocketTail(_));
    for program in programs.filter(of_control_groups) {
        let found = object.programs.get(program.name).unwrap();
        let function = &object.functions[&found.function_key()];
        let looked = check(&function.instructions);
        assert_eq!(looked, Ok(()), "{}", program.name);
    }
}
