//! Where in a function a uprobe is cheap.
//!
//! The kernel emulates a few instructions at the breakpoint and single-steps a copy of all others,
//! which takes ten times as long. Which ones depends on the machine: `x86_64`, `aarch64`.
//!
//! Most programs read no arguments: an instruction behind the entry is as good as the entry.

mod aarch64;
mod x86_64;

use super::elf::Machine;

/// Bytes from the entry that are searched.
const WINDOW_BYTES: usize = 64;
/// Bytes of the function that are searched for jumps back.
pub const FUNCTION_BYTES: u64 = 4096;

/// Where in a function a probe goes: it fires once a call.
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

    const fn emulated_at(offset: u64) -> Self {
        Self {
            offset,
            emulated: true,
        }
    }

    /// A warning if the probe is slow. The figures are those of `cargo xtask bench placement`.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        (!self.emulated).then_some(
            "its probe is single-stepped: each hit, two a request, takes about 13 µs instead of 1.5 µs",
        )
    }
}

/// The first instruction that the kernel emulates among those that every call executes exactly
/// once; else the entry. `code` begins at the entry, and may go beyond the function's end.
#[must_use]
pub fn place(machine: Machine, code: &[u8]) -> Placement {
    let place = match machine {
        Machine::X86_64 => x86_64::place(code),
        Machine::Aarch64 => aarch64::place(code),
    };
    place.map_or(Placement::ENTRY, Placement::emulated_at)
}

/// As [`place`], but before the function has any effect; else the entry, even if it is slow. For a
/// program that reads what the function changes.
#[must_use]
pub fn place_first(machine: Machine, code: &[u8]) -> Placement {
    let untouched = match machine {
        Machine::X86_64 => x86_64::untouched(code),
        // Functions begin with stores of registers.
        Machine::Aarch64 => 0,
    };
    let place = place(machine, code);
    if place.offset <= untouched {
        place
    } else {
        Placement::ENTRY
    }
}

/// Every instruction that leaves a function: returns, and jumps to addresses that are not
/// `is_within` it. `code` is the whole function, at `address`.
pub fn ends(
    machine: Machine,
    address: u64,
    code: &[u8],
    is_within: impl Fn(u64) -> bool,
) -> Vec<Placement> {
    match machine {
        Machine::X86_64 => x86_64::ends(address, code, is_within),
        Machine::Aarch64 => aarch64::returns(code),
    }
}

#[cfg(test)]
#[path = "insn/prologues.rs"]
mod prologues;
