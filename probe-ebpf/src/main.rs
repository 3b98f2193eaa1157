//! The eBPF programs of gunicorn-observer, one file a probe family:
//!
//! - `process`: fork, exec, exit: which processes are observed
//! - `socket`, `read`, `write`: accept and close, the bytes of a request, those of its response
//! - `collection`: CPython's cyclic garbage collector begins and ends
//! - `gil`: threads wait for CPython's global interpreter lock
//! - `request`: `datetime.now` in Gunicorn's code: its entry, exit and failure
//! - `exception`: what went wrong in it
//! - `signal`: signals to masters and workers; `stack`: where one is when it gets `SIGABRT`
//!
//! beside what they share: `conn`, `call`, `maps`, `memory`, `offsets`, `emit`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod bpf;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    unreachable!("built for the BPF target only, by the build script of the observer")
}
