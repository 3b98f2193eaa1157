//! The eBPF programs of gunicorn-observer, one file for each kind of probe:
//!
//! - `process`: fork, exec, exit: which processes are observed
//! - `socket`: connections and their bytes, as sockets report them; `syscalls`: where they do not
//! - `request`: `datetime.now` in Gunicorn's code: a request's entry, exit and failure
//! - `exception`: exceptions of requests, and deep capture
//! - `gc`: garbage collections; `gil`: waits for the global interpreter lock
//! - `signal`: signals to masters and workers; `stack`: Python stacks at `SIGABRT`
//!
//! They share `kernel`, `maps`, `memory`, `offsets` and `emit`. What an event makes of a connection and
//! its request is in the library, in `machine`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod bpf;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    unreachable!("built for the BPF target only, by the build script of the observer")
}
