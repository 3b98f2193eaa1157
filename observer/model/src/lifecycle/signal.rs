//! Numbers and names of signals on x86-64 and aarch64 (`asm-generic/signal.h`).

pub const HUP: u8 = 1;
pub const INT: u8 = 2;
pub const QUIT: u8 = 3;
pub const ABRT: u8 = 6;
pub const KILL: u8 = 9;
pub const USR1: u8 = 10;
pub const USR2: u8 = 12;
pub const TERM: u8 = 15;
pub const TTIN: u8 = 21;
pub const TTOU: u8 = 22;
pub const WINCH: u8 = 28;

const NAMES: [(u8, &str); 18] = [
    (HUP, "HUP"),
    (INT, "INT"),
    (QUIT, "QUIT"),
    (4, "ILL"),
    (5, "TRAP"),
    (ABRT, "ABRT"),
    (7, "BUS"),
    (8, "FPE"),
    (KILL, "KILL"),
    (USR1, "USR1"),
    (11, "SEGV"),
    (USR2, "USR2"),
    (TERM, "TERM"),
    (TTIN, "TTIN"),
    (TTOU, "TTOU"),
    (24, "XCPU"),
    (WINCH, "WINCH"),
    (31, "SYS"),
];

/// Its name without `SIG`.
#[must_use]
pub fn name(signal: u8) -> &'static str {
    let known = NAMES.iter().find(|(number, _)| *number == signal);
    known.map_or("other", |(_, name)| name)
}
