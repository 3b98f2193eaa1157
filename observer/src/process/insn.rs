//! Where in a function a uprobe is cheap.
//!
//! The kernel emulates a few instructions at the breakpoint itself and
//! single-steps a copy of all others, which costs ten times as much. Which
//! those are depends on the machine: [`x86_64`], [`aarch64`].
//!
//! The programs take nothing from a function's arguments: a place where they
//! are overwritten already is as good as the entry.

mod aarch64;
mod x86_64;

use super::elf::Machine;

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

    const fn emulated_at(offset: u64) -> Self {
        Self {
            offset,
            emulated: true,
        }
    }

    /// What it costs more than it should, for people to read. The figures are those of
    /// `cargo xtask bench placement`.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        (!self.emulated).then_some(
            "its probe is single-stepped: each hit, two a request, costs some 13 µs instead of 1.5",
        )
    }
}

/// Chooses the first instruction that the kernel emulates among those that every
/// call executes exactly once; else the entry. `code` begins at the entry, and
/// may go beyond the function's end.
#[must_use]
pub fn place(machine: Machine, code: &[u8]) -> Placement {
    let place = match machine {
        Machine::X86_64 => x86_64::place(code),
        Machine::Aarch64 => aarch64::place(code),
    };
    place.map_or(Placement::ENTRY, Placement::emulated_at)
}

/// Likewise, but before the function has done anything: else at the entry, whatever that costs.
/// For a program that reads what the function is about to change.
#[must_use]
pub fn place_first(machine: Machine, code: &[u8]) -> Placement {
    let untouched = match machine {
        Machine::X86_64 => x86_64::untouched(code),
        // Its functions begin by storing registers.
        Machine::Aarch64 => 0,
    };
    let place = place(machine, code);
    if place.offset <= untouched {
        place
    } else {
        Placement::ENTRY
    }
}

/// Every place where a function is left, when it is passed: its returns, and jumps to where
/// `is_within` says is no part of it. `code` is the whole function, at `address`.
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
