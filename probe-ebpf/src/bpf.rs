#![allow(
    clippy::cast_possible_truncation,
    reason = "system call arguments are registers whose low half counts; lengths are bounded first"
)]

mod emit;
mod exception;
mod gc;
mod gil;
mod kernel;
mod maps;
mod memory;
mod offsets;
mod pieces;
mod process;
mod request;
mod signal;
mod socket;
mod stack;
mod syscalls;
mod task;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel offers some helpers to programs of a GPL-compatible licence only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
