//! What the eBPF programs and userspace share.
//!
//! - [`abi`]: records of the ring buffer, values of the maps, counters
//! - [`http`]: parsing of request and response heads; [`event_stream`]: what is no ordinary response
//! - [`memory`]: reading another process, in the kernel and in userspace
//! - [`python`]: the structures of each CPython version
//! - [`machine`]: connections and requests, from the events of sockets and Python
//! - [`gunicorn`]: the code objects of a request's entry, exit and failure; [`coroutine`]: those of servers
//!   on event loops
#![no_std]
#![deny(unsafe_code)]

pub mod abi;
pub mod branchless;
pub mod coroutine;
pub mod event_stream;
pub mod gunicorn;
pub mod http;
pub mod machine;
pub mod memory;
#[cfg(feature = "user")]
mod pod;
pub mod python;
